"""Weights that others saved: found in whatever they were wrapped, of the network tensor by tensor,
or refused in one line."""

import collections
import io
import json
import pickle
import re
import struct
import time
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_pretrained import assert_same, network, pictures
from test_pretrained_ddim import ddim_tensors
from test_pretrained_edm import Images as EdmImages
from test_pretrained_edm import weights as edm_weights

from diffgeo.errors import UsageError
from diffgeo.pretrained import ddim_checkpoint, diffusers, edm_checkpoint
from diffgeo.pretrained.layouts import AVERAGE, unwrapped
from diffgeo.pretrained.weights import read

LANDMARK = "temb.dense.0.weight"


@pytest.fixture(scope="module")
def net():
    pytest.importorskip("diffusers")
    return network(block_out_channels=(32, 32, 32))


@pytest.fixture(scope="module")
def named(net):
    return ddim_tensors(net)


def zeros(named):
    return {name: torch.zeros_like(tensor) for name, tensor in named.items()}


def prefixed(prefix, named):
    return {prefix + name: tensor for name, tensor in named.items()}


# layouts: what is saved, and what the line says; "" for no line

LAYOUTS = {
    "compiled": (lambda w, o: prefixed("_orig_mod.", w), ""),
    "compiled in parallel": (lambda w, o: prefixed("module._orig_mod.", w), ""),
    "parallel compiled": (lambda w, o: prefixed("_orig_mod.module.", w), ""),
    "state_dict": (lambda w, o: {"state_dict": w, "epoch": 3}, "those of state_dict"),
    "model, ema": (
        lambda w, o: {"model": o, "ema": w, "optimizer": {"state": {}}},
        "those of ema, a moving average, and not model",
    ),
    "model, ema_model, compiled": (
        lambda w, o: {"model": o, "ema_model": prefixed("_orig_mod.", w), "step": 7},
        "those of ema_model, a moving average, and not model",
    ),
    "params_ema": (
        lambda w, o: {"params": o, "params_ema": w},
        "those of params_ema, a moving average, and not params",
    ),
    "ema wrapped once more": (
        lambda w, o: {"net": o, "ema": {"decay": 0.999, "shadow": prefixed("module.", w)}},
        "those of ema.shadow.module, a moving average, and not net",
    ),
    "list": (
        lambda w, o: [o, {"state": {}}, 3, 100, w],
        "those of ema, a moving average, and not model",
    ),
    "lightning": (
        lambda w, o: {"state_dict": prefixed("model.", w) | {"betas": torch.ones(3)}},
        "those of state_dict.model",
    ),
    "lightning with an average": (
        lambda w, o: {"state_dict": prefixed("model.", o) | prefixed("ema.module.", w)},
        "those of state_dict.ema.module, a moving average, and not state_dict.model",
    ),
    "bare beside an average": (
        lambda w, o: o | prefixed("ema.", w),
        "those of ema, a moving average, and not the bare names",
    ),
    "torch's average": (
        lambda w, o: prefixed("module.", w) | {"n_averaged": torch.tensor(9)},
        "",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_in_whatever_they_are_wrapped(net, named, tmp_path, capsys, layout):
    """The network's own weights are in one place and zeros in every other."""
    make, line = LAYOUTS[layout]
    path = tmp_path / "x.ckpt"
    torch.save(make(named, zeros(named)), path)
    assert_same(ddim_checkpoint(pictures(), path=str(path)), net)
    said = capsys.readouterr().err
    assert said == (f"model.path={path}: the weights are {line}\n" if line else "")


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda w: {"model": w, "model_2": dict(w)}, "several networks, model, model_2: save"),
        (
            lambda w: {"ema_0.999": w, "ema_0.9999": dict(w), "model": w},
            "several networks, ema_0.999, ema_0.9999: save",
        ),
        (lambda w: [w, dict(w)], "several networks, 0, 1: save"),
        (
            lambda w: prefixed("a.", w) | prefixed("b.", w),
            "several networks, a, b: save",
        ),
        (lambda w: w | prefixed("_orig_mod.", w), "with and without _orig_mod."),
        (
            lambda w: {"encoder": {"x": torch.ones(1)}, "decoder": {"y": torch.ones(1)}},
            r"holds encoder. \(x\), decoder. \(y\), and nowhere a temb.dense.0.weight",
        ),
        (lambda w: {"epoch": 3, "model": None}, "no state dict of tensors"),
        (lambda w: [], "no state dict of tensors"),
    ],
)
def test_what_is_ambiguous_or_absent_is_refused(named, make, says):
    with pytest.raises(UsageError, match=says) as caught:
        unwrapped(make(named), LANDMARK, "model.path=x")
    assert "\n" not in str(caught.value)


def test_averages_are_known_by_their_names():
    for name in ("ema", "ema_model", "model_ema.", "params_ema", "averaged_model", "ema.shadow"):
        assert AVERAGE.search(name), name
    for name in ("model", "schema", "emanuel", "state_dict.model", "shadowed"):
        assert not AVERAGE.search(name), name


# strictly


def test_the_library_samples_no_network_whose_weights_were_not_in_the_file(net, tmp_path):
    net.save_pretrained(tmp_path)
    save_file({"a": torch.zeros(3)}, tmp_path / "diffusion_pytorch_model.safetensors")
    for word in ("diffusers", "diffgeo"):
        with pytest.raises(UsageError, match="another architecture: .* absent in the file") as e:
            diffusers(pictures(), folder=str(tmp_path), implementation=word)
        assert "more" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("word", ["diffusers", "diffgeo"])
@pytest.mark.parametrize(
    "change, says",
    [
        (lambda w: w.pop("conv_in.bias"), r"conv_in.bias is absent in the file, \(32,\) in the"),
        (
            lambda w: w.update({"conv_in.extra": torch.ones(2)}),
            r"conv_in.extra is \(2,\) in the file, absent in the network",
        ),
        (
            lambda w: w.update({"conv_out.bias": torch.ones(4)}),
            r"conv_out.bias is \(4,\) in the file, \(3,\) in the network",
        ),
        (
            lambda w: w.update({"mid_block.attentions.0.to_q.weight": torch.ones(5, 2)}),
            r"mid_block.attentions.0.to_",
        ),
    ],
)
def test_every_tensor_is_there_with_its_shape_and_no_other(net, tmp_path, word, change, says):
    net.save_pretrained(tmp_path)
    tensors = dict(net.state_dict())
    change(tensors)
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UsageError, match=says):
        diffusers(pictures(), folder=str(tmp_path), implementation=word)


def test_a_network_that_would_not_fit_into_memory_is_compared_before_it_is_made(net, tmp_path):
    net.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["block_out_channels"] = [2**20] * 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    started = time.process_time()
    for word in ("diffgeo", "diffusers"):
        with pytest.raises(UsageError, match="another architecture"):
            diffusers(pictures(), folder=str(tmp_path), implementation=word)
    assert time.process_time() - started < 5


def test_the_filters_of_an_edm_network_are_those_of_its_architecture(tmp_path):
    made = edm_weights()
    save_file(made, tmp_path / "whole.safetensors")
    assert edm_checkpoint(EdmImages(), path=str(tmp_path / "whole.safetensors")).pretrained
    filters = next(name for name in made if name.endswith("resample_filter"))
    save_file(made | {filters: torch.full((1, 1, 2, 2), 0.3)}, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="another architecture than DDPM"):
        edm_checkpoint(EdmImages(), path=str(tmp_path / "x.safetensors"))
    save_file(made | {"model.more": torch.ones(1)}, tmp_path / "y.safetensors")
    with pytest.raises(UsageError, match=r"more is \(1,\) in the file, absent in the network"):
        edm_checkpoint(EdmImages(), path=str(tmp_path / "y.safetensors"))


# numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(tmp_path, dtype):
    value = torch.tensor([1.0, -2.5], dtype=dtype)
    for path in (tmp_path / "x.pt", tmp_path / "x.safetensors"):
        save_file({LANDMARK: value}, path) if path.suffix[1] == "s" else torch.save(
            {LANDMARK: value}, path
        )
        found = read(path, "model.path", LANDMARK)[LANDMARK]
        assert found.dtype == torch.float32 and found.tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    "tensor, says",
    [
        (torch.tensor([1, 2]), "more is no dense tensor of floats but torch.int64"),
        (torch.tensor([1j]), "more is no dense tensor of floats but torch.complex64"),
        (torch.eye(2).to_sparse(), "more is no dense tensor of floats"),
        (torch.empty(2, device="meta"), "more is no dense tensor of floats"),
        (torch.tensor([1.0, float("nan"), float("inf")]), "more has 2 of 3 numbers that are not"),
        (torch.tensor([1e300], dtype=torch.float64), "more has 1 of 1 numbers that are not finite"),
        (torch.ones(1).expand(10**12), "more claims 4000000000000 bytes, more than the file"),
    ],
)
def test_tensors_that_are_no_weights_are_named(tmp_path, tensor, says):
    path = tmp_path / "x.pt"
    torch.save({LANDMARK: torch.ones(2), "more": tensor}, path)
    with pytest.raises(UsageError, match=says) as caught:
        read(path, "model.path", LANDMARK)
    assert "\n" not in str(caught.value)


# files


class Storage:
    """Stands for the bytes of a tensor in the pickles below."""


class Claim:
    """A tensor of `size` numbers, of a storage that has them by its own account."""

    def __init__(self, size):
        self.size = size

    def __reduce__(self):
        options = (Storage(), 0, (self.size,), (1,), False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, options


def pickled(size, *more):
    """The pickle of {LANDMARK: tensor} as torch writes it, its storage `size` floats."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", size, *more)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({LANDMARK: Claim(size)})
    return buffer.getvalue()


def rezipped(path, pickle=None, record=None, compression=zipfile.ZIP_STORED):
    """A torch file with another pickle or another record of bytes."""
    buffer = io.BytesIO()
    torch.save({LANDMARK: torch.zeros(3)}, buffer)
    whole = zipfile.ZipFile(buffer)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in whole.namelist():
            held = whole.read(name)
            if name.endswith("data.pkl") and pickle is not None:
                held = pickle
            if name.endswith("data/0") and record is not None:
                held = record
            archive.writestr(name, held)


def before_1_6(size, most=b""):
    """A file of torch before 1.6: a number, a version, sizes, the object, names, the bytes."""
    sizes = {"short": 2, "int": 4, "long": 4}
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, about)]
    body = most or pickled(size, None)
    return b"".join([*head, body, pickle.dumps(["0"], 2), struct.pack("<q", size), bytes(12)])


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


F32 = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
DEEP = b"\x80\x02" + b"]" * 1_000_000 + b"."

FILES = {
    "empty": (b"", "is empty"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", "cannot be read as weights"),
    "a pickle of objects": (pickle.dumps(Storage()), "holds Python objects, not tensors alone"),
    "a header of 2^60 bytes": (safetensors({"a": F32}, bytes(12), 2**60), "cannot be read"),
    "a header that is no JSON": (safetensors(b"{" * 100), "cannot be read"),
    "bytes that are not there": (
        safetensors({"a": F32 | {"shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, bytes(12)),
        "cannot be read",
    ),
    "offsets that overlap": (safetensors({"a": F32, "b": F32}, bytes(12)), "cannot be read"),
    "before 1.6, 100 GB": (before_1_6(25_000_000_000), "cannot be read"),
    "before 1.6, a deep pickle": (before_1_6(3, DEEP), "more than 500000 operations"),
    "zip of nothing": (b"PK\x03\x04" + bytes(100), "cannot be read as weights"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_and_hostile_files_are_one_line(tmp_path, name, suffix):
    content, says = FILES[name]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UsageError, match=says) as caught:
        read(path, "model.path", LANDMARK)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "options, says",
    [
        ({"pickle": pickled(25_000_000_000)}, "cannot be read as weights"),
        ({"pickle": pickled(10_000)}, "cannot be read as weights"),
        ({"pickle": DEEP}, "more than 500000 operations"),
        (
            {
                "pickle": pickled(5_000_000),
                "record": bytes(20_000_000),
                "compression": zipfile.ZIP_DEFLATED,
            },
            r"claims 20000\d+ bytes and has \d+: torch does not compress",
        ),
    ],
)
def test_zip_files_that_claim_more_than_they_hold(tmp_path, options, says):
    path = tmp_path / "x.pt"
    rezipped(path, **options)
    assert path.stat().st_size < 1_100_000
    started = time.process_time()
    with pytest.raises(UsageError, match=says) as caught:
        read(path, "model.path", LANDMARK)
    assert "\n" not in str(caught.value) and time.process_time() - started < 5


def test_the_files_above_are_refused_for_what_is_changed_in_them(tmp_path):
    """Unchanged, all three kinds are read."""
    path = tmp_path / "x.pt"
    rezipped(path, pickle=pickled(3))
    assert read(path, "model.path", LANDMARK)[LANDMARK].tolist() == [0, 0, 0]
    path.write_bytes(before_1_6(3))
    assert read(path, "model.path", LANDMARK)[LANDMARK].tolist() == [0, 0, 0]
    path.write_bytes(safetensors({LANDMARK: F32}, bytes(12)))
    assert read(path, "model.path", LANDMARK)[LANDMARK].tolist() == [0, 0, 0]


def test_objects_beside_the_weights_are_named(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"state_dict": {LANDMARK: torch.ones(1)}, "loss": np.float64(3)}, path)
    says = r"holds Python objects \(numpy\.[\w.]+\.scalar\), not tensors alone, and is not unpick"
    with pytest.raises(UsageError, match=says):
        read(path, "model.path", LANDMARK)
    with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path))} is a folder"):
        read(tmp_path, "model.path", LANDMARK)


def test_nothing_in_a_file_is_called(tmp_path):
    target = tmp_path / "called"

    class Evil:
        def __reduce__(self):
            return open, (str(target), "w")

    for old in (False, True):
        path = tmp_path / "x.pt"
        torch.save({LANDMARK: Evil()}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(UsageError, match="holds Python objects .*open"):
            read(path, "model.path", LANDMARK)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="holds Python objects"):
        read(path, "model.path", LANDMARK)
    assert not target.exists()
