"""The reader of strangers' tables and arrays: it gives the numbers that are in the file, or a
UsageError of one line, and takes little more memory than the file is long."""

import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import assume, example
from hypothesis import strategies as st
from reader_properties import both, file_of, little_memory
from strangers import payload

from diffgeo.errors import UsageError
from diffgeo.store.arrays import read_array


def array_in(held: bytes, name: str) -> np.ndarray | None:
    """What `read_array` makes of these bytes; None where it refuses them in one line."""
    with file_of(held, name) as path, little_memory(len(held)):
        try:
            found = read_array(path, "samples")
        except UsageError as error:
            assert str(error).startswith("samples=") and "\n" not in str(error)
            return None
    assert found.dtype == np.float64 and found.ndim
    return found


# Tables.

NUMBER = st.floats(width=64)
NAMES = st.builds("{}{}".format, st.text("_ 2", max_size=2), st.text("xyzμ_ E", min_size=1))
NAMES = NAMES.filter(lambda name: any(letter.isalpha() for letter in name))
TABLE = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(NUMBER, min_size=width, max_size=width), min_size=1, max_size=8)
)


def is_number(cell: str) -> bool:
    """The model: Python's own reader of numbers."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


@both(TABLE, st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_a_table_is_read_back(table, mark, named, end, data):
    """Every number of a table, exactly, nan and inf among them, with a header or without, a mark in
    front, and whatever ends its lines."""
    lines = [",".join(repr(value) for value in row) for row in table]
    if named:
        row = st.lists(NAMES, min_size=len(table[0]), max_size=len(table[0]))
        names = data.draw(row.filter(lambda cells: not any(map(is_number, cells))))
        lines.insert(0, ",".join(names))
    text = end.join(lines) + data.draw(st.sampled_from(["", end, end + end]))
    found = array_in(b"\xef\xbb\xbf" * mark + text.encode(), "a.csv")
    assert found is not None and np.array_equal(found, np.array(table), equal_nan=True)


@both(TABLE, st.text("abx?-;/", min_size=1, max_size=4), st.data())
def test_half_a_row_of_numbers_is_refused_by_its_line(table, word, data):
    """Also in the first line, which is a header only where no cell of it is a number."""
    assume(not is_number(word))
    row = data.draw(st.integers(0, len(table) - 1))
    column = data.draw(st.integers(0, len(table[0]) - 1))
    assume(row or len(table[0]) > 1)
    cells = [[repr(value) for value in line] for line in table]
    cells[row][column] = word
    text = "\n".join(",".join(line) for line in cells)
    with file_of(text.encode(), "a.csv") as path:
        with pytest.raises(UsageError, match=f"line {row + 1}\\b"):
            read_array(path, "samples")


@both(st.text("0123456789.,-+eE \n\r\tnaif#\"';x", max_size=80))
@example("1,2\n3")
@example('"1,2\n3,4"')
@example('"1"2')
@example("1_0,2\n")
def test_any_text_is_a_table_of_its_own_numbers_or_refused(text):
    """Where something is read, every number of it stands in the text, and no line is lost."""
    found = array_in(text.encode(), "a.csv")
    if found is None:
        return
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [line.partition("#")[0] for line in lines]
    rows = [row for row in rows if row.strip()]
    assert len(found) in (len(rows), len(rows) - 1)
    if len(found) < len(rows):  # a header
        assert not any(is_number(cell.strip(' "')) for cell in rows[0].split(","))
    for row, values in zip(rows[len(rows) - len(found) :], found, strict=True):
        told = [float(cell.strip().strip('"')) for cell in row.split(",")]
        assert np.array_equal(told, values, equal_nan=True)


@both(st.binary(max_size=200), st.sampled_from(["a.csv", "a.npy", "a.npz"]))
def test_any_bytes_are_an_array_or_refused(held, name):
    array_in(held, name)


# Arrays.

SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)
TYPES = st.sampled_from(["<f8", ">f8", "<f4", "<f2", "u1", "<i8", ">i2"])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@both(SHAPES, TYPES, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_an_array_is_read_back(shape, kind, seed, columns, archived):
    random = np.random.default_rng(seed)
    array = random.integers(0, 99, shape).astype(kind, order="F" if columns else "C")
    file = io.BytesIO()
    np.savez(file, array) if archived else file.write(npy(array))
    found = array_in(file.getvalue(), "a.npz" if archived else "a.npy")
    assert found is not None and found.shape == shape and np.array_equal(found, array)


@both(
    st.sampled_from(["(10**12,)", "(1000000000000,)", "(2, 2)", "(-1,)", "(3,)", "()", "(True,)"]),
    st.sampled_from(["<f8", "|O", "<c16", "|V8", "<U4", "nosuch", "|b1", "<M8[s]"]),
    st.binary(max_size=64),
    st.sampled_from(["False", "True", "None", "__import__('os')"]),
)
def test_a_header_that_lies_is_refused(shape, kind, held, order):
    """It claims more than the file holds, or what is no number."""
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + held
    found = array_in(whole, "a.npy")
    if found is not None:
        assert kind == "<f8" and found.tobytes() == held[: found.nbytes]


@both(st.integers(0, 2**32 - 1), st.data())
def test_a_damaged_archive_is_refused(seed, data):
    """A .npz file of which any byte is another gives the array, or nothing."""
    array = np.random.default_rng(seed).normal(size=(3, 2))
    file = io.BytesIO()
    np.savez(file, array)
    held = bytearray(file.getvalue())
    place = data.draw(st.integers(0, len(held) - 1))
    held[place] ^= 1 << data.draw(st.integers(0, 7))
    found = array_in(bytes(held), "a.npz")
    assert found is None or np.array_equal(found, array)


def test_an_archive_does_not_unfold(tmp_path):
    """What claims a gigabyte and unfolds to a megabyte is refused."""
    path = tmp_path / "a.npz"
    head = npy(np.zeros((0, 2))).replace(b"(0, 2), }   ", b"(67108864, 2), }")[:128]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", head + bytes(1 << 20))
    with pytest.raises(UsageError):
        read_array(path, "samples")


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.npz"])
def test_nothing_is_unpickled(tmp_path, name):
    assert array_in(payload(tmp_path), name) is None and not os.listdir(tmp_path)
