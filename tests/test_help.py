"""`--help` of every command in one screen, `diffgeo help`, `--version`, and what is said of words
that are not quite OPTION=VALUE. What help says of a line is held against what Hydra composes."""

import re
import shlex
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffgeo import __version__
from diffgeo.config import shapes
from diffgeo.config.catalogue import commands, split
from diffgeo.config.help import keys, manual, overview, screen
from diffgeo.config.help.annotated import kinds_of
from diffgeo.config.help.options import Option, of_choice, of_file, of_group, page
from diffgeo.config.line import prepare
from diffgeo.config.mistakes import no_option
from diffgeo.config.plugins import conf_dir
from diffgeo.errors import DiffgeoError, UsageError

# folders of conf/ whose files hold published numbers and cells of tables, and no options
TABLES = ("published", "reproduce")


# what the yaml files say


def test_the_options_of_a_file_are_read_with_their_comments(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "# @package _global_\n# what it is,\n# and for whom\n#\n# not this\n"
        "defaults:\n  - /schedule@schedule: vp    # why\n  - heun\n  - _self_\n"
        "_target_: diffgeo.sampler.Heun\n"
        "steps: 4       # of the\n               # grid\n"
        'list: [1, 2,\n  3]           # of a "#" kind\n'
        "text: 'a # b'\n"
        "node:          # a node\n  _target_: x.Y\n  inner: é     # inside\n"
        "braces: {_target_: x.Z, p: 1}    # one value\n"
    )
    assert of_file(path) == (
        Option("steps", "4", "of the grid"),
        Option("list", "[1, 2, 3]", 'of a "#" kind'),
        Option("text", "'a # b'", ""),
        Option("node", "", "a node"),
        Option("node.inner", "é", "inside"),
        Option("braces", "{_target_: x.Z, p: 1}", "one value"),
    )
    said = page(path)
    assert said.about == "what it is, and for whom"
    assert said.targets == {"": "diffgeo.sampler.Heun", "node": "x.Y"}
    assert [tuple(choice) for choice in said.choices] == [
        ("schedule", "schedule", "vp", "why"),
        ("", "", "heun", ""),
    ]
    (tmp_path / "torn.yaml").write_text("a: [1")
    with pytest.raises(DiffgeoError, match="torn.yaml is damaged"):
        of_file(tmp_path / "torn.yaml")


def test_a_choice_takes_options_and_comments_of_the_one_it_begins_with():
    unet = {option.key: option for option in of_choice("net", "unet").options}
    small = {option.key: option for option in of_choice("net", "unet_8").options}
    assert small.keys() == unet.keys() and small["channels"].default == "16"
    assert small["channels"].comment == unet["channels"].comment != ""
    assert small["attention"].comment == "the middle, 4 x 4, has it"  # its own goes first


def test_every_option_of_every_config_says_what_it_is():
    """An option without a comment of its own has that of the slot that it sets something in."""
    said = set()
    for slot, group in keys.slots().items():
        for choice in of_group(group).values():
            said |= {f"{slot}.{option.key}" for option in choice.options if option.comment}
    said |= {option.key for option in keys.base().options if option.comment} | set(keys.slots())
    silent = []
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.relative_to(conf_dir()).parent.as_posix()
        if group.split("/")[0] in TABLES:
            continue
        choice = page(path) if group == "." else of_choice(group, path.stem)
        for option in choice.options:
            if not option.comment and option.key not in said:
                silent.append(f"{path.relative_to(conf_dir())}: {option.key}")
    assert silent == []


# against Hydra

LINES = [
    pytest.param("train", marks=pytest.mark.slow),
    pytest.param("train data=cifar10", marks=pytest.mark.slow),
    "train experiment=curve_best sampler.schedule=vp",
    "train data=digits sampler=predictor_corrector sampler.corrector=ulmc",
    pytest.param("restore data=mnist", marks=pytest.mark.slow),
    "sample model=latent model.folder=x",
    pytest.param("sample model=exact data=texture sampler=rk45", marks=pytest.mark.slow),
    "theory gits sampler@teacher=heun",
    "trajectory distill",
]


def keys_of(node, prefix: str = "") -> set[str]:
    """The keys of a composed config, with dots; what is between braces in its file is one value
    there, and is left out."""
    found = set()
    for key in node:
        name = f"{prefix}{key}"
        if str(key).startswith("_") or name == "hydra":
            continue
        found.add(name)
        child = node._get_node(key)
        if OmegaConf.is_dict(child) and not child._is_none() and not child._is_interpolation():
            found |= keys_of(child, f"{name}.")
    return found


@pytest.mark.parametrize("line", LINES)
def test_what_help_knows_of_a_line_is_what_hydra_composes(line):
    name, words = split(line.split())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = prepare(name, words)
        config = compose(name.replace(" ", "/"), overrides, return_hydra_config=True)
    theirs = {}
    for key, choice in config.hydra.runtime.choices.items():
        group, _, slot = key.partition("@")
        if not group.startswith("hydra") and slot != "_global_":
            theirs[(slot or group).replace("/", ".")] = choice or "null"
    ours = {slot: choice.default for slot, choice in keys.chosen(name, words).items()}
    assert ours == theirs
    empty = {slot for slot, choice in ours.items() if choice in ("null", "curve_best")}
    known = {key for key in keys.keys(name, words) if not key.startswith("hydra")}
    assert known - empty == keys_of(config) - empty


# one screen


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_of_a_command_is_one_screen(name):
    text = screen.of(commands()[name])
    lines = text.splitlines()
    assert len(lines) <= screen.LINES and max(map(len, lines)) <= overview.WIDE
    assert text.startswith(f"diffgeo {name}: ")
    typed = [line for line in lines if line.startswith(f"  diffgeo {name}")]
    assert len(typed) >= screen.EXAMPLES
    if commands()[name].configured and not commands()[name].alone:
        assert "data=" in text and "sampler=" in text and "\n  seed " in manual.of([name])


def typed_words(example: list[str]) -> list[str]:
    """The words of an example, without what stands beside it and what it goes on with."""
    joined = " ".join(line.strip().rstrip("\\") for line in example)
    return shlex.split(re.split(r"\s{3,}", joined.strip())[0])[1:]


def test_every_example_is_a_line_that_there_is():
    """Its command, groups, choices and options exist. (Whether it runs is for the pages' tests.)"""
    count = 0
    for name, command in commands().items():
        for example in screen.examples(command):
            found, words = split(typed_words(example))
            assert found == name
            if not command.configured:
                continue
            count += 1
            words = [word for word in words if not word.startswith("-")]
            here = keys.keys(name, words)
            for word in words:
                key = word.partition("=")[0]
                slot = key.partition("@")[2] or key
                value = word.partition("=")[2]
                for choice in value.split(",") if "[" not in value else ():
                    if slot in keys.slots():
                        assert choice in of_group(keys.slots()[slot]), word
                plural = f"{key}s" in here  # algorithm=[exact,ddrm] of algorithms
                image = key == "image"  # of a texture
                drawing = key.startswith("figures.")
                assert slot in here or plural or image or drawing, (name, word)
    assert count > 60


def test_diffgeo_alone_names_every_command_in_one_screen():
    text = overview.usage()
    assert len(text.splitlines()) <= screen.LINES
    assert max(map(len, text.splitlines())) <= overview.WIDE
    for name in commands():
        first, _, second = name.partition(" ")
        assert f"\n  {first} " in text and second in text
        assert f"  {name}" in overview.family(first)


# diffgeo help


def test_help_of_a_choice_has_kind_default_and_comment_of_each_option():
    text = manual.of(["sampler=gradient_estimation"])
    row = next(line for line in text.splitlines() if "sampler.gamma" in line)
    assert row.split()[:5] == ["sampler.gamma", "2", "a", "number", "1"]
    assert "it chooses: sampler.schedule=plane" in text
    digits = manual.of(["data=digits"])
    assert "a list of whole numbers or null" in digits and "net=unet_8" in digits
    assert "schedule=images" in digits  # of laws/images
    curve = manual.of(["data=curve"])
    assert "data.first" in curve and "a number" in curve and "_target_" not in curve


def test_kinds_are_those_that_are_checked():
    """Of every choice of some groups: the kind in words is that of the refusal of a wrong value."""
    found = kinds_of(of_choice("trainer", "default"))
    assert found["steps"] == "a whole number" and found["lr"] == "a number"
    assert found["betas"] == "a list of 2 numbers" and found["compile"] == "true or false"
    assert kinds_of(of_choice("net", "unet"))["head"] == "a whole number or null"
    assert kinds_of(of_choice("data", "sphere"))["n"] == "a whole number"
    assert kinds_of(of_choice("sampler", "deis"))["interpolation"] == "a word"


def test_help_of_an_option_says_what_has_it():
    gamma = manual.of(["sampler.gamma"])
    assert gamma.startswith("sampler.gamma  1 is DDIM")
    assert "kind     a number" in gamma and "default  2  (sampler=gradient_estimation)" in gamma
    steps = manual.of(["trainer.steps"])
    assert "default  4000  (trainer=default)" in steps and "20000  (trainer=adam" in steps
    assert "every command" in manual.of(["n"]) and "diffgeo trajectory  " in manual.of(["n"])
    assert "by name: animation, " in manual.of(["figures"])
    assert manual.of(["figures.format"]).startswith("figures.format  png, svg, pdf")
    assert "loop.clip" in manual.of(["loop"])


def test_help_of_a_group_lists_its_choices_and_what_is_chosen_without_it():
    lines = manual.of(["sampler"]).splitlines()
    for name in of_group("sampler"):
        assert any(line.startswith(f"  {name} ") for line in lines)
    assert max(map(len, lines)) <= overview.WIDE
    assert any("without it: sampler=heun" in line for line in lines)
    assert "  langevin " in manual.of(["sampler/corrector"])
    both = manual.of(["data"])  # a group, and the first word of commands
    assert "  circle " in both and "data prepare" in both


def test_help_of_a_name_alone_finds_its_groups():
    assert manual.of(["heun"]).startswith("sampler=heun  ")
    both = manual.of(["exact"])
    assert "model=exact  " in both and "algorithm=exact  " in both
    for name, meant in (("smapler", "sampler"), ("trainer.setps", "trainer.steps"), ("lr", "lr")):
        with pytest.raises(UsageError, match=f"option {name}: did you mean .*{meant}"):
            manual.of([name])
    with pytest.raises(UsageError, match=r"no sampler=huen: did you mean heun\?"):
        manual.of(["sampler=huen"])


def test_help_and_version_on_the_command_line(inside, tmp_path):
    for words in (["--version"], ["-V"], ["train", "--version"]):
        assert inside(*words).stdout == f"diffgeo {__version__}\n"
    for words in (["train", "--help"], ["train", "data=nosuch", "-h"], ["train", "help"]):
        assert inside(*words).stdout == screen.of(commands()["train"]) + "\n"
    assert inside("theory").stdout == inside("theory", "--help").stdout
    assert inside("help", "sampler.gamma").stdout == inside("--help", "sampler.gamma").stdout
    assert inside("help", "train").stdout.startswith("`diffgeo train`: ")
    assert inside("help", "plugins").stdout.startswith("plugins  packages of yours")
    assert (
        inside().stdout == inside("help").stdout == inside("-h").stdout == f"{overview.usage()}\n"
    )
    wrong = inside("help", "sampelr")
    assert wrong.returncode == 2 and "did you mean sampler" in wrong.line
    assert "no flag --versoin: did you mean --version?" in inside("--versoin").line
    assert "no flag -x: a command stands first" in inside("-x").line
    assert list(tmp_path.iterdir()) == []


def test_help_imports_neither_hydra_nor_torch():
    code = (
        "import sys\nfrom diffgeo import cli\n"
        "for line in sys.argv[1:]: assert cli.answer(line.split()) == 0\n"
        "assert not {'hydra', 'omegaconf', 'torch', 'numpy'} & set(sys.modules)"
    )
    lines = ["train --help", "help", "help sampler", "help train", "--version", "compare -h"]
    done = subprocess.run([sys.executable, "-c", code, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# words that are not quite OPTION=VALUE

SHAPES = [
    ("data = curve", "data = curve: write data=curve, without spaces"),
    ("data =curve", "data =curve: write data=curve, without spaces"),
    ("data= curve", "data= curve: write data=curve, without spaces"),
    ("seed=0, 1, 2 n=5", "seed=0, 1, 2: write seed=0,1,2, without spaces"),
    ("eta=[.1, .2]", "eta=[.1, .2]: write eta=[.1,.2], without spaces"),
    ("data=curve,model=cem", "data=curve,model=cem: write data=curve model=cem, with spaces"),
    ("data:curve", "'data:curve' sets nothing: write data=curve"),
    ("data/curve", "'data/curve' sets nothing: write data=curve"),
    ("data curve", "'data' sets nothing: write data=curve"),
    ("n 100", "'n' sets nothing: write n=100"),
    ("data", "'data' sets nothing: write data=CHOICE (`diffgeo help data`)"),
    ("curve", "'curve' sets nothing: did you mean data=curve?"),
    ("cruve", "'cruve' sets nothing: did you mean data=curve?"),
    ("exact", "'exact' sets nothing: did you mean model=exact or algorithm=exact?"),
    ("nosuchword", "'nosuchword' sets nothing: write OPTION=VALUE, or a flag with --"),
    ("--data curve", "there is no flag --data: an option has no dashes, write data=curve"),
    ("--data=curve", "there is no flag --data: an option has no dashes, write data=curve"),
    ("-data=curve", "there is no flag -data: an option has no dashes, write data=curve"),
    ("-n 5", "there is no flag -n: an option has no dashes, write n=5"),
    ("--mulitrun n=1,2", "there is no flag --mulitrun: did you mean --multirun?"),
]


@pytest.mark.parametrize("line, says", SHAPES, ids=[line for line, _ in SHAPES])
def test_what_is_not_quite_an_override_is_told_what_to_write(line, says):
    with pytest.raises(UsageError) as told:
        prepare("train", line.split())
    assert str(told.value).startswith(says)


def test_a_run_folder_alone_and_a_word_with_spaces_are_told_what_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/cem").mkdir(parents=True)
    with pytest.raises(UsageError, match="did you mean run="):
        prepare("sample", ["runs/cem"])
    (tmp_path / "runs/cem/config.yaml").touch()
    with pytest.raises(UsageError, match="'runs/cem' sets nothing: write run=runs/cem$"):
        prepare("sample", ["runs/cem"])
    with pytest.raises(UsageError, match="data = curve: write data=curve, without spaces"):
        prepare("train", ["data = curve"])


def test_lines_that_are_right_are_left_alone():
    for words in (
        ["run=a folder, with =", "data.points=[[1, 2], [3, 4]]", "~data.x", "+a.b=c"],
        ["weighting.expression='1/(exp(t)-1)'", "a={b: 1, c: 2}", "seed=0,1", "label=all"],
        ["run=ends, in a comma,", "n=5"],
    ):
        shapes.check(words, {"run", "n"}, {})


OPTIONS = [
    ("train", "smapler", ": did you mean sampler?"),
    ("train", "trainer.setps", ": did you mean trainer.steps?"),
    ("train", "lr", ": did you mean trainer.lr?"),
    ("train", "sampler.sigma_min", ": did you mean sampler.schedule.sigma_min?"),
    ("train", "sampler.gamma", " here: it is one of sampler=gradient_estimation (`diffgeo help"),
    ("sample", "resume", " here: it is one of diffgeo train (`diffgeo help resume`)"),
    ("train", "data.nosuch", "; `diffgeo help data=curve` lists those that there are"),
    ("train", "nosuch", "; `diffgeo help train` lists those that there are"),
]


@pytest.mark.parametrize("command, key, says", OPTIONS)
def test_an_unknown_option_is_told_what_it_was_meant_to_be(command, key, says):
    assert no_option(key, command, []).startswith(f"there is no option {key}{says}")
