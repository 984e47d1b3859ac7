"""The CLIP score against transformers' own CLIPModel and processor, on a small network of random
weights; folders that are no CLIPModel."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from simulations import made_by

import diffgeo  # noqa: F401                    # lets transformers import torchvision
from diffgeo.core import Run
from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.metrics.clip import Clip, ClipScore, load
from diffgeo.report.comparison import badness

pytest.importorskip("transformers")

SIDE = 32
TEXTS = ("a cat", "a dog", "", "a cat and a dog " * 30)


def vocabulary(folder: Path) -> None:
    """CLIP's tokenizer of bytes and two merges."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(161, 323)]
    words = letters[:256] + [f"{letter}</w>" for letter in letters[:256]]
    words += ["ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIPModel of 30 000 weights as transformers writes it."""
    from transformers import CLIPConfig, CLIPModel

    place = tmp_path_factory.mktemp("clip")
    vocabulary(place)
    last = len(json.loads((place / "vocab.json").read_text())) - 1
    shared = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    text = shared | dict(
        vocab_size=last + 1,
        max_position_embeddings=24,
        bos_token_id=last - 1,
        eos_token_id=last,
        pad_token_id=last,
    )
    vision = shared | dict(image_size=SIDE, patch_size=8)
    torch.manual_seed(0)
    net = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    net.save_pretrained(place)
    said = dict(
        crop_size=dict(height=SIDE, width=SIDE),
        size=dict(shortest_edge=SIDE),
        resample=3,
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        image_processor_type="CLIPImageProcessor",
    )
    (place / "preprocessor_config.json").write_text(json.dumps(said))
    return place


def pictures(n: int, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    smooth = torch.rand(n, 3, 5, 5, generator=g)
    big = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic")
    return (255 * big).clamp(0, 255).to(torch.uint8)


class Seen:
    """Pictures of no set, as latents leave them."""

    coordinate = quantile = period = atoms = weights = root = None
    classes = 0
    std = 1.0
    low, high = -1.0, 1.0
    name = key = "seen"
    picture = (3, 48, 64)
    shape = (4, 6, 8)
    mean = torch.zeros(4, 6, 8)

    def quantize(self, x):
        return x

    def store(self, x):
        return x.numpy()

    def restore(self, array):
        return torch.from_numpy(array)

    def sample(self, n, generator):
        raise UsageError("no law")


class Words:
    """A condition of prompts."""

    def words(self, numbers):
        return TEXTS[numbers.start : numbers.stop]

    def around(self, denoise, numbers, device="cpu"):
        return denoise

    def steered(self, method, numbers, device="cpu"):
        return method

    def told(self, numbers):
        return {}


def told(samples: torch.Tensor) -> Run:
    """A run of these pictures, sample i told TEXTS[i]."""
    from dataclasses import replace

    run = made_by(None, samples)
    return run._replace(simulation=replace(run.simulation, condition=Words()))


@pytest.mark.parametrize("height, width", [(48, 64), (64, 48), (32, 32), (20, 24)])
def test_the_score_is_that_of_the_library(folder, height, width):
    """transformers' processor (Pillow) and CLIPModel, and the formula written out."""
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = pictures(4, height, width)
    net = CLIPModel.from_pretrained(folder).eval()
    seen = CLIPImageProcessorPil.from_pretrained(folder)(
        [image.permute(1, 2, 0).numpy() for image in images], return_tensors="pt"
    )
    tokens = CLIPTokenizer.from_pretrained(folder)(
        list(TEXTS), padding=True, truncation=True, max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        found = net(**tokens, pixel_values=seen.pixel_values)
    # logits are exp(scale) cos
    cosine = found.logits_per_image.diagonal().double() / net.logit_scale.exp().item()
    expected = 100 * cosine.clamp(min=0)
    ours = ClipScore(str(folder), batch=3)(told(images), Seen())
    assert ours["clip/score"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert ours["clip/score_se"] == pytest.approx(float(expected.std()) / 2, rel=1e-4)
    assert float(expected.mean()) > 0  # a score of nothing would pass for anything


def test_opposite_pictures_score_nothing(folder):
    """max(cos, 0): of features turned round only those that pointed away count."""
    net = load(folder, "cpu")
    images = pictures(4)
    cosine = (net.pictures(images) * net.texts(TEXTS)).sum(1)
    net.net.visual_projection.weight.mul_(-1)
    try:
        turned = ClipScore(str(folder))(told(images), Seen())["clip/score"]
    finally:
        net.net.visual_projection.weight.mul_(-1)
    assert turned == pytest.approx(float((-100 * cosine).clamp(min=0).mean()), abs=1e-4)
    assert badness("clip/score", 30.0) < badness("clip/score", 20.0)  # more is better


def test_a_folder_that_is_no_clip_model_is_one_line(folder, tmp_path):
    def changed(name: str, **values) -> Path:
        place = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, place)
        file = place / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return place

    cases = [
        (tmp_path / "nowhere", "no such folder"),
        (changed("config.json", model_type="siglip"), "model_type=siglip, not clip"),
        (changed("preprocessor_config.json", resample=2), "resample=2"),
        (changed("preprocessor_config.json", do_center_crop=False), "do_center_crop"),
        (changed("preprocessor_config.json", crop_size=64), "crop_size"),
        (changed("preprocessor_config.json", image_mean=None), "image_mean"),
    ]
    bare = changed("config.json")
    (bare / "preprocessor_config.json").unlink()
    cases.append((bare, "no preprocessor_config.json"))
    lacking = changed("config.json")
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, lacking / "model.safetensors")
    cases.append((lacking, "visual_projection.weight"))
    pickled = changed("config.json")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cases.append((pickled, "pickles are not opened"))
    for place, message in cases:
        with pytest.raises(UsageError, match=message) as found:
            Clip(place, "cpu")
        assert "\n" not in str(found.value), message


def test_what_has_no_prompts_is_refused(folder):
    with pytest.raises(UsageError, match="against their prompts"):
        ClipScore(str(folder)).prepare(Circle(), 100)
    with pytest.raises(UsageError, match=r"metrics\.clip\.folder=DIR"):
        ClipScore().prepare(Seen(), 4)
    optional = ClipScore(optional=True)  # in a suite with other metrics it is left out
    optional.prepare(Circle(), 100)
    assert optional(told(pictures(4)), Seen()) == {} == optional.describe(told(pictures(4)), Seen())
    assert ClipScore(str(folder))(Run(pictures(4)), Seen()) == {}
