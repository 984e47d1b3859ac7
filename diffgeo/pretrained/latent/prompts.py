"""The prompts of a file: text in UTF-8, a prompt a line (an empty line is the empty prompt), or the
captions of COCO, captions_val2014.json:

    {"images": [{"id": 7}, ...], "annotations": [{"image_id": 7, "caption": "A cat."}, ...]}

Of COCO, prompt i is that of image i in the order of the file, and of an image's several captions
the last one: what Permenter and Yuan (2024) sampled, and images[0:30000] is COCO-30k.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from diffgeo.errors import UsageError

LARGEST = 1_000_000_000  # bytes of a file


@dataclass(frozen=True)
class Prompts:
    """Prompt i is sample i's. Raises UsageError where there is none."""

    texts: tuple[str, ...]
    source: str = "prompts"

    def __post_init__(self):
        if not self.texts:
            raise UsageError(f"{self.source} has no prompt: write one a line")

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, numbers: range) -> tuple[str, ...]:
        """The prompts of the samples of these numbers. Raises UsageError where they do not
        reach."""
        if numbers.stop > len(self.texts):
            there = f"{len(self.texts)} prompt{'s' if len(self.texts) > 1 else ''}"
            raise UsageError(
                f"{self.source} has {there}, and sample i has prompt i: samples up to number "
                f"{numbers.stop - 1} were asked for; write n={len(self.texts)} or less, or more "
                "prompts"
            )
        return self.texts[numbers.start : numbers.stop]


def read_prompts(path: str | Path | None) -> Prompts:
    """The prompts of a file. Raises UsageError on a file that is not there, not UTF-8, empty, or
    JSON of another form."""
    if path is None:
        raise UsageError("model=latent needs prompts=FILE, a prompt a line")
    file = Path(path)
    source = f"prompts={path}"
    if not file.is_file():
        raise UsageError(f"{source}: there is no such file; write the path of one, a prompt a line")
    if file.stat().st_size > LARGEST:
        raise UsageError(f"{source} has more than {LARGEST} bytes: it is no file of prompts")
    try:
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{source} is not UTF-8 in line {line}: save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from error
    if file.suffix == ".json":
        return Prompts(captions(text, source), source)
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":  # what follows the last line's end
        lines.pop()
    return Prompts(tuple(lines), source)


def captions(text: str, source: str) -> tuple[str, ...]:
    """Of each image of COCO's captions, in the order of the file, the last caption."""
    form = 'write COCO\'s {"images": [...], "annotations": [...]}, or a text file, a prompt a line'
    try:
        found = json.loads(text)
        images = [image["id"] for image in found["images"]]
        of_image = {said["image_id"]: said["caption"] for said in found["annotations"]}
        prompts = tuple(of_image[image] for image in images)
    except KeyError as error:
        raise UsageError(f"{source} has no {error} where one is needed: {form}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{source} is no COCO captions file: {form}") from error
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError(f"{source} has a caption that is no text: {form}")
    return prompts
