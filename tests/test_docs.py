"""The pages: every command that they tell a reader to type is there, with its groups and options
(fast), and does what it says (slow: those that are not marked as long); every link leads somewhere;
the site builds without a warning."""

import re
import subprocess
import sys

import pytest
from here import run_here
from pages import ROOT, Fence, commands_in, fences, outside, pages
from typed import wrong

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
WRITTEN = re.compile(r"conf/([\w/]+)\.yaml|lab/([\w/]+)\.yaml")


def shell_fences() -> list[Fence]:
    found = []
    for page in pages():
        found += [fence for fence in fences(page) if fence.info in ("sh", "sh long")]
    return found


def written_by(page) -> set[str]:
    """The choices, group/name, that a page has its reader write in a file of his own."""
    text = page.read_text(encoding="utf-8")
    return {first or second for first, second in WRITTEN.findall(text)}


def test_every_command_is_there():
    problems = []
    for fence in shell_fences():
        made = written_by(fence.page)
        for words in commands_in(fence):
            if problem := wrong(words, made):
                problems.append(f"{fence}: {' '.join(words)}: {problem}")
    assert problems == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("diffgeo trian model=cem", "there is no command trian"),
        ("diffgeo train model=cem data=curvee", "there is no data=curvee"),
        ("diffgeo train -m sampler=heun,euler2", "there is no sampler=euler2"),
        ("diffgeo train model=cem curve", "curve sets nothing"),
        ("diffgeo sample smapler.steps=3", "sample has no option smapler"),
        ("diffgeo sample sampler=heun sampler.setps=3", "no sampler has an option setps"),
        ("diffgeo sample sampler=heun sampler.gamma=2", "no sampler has an option gamma"),
        ("diffgeo sample sampler.schedule=karas", "there is no schedule=karas"),
        ("diffgeo reproduce cem/lines", "there is no table cem/lines"),
        ("diffgeo compare A bye=flow/rms", "compare does not speak of bye="),
        ("diffgeo help samplr", "help of nothing: samplr"),
        ("diffgeo help sampler.gama", "help of nothing: sampler.gama"),
        ("torchrun -m diffgeo trian", "there is no command trian"),
        ("make demos", "make has no demos"),
        ("pip install 'diffgeo[sweeps]'", "there is no extra sweeps"),
        ("python scripts/nothing.py", "there is no scripts/nothing.py"),
        ("difgeo train", "no command of ours, and none that is known: difgeo"),
    ],
)
def test_a_mistyped_command_is_found(line, problem):
    [words] = commands_in(Fence(ROOT / "README.md", 1, "sh", line))
    assert wrong(words) == problem


def test_commands_stand_in_marked_fences():
    """Where a test finds them: in ```sh or ```sh long, not in plain or indented blocks."""
    unmarked = []
    for page in pages():
        for fence in fences(page):
            begun = [line for line in fence.text.splitlines() if line.startswith("diffgeo ")]
            if begun and fence.info not in ("sh", "sh long", "text"):
                unmarked.append(f"{fence}: {begun[0]}")
        indented = [line for line in outside(page) if line.startswith("    diffgeo ")]
        unmarked += [f"{page.name}: {line}" for line in indented]
    assert unmarked == []


def headings(page) -> set[str]:
    """The anchors of a page: its headings as a code-hosting site writes them."""
    found = set()
    for line in outside(page):
        if line.startswith("#"):
            words = re.sub(r"[`*]", "", line.lstrip("#").strip()).lower()
            found.add(re.sub(r"[^\w -]", "", words).replace(" ", "-"))
    return found


def test_every_link_leads_somewhere():
    """Files beside the page, and headings in them; pages of docs/ link to docs/ alone, since the
    site has nothing else."""
    broken = []
    for page in pages():
        for target in LINK.findall("\n".join(outside(page))):
            if target.startswith(("http://", "https://")):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.is_file():
                broken.append(f"{page.name}: {target}")
            elif anchor and anchor not in headings(file):
                broken.append(f"{page.name}: {target}, no such heading")
            elif "docs" in page.parts and ROOT / "docs" not in file.parents:
                broken.append(f"{page.name}: {target} leads out of docs/")
    assert broken == []


def test_every_picture_is_shown():
    """None lies in docs/ that no page shows, by the name that it has from there."""
    shown = "".join(page.read_text(encoding="utf-8") for page in pages())
    forgotten = []
    for picture in sorted((ROOT / "docs").rglob("*.*")):
        place = picture.relative_to(ROOT / "docs").as_posix()
        if picture.suffix in (".png", ".gif", ".svg") and f"]({place})" not in shown:
            forgotten.append(place)
    assert forgotten == []


def pages_that_run() -> list:
    found = []
    for page in pages():
        if page.name in PYTHON or any(fence.info == "sh" for fence in fences(page)):
            name = page.relative_to(ROOT).as_posix()
            found.append(pytest.param(page, id=name))
    return found


WHOLE = ("tutorial.md",)  # its long commands too: the short ones need their folders
PYTHON = ("README.md", "tutorial.md", "data.md")  # that of other pages has tests of its own


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_that_run())
def test_commands_run(page, tmp_path, monkeypatch, capsys):
    """A page from top to bottom, in one folder: what it has its reader write is written, its
    Python and its commands are run."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    scope: dict = {}
    for number, fence in enumerate(fences(page)):
        if fence.info == "yaml" and (named := named_file(page, fence)):
            file = tmp_path / named
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(fence.text, encoding="utf-8")
        elif fence.info == "python" and page.name in PYTHON:
            monkeypatch.chdir(tmp_path)
            exec(compile(fence.text, f"{page.name}, fence {number}", "exec"), scope)
        elif fence.info == "sh" or (fence.info == "sh long" and page.name in WHOLE):
            for words in commands_in(fence):
                if words[0] == "diffgeo":
                    status = run_here(tmp_path, words[1:])
                    assert status == 0, (str(fence), words, capsys.readouterr().err)


def named_file(page, fence: Fence) -> str | None:
    """The file that the lines above a yaml fence name: `lab/experiment/NAME.yaml`."""
    above = page.read_text(encoding="utf-8").splitlines()[: fence.line - 1]
    found = re.findall(r"`(lab/[\w/]+\.yaml)`", "\n".join(above[-4:]))
    return found[-1] if found else None


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """Strictly: a broken link, a page that is missing or named twice is an error. What is generated
    says what conf/ says."""
    pytest.importorskip("material", reason="the site needs pip install 'diffgeo[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sampler = (tmp_path / "reference" / "sampler.html").read_text(encoding="utf-8")
    assert 'id="gradient_estimation"' in sampler and "gamma" in sampler
    commands = (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    assert 'id="diffgeo-theory-orders"' in commands
    outside_links = re.findall(r'(?:src|href)="(https?://[^"]+)"', sampler)
    loaded = [link for link in outside_links if not link.startswith("https://diffgeo.example")]
    assert [link for link in loaded if link.endswith((".js", ".css", ".woff2"))] == []
