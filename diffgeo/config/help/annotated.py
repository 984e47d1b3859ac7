"""The kind of value that each option of a config file takes, in words: from the annotations of the
class that its node names, as `config.kinds` reads them, and, of an option that no class takes, from
its default.

It imports torch, since it imports the classes: half a second that `diffgeo help sampler=heun`
spends, and `--help` does not.
"""

from __future__ import annotations

import re

from omegaconf import OmegaConf

from diffgeo.config.help.options import Option, Page
from diffgeo.config.kinds import NODE, hints, located, words_of
from diffgeo.errors import UsageError

INNER = re.compile(r"\{ *_target_: *([\w.]+)")  # the class of a node in braces


def kinds_of(page: Page) -> dict[str, str]:
    """The kind of each option of a page, by its key; "" where there is nothing to say."""
    return {option.key: kind_of(option, page) for option in page.options}


def kind_of(option: Option, page: Page) -> str:
    """The kind of one option."""
    node, _, name = option.key.rpartition(".")
    target = page.targets.get(node)
    if target is None:
        return kind_of_default(option)
    takes = taken_by(target)
    laws = [o.default for o in page.options if o.key == "law" and not node]
    for found in map(INNER.match, laws):  # data.make hands its other options on to the law
        if found:
            takes = taken_by(found[1]) | takes
    if name in takes:
        return words_of(takes[name]).replace(NODE.words, "nodes").replace(NODE.word, "a node")
    return kind_of_default(option)


def taken_by(target: str) -> dict:
    """The annotated options of a class or function; {} where there is none of this name."""
    try:
        found = located(OmegaConf.create({"_target_": target}))
    except UsageError:
        return {}
    return hints(found)


def kind_of_default(option: Option) -> str:
    """What kind of value the default of an option is."""
    import yaml

    if not option.default or "${" in option.default:
        return ""
    value = yaml.safe_load(option.default)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        # YAML 1.1 takes 1e-3 for a word, Hydra for a number
        return "a number" if re.fullmatch(r"[-+.\d]+e[-+]?\d+", value) else "a word"
    return "a list" if isinstance(value, list) else ""
