"""Our Inception-v3 against torch-fidelity's, on the real weights and on random ones; resizes; where
weights are looked for."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import diffgeo  # noqa: F401                    # lets torch_fidelity import torchvision
from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.metrics import inception_weights
from diffgeo.metrics.inception import Inception, content, folded, found, load, read, scaling


def colour(n, height=32, width=32):
    smooth = torch.rand(n, 3, 5, 5, generator=generator(0, *b"images"))
    return (
        (F.interpolate(smooth, (height, width), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)
    )


@pytest.fixture(scope="module")
def weights(real):
    return load_file(real / "inception/fid_inception_v3_2015_12_05.safetensors")


@pytest.fixture(scope="module")
def reference(weights, tmp_path_factory):
    """torch-fidelity's network, by its own loader: the file is ours with a last layer of zeros,
    which its 2048 features do not see."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / "torch_fidelity.pth"
    torch.save(
        {**weights, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path
    )
    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    net.path = path
    return net


@pytest.mark.parametrize("height, width", [(32, 32), (64, 47), (299, 299)])
def test_features_are_torch_fidelitys(weights, reference, height, width):
    images = colour(2, height, width)
    with torch.inference_mode():
        ours = Inception(weights)(images)
        theirs = reference(images)[0]
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5 and ours.shape == (2, 2048)


def test_pytorch_fid_reads_images_otherwise(weights, reference):
    """pytorch-fid 0.3: ToTensor, F.interpolate(299, bilinear, align_corners=False), 2 x - 1, then
    the same graph."""
    from unittest import mock

    images = colour(2)
    x = (
        2
        * F.interpolate(images.float() / 255, size=(299, 299), mode="bilinear", align_corners=False)
        - 1
    )
    resize = (
        "torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x"
    )
    with torch.inference_mode(), mock.patch(resize, lambda *_, **__: 128 * x + 128):
        theirs = reference(images)[0]
    with torch.inference_mode():
        ours = Inception(weights, resize="pytorch_fid")(images)
        other = Inception(weights)(images)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    assert float((other - theirs).norm() / theirs.norm()) > 1e-2  # two protocols, two numbers


@pytest.mark.parametrize("size", [8, 28, 32, 64, 299, 400])
def test_scaling_against_the_two_libraries(size):
    """torch-fidelity's TensorFlow resize, EDM's (the same as a grid_sample), torch's own."""
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    x = torch.rand(2, 3, size, size, generator=generator(1))
    a = scaling(size, "tensorflow")
    b = scaling(size, "pytorch_fid")
    assert torch.allclose(
        a @ (x @ a.mT),
        interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False),
        atol=2e-6,
    )
    theta = torch.tensor([[[1, 0, 1 / size - 1 / 299], [0, 1, 1 / size - 1 / 299]]]).expand(
        2, -1, -1
    )
    edm = F.grid_sample(
        x,
        F.affine_grid(theta, [2, 3, 299, 299], align_corners=False),
        "bilinear",
        "border",
        align_corners=False,
    )
    assert torch.allclose(a @ (x @ a.mT), edm, atol=1e-4)
    assert torch.allclose(
        b @ (x @ b.mT),
        F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False),
        atol=2e-6,
    )


def test_grey_is_repeated_and_batches_do_not_matter(weights):
    net = Inception(weights)
    grey = colour(3, 28, 28)[:, :1]
    with torch.inference_mode():
        alone = torch.cat([net(image[None]) for image in grey])
        together = net(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_every_format_gives_the_same_weights(weights, reference, tmp_path):
    """The .safetensors, torch-fidelity's .pth with fc, pytorch-fid's .pth without counters of
    batches."""
    bare = {k: v for k, v in weights.items() if "num_batches" not in k}
    torch.save(bare, tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    hashes = {
        content(w)
        for w in (
            weights,
            read(reference.path),
            read(tmp_path / "pt_inception-2015-12-05-6726825d.pth"),
        )
    }
    assert hashes == {inception_weights.KNOWN}
    changed = {
        **weights,
        "Mixed_7c.branch_pool.bn.bias": weights["Mixed_7c.branch_pool.bn.bias"] + 1e-3,
    }
    assert content(changed) != inception_weights.KNOWN


def test_where_weights_are_looked_for(tmp_path, monkeypatch):
    """data.root, $DIFFGEO_DATA, torch's cache: torch-fidelity's file before pytorch-fid's."""
    root = tmp_path / "root/inception"
    data = tmp_path / "data/inception"
    hub = tmp_path / "hub/checkpoints"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub.parent))
    monkeypatch.setenv("DIFFGEO_DATA", str(data.parent))
    assert found(root.parent) is None and found(None) is None
    places = [
        hub / "pt_inception-2015-12-05-6726825d.pth",
        hub / "weights-inception-2015-12-05-6726825d.pth",
        data / "b.safetensors",
        root / "a.safetensors",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        assert found(root.parent) == place
    assert found(None) == places[2]


def test_no_weights_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("DIFFGEO_DATA", raising=False)
    monkeypatch.setattr(inception_weights, "RELEASE", "file:///nowhere")
    with pytest.raises(
        UsageError,
        match=r"put weights-inception.*metrics\.fid\.weights=FILE.*features=lenet or pixels",
    ) as error:
        load(None, None, "tensorflow", False, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, content_, words",
    [
        ("none.pth", None, "no such file"),
        ("a.pth", b"not tensors", "holds no tensors"),
        ("a.safetensors", b"", "holds no tensors"),
    ],
)
def test_unreadable_weights(tmp_path, name, content_, words):
    path = tmp_path / name
    if content_ is not None:
        path.write_bytes(content_)
    with pytest.raises(UsageError, match=f"metrics.fid.weights=.*{name}.*{words}"):
        load(None, str(path), "tensorflow", False, "cpu")


def test_nothing_is_unpickled(tmp_path):
    torch.save({"Conv2d_1a_3x3.conv.weight": UsageError}, tmp_path / "evil.pth")
    with pytest.raises(UsageError, match="holds no tensors"):
        read(tmp_path / "evil.pth")


def test_other_weights(tmp_path, weights, capsys):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    with pytest.raises(UsageError, match="0 convolutions.*94"):
        load(None, str(tmp_path / "resnet.safetensors"), "tensorflow", False, "cpu")
    with pytest.raises(UsageError, match="Mixed_5b.branch1x1.bn.running_var is not there"):
        folded({k: v for k, v in weights.items() if k != "Mixed_5b.branch1x1.bn.running_var"})
    save_file(
        {k: v if v.ndim < 4 else v + 1e-3 for k, v in weights.items()},
        tmp_path / "other.safetensors",
    )
    load(None, str(tmp_path / "other.safetensors"), "tensorflow", False, "cpu")
    assert "compares with nobody's" in capsys.readouterr().err
