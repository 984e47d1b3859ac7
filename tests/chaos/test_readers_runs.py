"""The readers of strangers' overrides, checkpoints and weights: they give what is in the file, or a
DiffgeoError of one line, and take little more memory than the file is long."""

import io
import os
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import example
from hypothesis import strategies as st
from reader_properties import both, file_of, little_memory
from safetensors.torch import save
from strangers import payload

from diffgeo.config.line import recorded
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.pretrained.archive import contents
from diffgeo.store.checkpoint import load_tensors, save_tensors

# Overrides.

KEYS = st.sampled_from(["seed", "n", "data", "data.radius", "trainer.lr", "sampler", "net.width"])
PLAIN = st.sampled_from(["1", "0.5", "circle", "true", "null", "[1,2]", "heun", "1e-3", "-3"])
WORDS = st.builds("{}={}".format, KEYS, PLAIN)
EVIL = st.sampled_from(
    [
        "~data",
        "+data={_target_: os.system}",
        "data._target_=os.system",
        "++model={a: {_target_: builtins.exec}}",
        "seed=${oc.env:SECRET}",
        "seed='${oc.env:SECRET}'",
        "data.note=a${oc.env:SECRET}b",
        "hydra.run.dir=x",
        "hydra/launcher=joblib",
        "--config-dir=x",
        "-m",
        "--multirun",
        "seed=1,2",
        "seed=choice(1,2)",
        "data=../../x",
        "net._partial_=false",
        "net._args_=[1]",
        "hydra.searchpath=[file://x]",
    ]
)


def overrides_in(text: bytes) -> list[str] | None:
    """What is replayed of an overrides.yaml; None where it is refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text("# diffgeo\nseed: 0\n")
        (folder / "overrides.yaml").write_bytes(text)
        try:
            found = recorded(name, [], "run")
        except DiffgeoError as error:
            assert "\n" not in str(error)
            return None
    assert isinstance(found, list) and all(isinstance(word, str) for word in found)
    return found


@both(st.lists(WORDS, max_size=6))
def test_plain_overrides_are_replayed_as_they_are(words):
    assert overrides_in(yaml.safe_dump(words).encode()) == words


@both(st.lists(WORDS, max_size=4), EVIL, st.integers(0, 4))
def test_an_override_that_does_more_is_refused(words, evil, place):
    words.insert(place, evil)
    assert overrides_in(yaml.safe_dump(words).encode()) is None


@both(st.text("-&*!{}[]:#|>'\"\n abn01_=~+$.@/\\%", max_size=60))
@example("- !!python/object/apply:os.system ['true']")
@example("- &a [*a]")
@example("a: 1")
@example("- 1\n- 2")
@example("[" * 5000)
@example("- " * 3000)
def test_any_text_is_a_list_of_plain_words_or_refused(text):
    found = overrides_in(text.encode())
    for word in found or []:
        key = word.partition("=")[0]
        assert not word.startswith(("~", "-")) and "${" not in word and "_target_" not in word
        assert "=" in word and not key.startswith("hydra")


@both(st.binary(max_size=120))
def test_any_bytes_are_a_list_of_words_or_refused(held):
    overrides_in(held)


@pytest.mark.parametrize("levels", [3, 9, 40])
def test_aliases_of_aliases_are_refused_at_once(levels):
    lines = ["- &a0 [x,x,x,x,x,x,x,x,x]"]
    for level in range(1, levels):
        lines.append(f"- &a{level} [{','.join([f'*a{level - 1}'] * 9)}]")
    with little_memory(0):
        assert overrides_in("\n".join(lines).encode()) is None


# Checkpoints.

SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text("abc._0", min_size=1, max_size=6),
    st.tuples(SHAPES, st.sampled_from([torch.float32, torch.float64, torch.int64])),
    min_size=1,
    max_size=3,
)


def made(kinds: dict, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, 99, shape, generator=generator).to(kind)
        for name, (shape, kind) in kinds.items()
    }


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one)


def tensors_in(held: bytes) -> dict[str, torch.Tensor] | None:
    with file_of(held, "model.safetensors") as path, little_memory(len(held)):
        try:
            return load_tensors(path)[0]
        except DiffgeoError as error:
            assert "\n" not in str(error)
            return None


@both(TENSORS, st.integers(0, 99), st.data())
def test_a_checkpoint_is_read_back_or_its_damage_is_seen(kinds, seed, data):
    """Every bit counts: with any one of them flipped, or cut short, it is refused."""
    tensors = made(kinds, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        save_tensors(path, tensors, step=seed)
        held = bytearray(path.read_bytes())
        found, facts = load_tensors(path)
    assert equal(found, tensors) and facts["step"] == str(seed)
    place = data.draw(st.integers(0, len(held) - 1))
    if data.draw(st.booleans()):
        assert tensors_in(bytes(held[:place])) is None
    else:
        held[place] ^= 1 << data.draw(st.integers(0, 7))
        found = tensors_in(bytes(held))
        assert found is None or equal(found, tensors)  # a space in the header


def weights_in(held: bytes, name: str) -> object:
    """What the reader of others' weights makes of these bytes; None where it refuses them."""
    with file_of(held, name) as path, little_memory(len(held)):
        try:
            return contents(path, "model.path=x")
        except UsageError as error:
            assert str(error).startswith("model.path=") and "\n" not in str(error)
            return None


@both(TENSORS, st.integers(0, 99), st.booleans(), st.booleans())
def test_weights_of_others_are_read_back(kinds, seed, torchs, wrapped):
    tensors = made(kinds, seed)
    file = io.BytesIO()
    if torchs:
        torch.save({"state_dict": tensors} if wrapped else tensors, file)
    else:
        file.write(save(tensors))
    found = weights_in(file.getvalue(), "a.pt")
    assert isinstance(found, dict)
    assert equal(found["state_dict"] if torchs and wrapped else found, tensors)


@both(st.integers(0, 3), st.booleans(), st.data())
def test_damaged_weights_of_others_are_tensors_or_refused(seed, torchs, data):
    """They carry no digest of ours: a flipped bit may be read, and nothing but a refusal may
    come of the rest."""
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2, 3)}
    file = io.BytesIO()
    torch.save(tensors, file) if torchs else file.write(save(tensors))
    held = bytearray(file.getvalue())
    for _ in range(seed + 1):
        place = data.draw(st.integers(0, len(held) - 1))
        held[place] = data.draw(st.integers(0, 255))
    weights_in(bytes(held), "a.pt")


@both(
    st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x40" + bytes(7)])
)
def test_any_bytes_are_weights_or_refused(held, start):
    weights_in(start + held, "a.pt")
    tensors_in(start + held)


def test_nothing_is_unpickled(tmp_path):
    held = payload(tmp_path)
    assert overrides_in(held) is None and tensors_in(held) is None
    assert weights_in(held, "a.pt") is None and not os.listdir(tmp_path)
