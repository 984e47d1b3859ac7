"""The command line as Hydra shall read it. What is changed before Hydra sees it:

    -m, --cfg job, ...       come first, wherever they were typed
    sampler.schedule=vp      schedule@sampler.schedule=vp     the second slot of the group schedule
    sampler.corrector=ulmc   sampler/corrector=ulmc           a group inside a group, if it has one
    figures.format=svg       drawing.format=svg               and the others of `config.drawings`
    data=texture image=F     data=texture data.image=F        but for `restore`, which has an image=
    data=npy                 data=npy_images                  of a file that holds images
    run=a folder, with =     run='a folder, with ='           and every other option that is a path
    resume=R                 R's recorded overrides, then the line's, and R as the run's own folder
    sample run=R ...         R's recorded overrides, then the line's
    sample -m                figures=false
    against=exact,gaussian   against=[exact,gaussian]         an option whose default is a list
    algorithm=exact,dps      algorithms=[exact,dps]           of a command that takes several
    -m                       a sweep folder named after the line: the same line finds its jobs again

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from diffgeo.config import contents, shapes
from diffgeo.config.drawings import PREFIX, as_node
from diffgeo.config.flags import DIRECTORIES, multirun, parted
from diffgeo.config.mistakes import check, groups_of, listing, no_option
from diffgeo.config.nearest import advice
from diffgeo.config.plugins import choices, conf_dir, conf_folders, find, made_with
from diffgeo.config.strangers import check_directory, check_kind, check_replayed, words_of
from diffgeo.errors import UsageError
from diffgeo.store.digest import verified

# options that name the files that a run is made from
FILES = (
    "run",
    "noise",
    "samples",
    "data.file",
    "data.labels",
    "data.image",
    "prompts",
    "operator.file",
    "model.path",
    "model.folder",
    "schedule.file",
    "sampler.schedule.file",
    "sampler.schedule.folder",
    "spectrum",
)
INPUTS = (*FILES, "y", "mean", "covariance")  # these three may be lists of numbers too
PATHS = (
    *FILES,
    "resume",
    "data.path",
    "data.root",
    "metrics.fid.weights",
    "metrics.fid.reference",
    "metrics.clip.folder",
    "out",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
# options of every command that even one with no law and no model of a run looks at
LOOKED_AT = {"seed", "figures", "drawing", "threads", "hydra", "device", "plugins"}
# what the samples of a run start from
STARTS = ("first", "noise", "init", "at")
# of the runs of one sweep
NOT_SHARED = (
    "trainer",
    "logger",
    "seed",
    "preview",
    "figures",
    "drawing",
    "png",
    "device",
    "threads",
    "batch",
)


def own_options(command: str) -> set[str]:
    """The options that a command has beside those of every command: the keys of its own config."""
    return set(re.findall(r"^(\w+):", own_config(command), re.MULTILINE))


def list_options(command: str) -> set[str]:
    """Those of its own options whose default is a list."""
    return set(re.findall(r"^(\w+): *\[", own_config(command), re.MULTILINE))


def check_own(command: str, overrides: Iterable[str], looks_at: str) -> None:
    """Raise UsageError on an option of other commands, which this one would not look at; `looks_at`
    says what there is instead."""
    own = own_options(command) | LOOKED_AT
    for override in overrides:
        key = key_of(override)
        if re.split("[./]", key.rpartition("@")[2])[0] not in own:  # the slot that it fills
            raise UsageError(f"{command} does not look at {key}=: {looks_at}")


def own_config(command: str) -> str:
    """The text of a command's own config; "" where it has none."""
    path = conf_dir() / f"{command.replace(' ', '/')}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def value_of(key: str, line: list[str]) -> str | None:
    """The last value that the line gives to a key, without quotes; None when it gives none, or
    null."""
    found = [unquoted(o.partition("=")[2]) for o in line if key_of(o) == key and "=" in o]
    return found[-1] if found and found[-1] != "null" else None


def unquoted(text: str) -> str:
    """What Hydra reads from a word: without its quotes and, in front of a quote or of the end,
    without every second backslash."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    return re.sub(rf"(\\*)({text[0]}|\Z)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])


def quoted(text: str) -> str:
    """A word from which Hydra reads `text`: backslashes count double where a quote follows, or the
    end, and nowhere else."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"


def written_by(config: Path) -> None:
    """Raise UsageError where an older diffgeo, which put no version into its first line, wrote the
    config of a run folder; DiffgeoError where it is not what was written."""
    with config.open(encoding="utf-8") as file:
        first = file.readline()
    if not first.startswith("# diffgeo"):
        raise UsageError(
            f"{config.parent} is from an older diffgeo, whose classes had other names: make the "
            "run again, or read the folder with the diffgeo that made it"
        )
    verified(config)


def recorded(folder: str, line: list[str], option: str) -> list[str]:
    """The overrides that made the run `folder`, without those that the line sets again: a group
    that it chooses takes its keys along. Raises UsageError where it is no run folder, or where an
    override would do more than to choose or to set (`strangers`); DiffgeoError where they are not
    those that were written."""
    path = Path(folder) / "overrides.yaml"
    if not (Path(folder) / "config.yaml").is_file() or not path.is_file():
        raise UsageError(
            f"{option}={folder} is not a run folder (no config.yaml in it): write the folder that "
            "`diffgeo train` printed"
        )
    written_by(Path(folder) / "config.yaml")
    again = {key_of(o) for o in line if "=" in o or o.startswith("~")}
    words = words_of(path)
    made_with.check_replayed(Path(folder) / "config.yaml", words)
    kept = [o for o in words if stays(key_of(o), again)]
    check_replayed(path, kept)
    for override in kept:
        check_choice(override)
    verified(path)
    return kept


def check_choice(override: str) -> None:
    """Raise UsageError where the choice of a group leads out of the config folder."""
    group = re.split("[@=]", override.lstrip("+"))[0]
    value = override.partition("=")[2]
    folder = group.replace(".", "/")
    if ".." in value and any((conf / folder).is_dir() for conf in conf_folders()):
        raise UsageError(f"{override}: a choice is a name in conf/{group}, not a path: write one")


def stays(key: str, again: set[str]) -> bool:
    """Whether a recorded override of `key` counts beside a line that sets the keys `again`."""
    groups = {other for other in again if "." not in other}
    if key in again or key in ("resume", "run"):
        return False
    if "sampler" in groups and key != "schedule@sampler.schedule":
        if key.startswith(("schedule@sampler.", "sampler/")):
            return False  # a slot that only the old sampler has
    return key.split(".")[0] not in groups


def of_runs(folders: str, line: list[str]) -> list[str]:
    """What `recorded` gives for the runs A,B,... of a sweep: what they share, without what only
    their training or their surroundings were about. Raises UsageError when they differ in anything
    else, since one line cannot say what each of them needs."""

    def needed(folder: str) -> list[str]:
        kept = recorded(folder, line, "run")
        return [o for o in kept if key_of(o).split(".")[0] not in NOT_SHARED]

    lists = [needed(folder) for folder in folders.split(",")]
    for other in lists[1:]:
        if different := sorted(set(other) ^ set(lists[0])):
            raise UsageError(
                f"run={folders}: these runs differ in {key_of(different[0])}; write one sweep for "
                "each kind"
            )
    return lists[0]


def slot(value: str) -> str:
    """`sampler.schedule=value` as a choice of the group `schedule` in the sampler's slot."""
    if "(" in value:  # choice(a,b), glob(*), of a sweep: Hydra takes them apart
        return f"schedule@sampler.schedule={unquoted(value)}"
    there = choices("schedule")
    for choice in unquoted(value).split(","):
        if choice not in there:
            told = advice(choice, there, listing("schedule"))
            raise UsageError(f"sampler.schedule={value}: there is no schedule {choice}{told}")
    return f"schedule@sampler.schedule={unquoted(value)}"


def prepare(command: str, line: list[str]) -> list[str]:
    """The line as Hydra shall read it. Raises UsageError on a folder that is no run, or an option
    left empty."""
    sweep = multirun(line)
    flags, words = parted(line)
    groups = groups_of(*conf_folders())
    own = own_options(command)
    names = own | own_options("base") | {group.split("/")[0] for group in groups}
    names |= own_options("laws latents")  # which model=latent brings
    shapes.check(words, names, groups)
    words = [plural(word, list_options(command)) for word in words]
    if command != "restore" and value_of("data", words) == "texture":
        words = [of_texture(word) for word in words]
    words = contents.chosen(words, value_of("data.file", words))
    check(flags, words, groups)
    if not any(flag.startswith(DIRECTORIES) for flag in flags):
        check_added(command, words, names)
    out = [as_hydra_reads(word, sweep) for word in words]
    if not sweep:
        out = [bracketed(word, list_options(command)) for word in out]
    resumed = value_of("resume", out)
    if resumed and "resume" in own:
        out = recorded(resumed, out, "resume") + out + [f"hydra.run.dir={quoted(resumed)}"]
    folder = value_of("run", out)
    if folder and "run" in own:
        several = sweep and "," in folder
        known = of_runs(folder, out) if several else recorded(folder, out, "run")
        # a command that does not look at the run's own samples has no option for what they are
        # made of; one that compares several starts has a list of them
        foreign = set(STARTS) - (own - list_options(command))
        known = [o for o in known if key_of(o) not in foreign]
        check_kind(folder, map(key_of, known), names)
        out = known + out
    if law := law_of_experiment(command, out):
        out.insert(0, f"data={law}")
    if sweep and command == "sample" and value_of("figures", out) is None:
        out.append("figures=false")  # the sweep's own picture is compare.png
    if sweep and value_of("hydra.sweep.dir", out) is None:
        out.append(f"hydra.sweep.dir={sweep_folder(command, out)}")
    return flags + out


def law_of_experiment(command: str, line: list[str]) -> str | None:
    """The law that experiment=NAME chooses, where the command's own config chooses another: of two
    such choices Hydra takes the outer one, and the network of a run would meet another law."""
    name = value_of("experiment", line)
    here = any(key_of(word) == "data" for word in line)
    if name is None or here or "override /data:" not in own_config(command):
        return None
    file = find(f"experiment/{name}")
    if file is None:
        return None  # Hydra says so
    found = re.search(r"^ *- override /data: (\w+)", file.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else None


def check_added(command: str, words: list[str], known: set[str]) -> None:
    """Raise UsageError where the line adds, with +, an option that nothing will look at: Hydra
    takes any. What is added inside a node (+data.limit) is checked by what the node builds."""
    for word in words:
        first = re.split(r"[./@]", key_of(word))[0]
        if word.startswith("+") and first not in known:
            raise UsageError(no_option(first, command, words))


def as_hydra_reads(word: str, sweep: bool) -> str:
    """One override as Hydra shall read it: a schedule in the sampler's slot, a group inside a
    group, a path in quotes. Raises UsageError on a choice that leads out of its folder."""
    key, equals, value = word.partition("=")
    if not equals:
        return word
    check_choice(word)
    if key.lstrip("+") == "hydra.searchpath":
        for place in re.findall(r"[^\[\],'\"\s]+", value):
            check_directory(Path(place.removeprefix("file://")))
    if key == "sampler.schedule":
        return slot(value)
    if key.startswith(PREFIX):
        return f"{as_node(key)}={value}"
    group = key.replace(".", "/")
    if "." in key and find(f"{group}/{value}"):
        return f"{group}={value}"
    several = sweep and "," in value
    if key in PATHS and value != "null" and not several:
        return f"{key}={quoted(unquoted(value))}"
    return word


def plural(word: str, lists: set[str]) -> str:
    """The choice of a group, algorithm=[exact,diffpir], as the option of a command that takes a
    list of its choices, algorithms=[exact,diffpir]: Hydra would look for one choice."""
    key, equals, value = word.partition("=")
    return f"{key}s={value}" if equals and f"{key}s" in lists else word


def of_texture(word: str) -> str:
    """image=FILE beside data=texture, the option of the law. (`restore` has one of its own: what
    is restored.)"""
    key, equals, value = word.partition("=")
    return f"data.image={value}" if equals and key == "image" else word


def bracketed(word: str, lists: set[str]) -> str:
    """An option whose default is a list, typed with commas alone, as Hydra reads a list: against=
    exact,gaussian. (In a sweep commas part the jobs.)"""
    key, _, value = word.partition("=")
    if key not in lists or not re.fullmatch(r"[^\[\]{}()'\"]+", value) or value == "null":
        return word
    return f"{key}=[{value}]"


def sweep_folder(command: str, line: list[str]) -> str:
    """The folder of a sweep, named after what its jobs are, whichever launcher runs them."""
    jobs = [o for o in line if not o.startswith(("hydra/", "hydra."))]
    digest = hashlib.sha256("\0".join(jobs).encode()).hexdigest()[:10]
    return f"outputs/sweeps/{command.replace(' ', '_')}-{digest}"
