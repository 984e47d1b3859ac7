"""Tables and arrays from files that anybody may have written: the numbers that are in them, or one
line that says what is wrong."""

import numpy as np
import pytest

from diffgeo.data import Cloud
from diffgeo.errors import UsageError
from diffgeo.store.arrays import read_array

POINTS = [[0.5, 0.25], [0.25, 0.5]]


def written(folder, content: str | bytes, name: str = "a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "0.5,0.25\n0.25,0.5\n",
        "0.5,0.25\n0.25,0.5",
        "\ufeff0.5,0.25\n0.25,0.5\n",  # as Excel saves it
        "\ufeffx,y\n0.5,0.25\n0.25,0.5\n",
        "E,e\n0.5,0.25\n0.25,0.5\n",
        "x [m],y [\u00b5m]\n0.5,0.25\n0.25,0.5\n",
        "x1,x2\r\n0.5,0.25\r\n0.25,0.5\r\n",
        "x,y\r0.5,0.25\r0.25,0.5\r",
        "information,nanometres\n0.5,0.25\n0.25,0.5\n",  # no inf and no nan
        '"x","y, the other"\n"0.5","0.25"\n" 0.25", 0.5\n',
        "# made by numpy.savetxt\nx,y\n0.5,0.25 # the first\n\n0.25,0.5\n\n",
        "0.5,0.25 # the first\n0.25,0.5\n",
        "point #1,point #2\n5e-1,2.5E-1\n+0.25, .5\n",
    ],
)
def test_the_points_of_a_table(tmp_path, text):
    assert read_array(written(tmp_path, text), "data.file").tolist() == POINTS


@pytest.mark.parametrize("first", ["1e5,2", "inf,-Infinity", "nan,NaN", "-nan,inf"])
def test_a_first_row_of_numbers_is_a_point(tmp_path, first):
    """nan and inf are numbers: what is to be refused must not be taken for a name."""
    found = read_array(written(tmp_path, f"{first}\n3,4\n"), "data.file")
    assert found.shape == (2, 2) and found[1].tolist() == [3, 4]
    assert np.array_equal(found[0], [float(cell) for cell in first.split(",")], equal_nan=True)


def test_one_column_and_one_row(tmp_path):
    assert read_array(written(tmp_path, "1 # note\n2\n"), "data.file").tolist() == [[1.0], [2.0]]
    assert read_array(written(tmp_path, "x,y,z\n1,2,3"), "data.file").tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "it is empty"),
        ("\ufeff\n\n# nothing\n", "it is empty"),
        ("x,y\n", "it has no row of numbers"),
        ("0.5,y\n1,2\n", "line 1 holds 'y', which is no number"),
        ("x,0.25\n1,2\n", "line 1 holds 'x', which is no number"),
        ("x,nan\n1,2\n", "line 1 holds 'x', which is no number"),
        ("x,y\nu,v\n1,2\n", "line 2 holds 'u', which is no number"),
        ("1,2\n\n3,4 m\n", "line 3 holds '4 m', which is no number"),
        ("1,2\n3\n", "line 2 has 1 cell, the first has 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells, the first has 2"),
        ("x,y,z\n1,2\n", "line 2 has 2 cells, the first has 3"),
        ("1,2,\n3,4,\n", "line 1 lacks a number: '1,2,'"),
        ("1,2\n,4\n", "line 2 lacks a number: ',4'"),
        ("1,2\nNA,4\n", "line 2 lacks a number: 'NA,4'"),
        ("NA,NA\n1,2\n", "line 1 lacks a number: 'NA,NA'"),
        ("#N/A,1\n1,2\n", "line 1 holds #N/A, an error of a spreadsheet"),
        (",x,y\n0,1,2\n", "line 1 leaves a column without a name"),
        ("x,y,\n1,2,\n", "line 1 leaves a column without a name"),
        ("1;2\n3;4\n", "line 1 has semicolons between its cells: write commas"),
        ("x;y\n0,5;0,25\n", "line 2 has semicolons between its cells: write commas"),
        ("0,5\t0,25\n", "line 1 has tabs between its cells: write commas"),
        ("1 2\n3 4\n", "line 1 has spaces between its numbers: write commas"),
        ("1,2\n--,4\n", "line 2 holds '--', which is no number"),
        ("--,--\n1,2\n", "line 1 holds '--', which is no number"),
        ("0x10,1\n", "line 1 holds '0x10', which is no number"),
        (b"x,y\n1,2\n3,\xb5\n", "line 3 is not UTF-8 text: save it as UTF-8"),
        ("1,2\n".encode("utf-16"), "its text is UTF-16: save it as UTF-8"),
        (b"1,2\n3,4\0\n", r"line 2 holds '4\x00', which is no number"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, reason):
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        read_array(path, "data.file")
    line = str(refused.value)
    assert line.startswith(f"data.file={path} cannot be read as an array of numbers: {reason}")
    assert "\n" not in line


def test_arrays_are_their_numbers_in_any_order_of_bytes_and_axes(tmp_path):
    table = np.arange(6.0).reshape(3, 2) - 2
    for number, array in enumerate(
        (
            table,
            np.asfortranarray(table),
            table.astype(">f4"),
            table.astype("i2"),
            table.astype("e"),
        )
    ):
        np.save(tmp_path / f"{number}.npy", array)
        found = read_array(tmp_path / f"{number}.npy", "data.file")
        assert found.dtype == np.dtype("<f8") and found.flags.c_contiguous
        assert np.array_equal(found, table)


def test_the_array_of_an_archive_is_the_one_that_is_meant(tmp_path):
    """Not the first one, which depends on who wrote it."""
    path = tmp_path / "a.npz"
    other = np.full((4, 2), 7.0)
    for arrays in (
        {"anything": POINTS},
        {"labels": other, "samples": POINTS},
        {"first": other, "points": POINTS},
        {"more": other, "arr_0": POINTS},
    ):
        np.savez(path, **arrays)
        assert read_array(path, "data.file").tolist() == POINTS
    np.savez(path, x=other, y=other)
    with pytest.raises(UsageError, match="it holds the arrays x, y: call the one that is meant"):
        read_array(path, "data.file")
    np.savez(path)
    with pytest.raises(UsageError, match="it holds no array"):
        read_array(path, "data.file")


@pytest.mark.parametrize(
    "array, reason",
    [
        (np.array([{}], dtype=object), "it holds Python objects"),
        (np.array([True, False]), "it holds true and false"),
        (np.array(["1", "2"]), "it holds words"),
        (np.array([b"1", b"2"]), "it holds words"),
        (np.array([1j]), "it holds complex numbers"),
        (np.array(3.0), "it holds a single number"),
        (np.array(["2020-01-01"], "M8[D]"), "it holds datetime64"),
        (np.zeros(2, [("x", "f8"), ("y", "f8")]), "it holds \\[\\('x'"),
    ],
)
def test_arrays_that_are_no_numbers(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UsageError, match=f"cannot be read as an array of numbers: {reason}"):
            read_array(tmp_path / name, "data.file")


def test_files_that_are_no_arrays(tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros((9, 2)))
    whole = (tmp_path / "whole.npy").read_bytes()
    written(tmp_path, whole[:-20], "short.npy")
    written(tmp_path, b"", "empty.npy")
    written(tmp_path, b"PK\x03\x04", "torn.npz")
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, reason in (
        ("short.npy", "cannot be read as an array of numbers"),
        ("empty.npy", "cannot be read as an array of numbers"),
        ("torn.npz", "cannot be read as an array of numbers"),
        ("round.csv", "there is no such file"),
        ("folder.csv", "there is no such file"),
        ("a.txt", "is not a .npy, .npz or .csv file"),
    ):
        with pytest.raises(UsageError, match=reason) as refused:
            read_array(tmp_path / name, "data.file")
        assert "\n" not in str(refused.value)


def test_a_cloud_names_its_first_point_that_is_not_finite(tmp_path):
    """`inf,inf` in a first line is a point, which is refused, and no name, which was skipped."""
    path = written(tmp_path, "0.5,0.25\ninf,inf\n0.25,nan\n")
    with pytest.raises(UsageError, match=r"2 points of the cloud are not finite, number 1 \(from"):
        Cloud(file=str(path))


def test_a_quotation_mark_amid_a_cell_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\n"1","2"\n"1"2,3\n')
    with pytest.raises(UsageError, match="line 3 has a quotation mark amid a cell"):
        read_array(tmp_path / "a.csv", "samples")


def test_a_header_that_claims_more_than_the_file_holds_asks_for_no_memory(tmp_path):
    whole = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**12,), }".replace(
        b"10**12", b"1000000000000"
    )
    whole += b" " * (-(len(whole) + 11) % 64) + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(whole).to_bytes(2, "little") + whole
    )
    with pytest.raises(UsageError, match="it is shorter than its header says"):
        read_array(tmp_path / "a.npy", "samples")
