"""What is wrong with a command that a page tells its reader to type, found without running it: the
command, its groups and their choices, its options."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pages import ROOT

from diffgeo.config.catalogue import commands, split
from diffgeo.config.help import options
from diffgeo.config.line import conf_dir, own_config
from diffgeo.config.mistakes import groups_of

OTHERS = ("cd", "eval", "export", "git", "jupyter", "ls", "cat", "mkdir")
EXAMPLE = ROOT / "examples" / "plugin"
FLAGS_WITH_VALUE = ("--config-dir", "--config-name", "--cfg", "--info")
ENVIRONMENT = re.compile(r"[A-Z_]+=.*")
LAUNCHERS = {"basic", "joblib", "submitit_local", "submitit_slurm"}
EVERYWHERE = ("figures", "plugins")  # words of every command without a config
# rewritten by config/line.py: figures.format= is drawing.format=
REWRITTEN = {"figures": "drawing"}


def wrong(words: list[str], made: set[str] = frozenset()) -> str:
    """What is wrong with a command; "" where nothing is. `made` are choices, group/name, that the
    page has told its reader to write."""
    while words and ENVIRONMENT.fullmatch(words[0]):
        words = words[1:]
    first, rest = words[0], words[1:]
    if first == "make":
        return "" if set(rest) <= targets() else f"make has no {' '.join(rest)}"
    if first == "pip":
        return wrong_extras(rest)
    if first in ("python", "pytest"):
        return wrong_files(rest)
    if first in OTHERS:
        return ""
    if first in ("torchrun", "srun"):
        if "diffgeo" not in rest:
            return "torchrun of something else"
        first, rest = "diffgeo", rest[rest.index("diffgeo") + 1 :]
    if first != "diffgeo":
        return f"no command of ours, and none that is known: {first}"
    return wrong_line(rest, made)


@cache
def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def wrong_extras(words: list[str]) -> str:
    """An extra that pyproject.toml does not have."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        if found := re.search(r"(?:diffgeo|\.)\[([\w,]+)\]", word):
            unknown = set(found[1].split(",")) - set(project["optional-dependencies"])
            if unknown:
                return f"there is no extra {', '.join(sorted(unknown))}"
    return ""


def wrong_files(words: list[str]) -> str:
    """A script or a test that the repository does not have."""
    for word in words:
        if word.startswith(("scripts/", "examples/", "tests/")) and not (ROOT / word).exists():
            return f"there is no {word}"
    return ""


def wrong_line(words: list[str], made: set[str]) -> str:
    """What is wrong with the words behind `diffgeo`."""
    words = without_flags(words)
    if not words or words[0] in ("help", "-sc"):
        return wrong_help(words[1:]) if words[:1] == ["help"] else ""
    name, rest = split(words)
    command = commands().get(name)
    if command is None:
        return f"there is no command {name}"
    if not command.configured:
        return wrong_words(name, command.help, rest)
    plugin = any(word.startswith("plugins=") for word in rest)
    for word in rest:
        if problem := wrong_override(name, word, rest, made, plugin):
            return problem
    return ""


def without_flags(words: list[str]) -> list[str]:
    kept = []
    following = iter(words)
    for word in following:
        if word in FLAGS_WITH_VALUE:
            next(following, None)
        elif not word.startswith("-") or word == "-sc":
            kept.append(word)
    return kept


def wrong_help(words: list[str]) -> str:
    """A word that `diffgeo help` would not know."""
    word = " ".join(words)
    group, equals, choice = word.partition("=")
    if not word or word in commands() or word.split(" ")[0] in commands():
        return ""
    if equals:
        choice, *others = choice.split(" ")
        known = choices(group) + (of_example(group) if others == ["plugins=[garden]"] else [])
        return "" if choice in known else f"help of no choice: {word}"
    top, _, key = word.partition(".")
    known = choices(top) or top in top_keys("train")
    if known and (not key or key in nested(top, [])):
        return ""
    return f"help of nothing: {word}"


def wrong_words(name: str, about: str, words: list[str]) -> str:
    """A word of a command without a config that its docstring does not speak of."""
    for number, word in enumerate(words):
        key, equals, _ = word.partition("=")
        if equals and f"{key}=" not in about and key.split(".")[0] not in EVERYWHERE:
            if name != "reproduce" or key not in brought(words[0]):
                return f"{name} does not speak of {key}="
        if name == "reproduce" and number == 0 and word not in ("list", *reproductions()):
            return f"there is no table {word}"
    return ""


def brought(table: str) -> str:
    """What the file of a table says of itself: which models and paths it needs."""
    file = conf_dir() / "reproduce" / f"{table}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


@cache
def reproductions() -> tuple[str, ...]:
    folder = conf_dir() / "reproduce"
    found = [p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")]
    return tuple(sorted(found))


def wrong_override(command: str, word: str, line: list[str], made: set[str], plugin: bool) -> str:
    """What is wrong with group=choice or key=value on the line of a command with a config."""
    key, equals, value = word.lstrip("+~").partition("=")
    if not equals:
        return f"{word} sets nothing" if not word.startswith("~") else ""
    group = key.partition("@")[0].replace(".", "/")
    if key == "sampler.schedule":
        group = "schedule"
    if group in groups():
        return wrong_choice(group, value, made, plugin)
    top, _, below = key.partition(".")
    top = REWRITTEN.get(top, top) if below else top
    if top == "hydra" or (key == "image" and "data=texture" in line):
        return ""
    if top not in top_keys(command) and top not in groups():
        return f"{command} has no option {top}"
    if not below or word.startswith("+"):
        return ""
    chosen = [word.partition("=")[2] for word in line if word.startswith(f"{top}=")]
    for name in set(chosen) & set(of_example(top)) if plugin else ():
        file = EXAMPLE / "garden" / "conf" / top / f"{name}.yaml"
        return "" if below in of_files((file,)) else f"no {top} has an option {below}"
    if below not in nested(top, line) and below.split(".")[0] not in ("defaults",):
        return f"no {top} has an option {below}"
    return ""


def wrong_choice(group: str, value: str, made: set[str], plugin: bool) -> str:
    """Choices that a group does not have: ours, those that the page has had written, and with
    plugins= those of the example."""
    if value in ("null", "") or "(" in value or "{" in value:
        return ""
    known = set(choices(group)) | {
        name.partition("/")[2] for name in made if name.startswith(f"{group}/")
    }
    if plugin:
        known |= set(of_example(group))
    if group == "hydra/launcher":
        known = LAUNCHERS
    for choice in value.strip("[]").split(","):
        if choice not in known:
            return f"there is no {group}={choice}"
    return ""


def of_example(group: str) -> list[str]:
    """The choices that examples/plugin adds to a group."""
    return [path.stem for path in EXAMPLE.rglob(f"conf/{group}/*.yaml")]


@cache
def groups() -> dict[str, list[str]]:
    return groups_of(conf_dir())


def choices(group: str) -> list[str]:
    return groups().get(group, [])


@cache
def top_keys(command: str) -> set[str]:
    """The options at the top of a command's config: its own, those of all, and what laws and
    latents bring."""
    found = set()
    for name in (
        command,
        "base",
        "laws/images",
        "laws/latents",
        "laws/textures",
        "laws/photographs",
    ):
        found |= set(re.findall(r"^(\w+):", own_config(name), re.MULTILINE))
    return found


@cache
def of_files(files: tuple[Path, ...]) -> set[str]:
    found = set()
    for file in files:
        found |= {option.key for option in options.of_file(file)}
    return found


def nested(top: str, line: list[str]) -> set[str]:
    """The options below a key: those of the chosen choice of a group, or of any; of base.yaml; of
    the slots that the choices fill, sampler.schedule.sigma_max."""
    chosen = [word.partition("=")[2] for word in line if word.startswith(f"{top}=")]
    names = tuple(re.split(r"[\[\],]", chosen[-1])) if chosen else ()
    return below(top, names)


@cache
def below(top: str, names: tuple[str, ...]) -> set[str]:
    """The same of the choices of these names; of all where there are none."""
    found = set()
    for name in choices(top):
        if not names or name in names:
            found |= of_choice(top, name)
    base = conf_dir() / "base.yaml"
    laws = tuple(sorted((conf_dir() / "laws").glob("*.yaml")))
    everywhere = of_files((base, *laws))
    found |= {key.removeprefix(f"{top}.") for key in everywhere if key.startswith(f"{top}.")}
    return found


@cache
def of_choice(group: str, name: str) -> set[str]:
    """The options of a choice, and those of the slots that it fills."""
    page = options.of_choice(group, name)
    found = {option.key for option in page.options}
    for choice in page.choices:
        slot = choice.slot.removeprefix(f"{group}.")
        found |= {f"{slot}.{key}" for key in below(choice.group, ())}
    return found
