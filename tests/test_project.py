"""What a stranger meets before the code: metadata, licence, citation, changelog, hosted CI. What
two files say of one thing is the same in both; the dependencies are those that the code imports."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import ROOT

import diffgeo

PACKAGE = Path(diffgeo.__file__).parent
# what is imported under another name than it is installed by
IMPORTED_AS = {
    "hydra-core": "hydra",
    "torch-fidelity": "torch_fidelity",
    "typing_extensions": "typing_extensions",
    "pillow": "PIL",
    "POT": "ot",
}
IMPORT = re.compile(
    r"^ *(?:import ([a-zA-Z]\w*)[\w.]*(?: as \w+)?|from (\w+)[\w.]* import .+)$", re.M
)
NEEDED = re.compile(r'\bneeded\(\s*f?"(\w+)')  # imported when used, named when missing


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def plain_yaml(name: str) -> dict:
    """A yaml file whose tags are of no interest: MkDocs's Python names."""
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def latest() -> tuple[str, str]:
    """Version and date of the newest section of CHANGELOG.md."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)
    return found[1], found[2]


def test_one_version():
    citation = read_yaml("CITATION.cff")
    assert latest() == (diffgeo.__version__, str(citation["date-released"]))
    assert str(citation["version"]) == diffgeo.__version__
    assert project()["dynamic"] == ["version"]  # pyproject.toml has no second one


def test_one_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c)")
    assert project()["license"] == read_yaml("CITATION.cff")["license"] == "MIT"
    for name in project()["license-files"]:
        assert (ROOT / name).is_file()


def test_one_address():
    urls = project()["urls"]
    citation = read_yaml("CITATION.cff")
    site = plain_yaml("mkdocs.yml")
    assert citation["url"] == urls["Homepage"]
    assert citation["repository-code"] == urls["Repository"] == site["repo_url"]
    assert site["site_url"] == urls["Documentation"]


def test_a_citation_can_be_read():
    """The keys that version 1.2.0 of the format asks for, and the values it admits."""
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert [author["name"] for author in citation["authors"]] == [project()["authors"][0]["name"]]
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


# dependencies


def module_of(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)[0]
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def imported(path: Path) -> set[str]:
    """The packages that a module imports, at its top or inside a function."""
    text = path.read_text(encoding="utf-8")
    found = {first or second for first, second in IMPORT.findall(text)}
    return found | set(NEEDED.findall(text))


@pytest.fixture(scope="module")
def strangers() -> set[str]:
    """The packages of others that diffgeo imports."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found |= imported(path)
    return found - set(sys.stdlib_module_names) - {"diffgeo", "__future__"}


def test_what_is_imported_is_required(strangers):
    """Of the base install or of an extra."""
    extras = project()["optional-dependencies"]
    known = {module_of(requirement) for requirement in project()["dependencies"]}
    for name in set(extras) - {"dev", "docs"}:
        known |= {module_of(requirement) for requirement in extras[name]}
    # what torch and Hydra bring and cannot be without
    assert strangers - known <= {"yaml", "antlr4", "packaging"}


def test_what_is_required_is_imported(strangers):
    """Nothing is installed for the tests alone: torch-fidelity, say, is for a command."""
    required = {module_of(requirement) for requirement in project()["dependencies"]}
    assert required - strangers == set()


def test_the_tools_bring_every_extra():
    """make setup installs what the tests of the extras need."""
    extras = project()["optional-dependencies"]
    brought = re.match(r"diffgeo\[([\w,]+)\]", extras["dev"][0])[1].split(",")
    assert set(extras) - {"dev", "docs"} == set(brought)


# hosted CI


def jobs() -> dict:
    return read_yaml(".github/workflows/ci.yml")["jobs"]


def test_hosted_tests_are_on_every_system_and_python():
    matrix = jobs()["tests"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: 3."
    classified = [c.rpartition(" ")[2] for c in project()["classifiers"] if c.startswith(prefix)]
    assert matrix["python"] == classified == ["3.11", "3.12", "3.13"]
    assert project()["requires-python"] == f">={classified[0]}"
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}


def test_hosted_steps_are_commands_that_there_are():
    """Every make target and every test file of the workflows; the wheel is tried by the line that
    the README begins with."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    typed = []
    for name in ("ci.yml", "slow.yml"):
        for job in read_yaml(f".github/workflows/{name}")["jobs"].values():
            typed += [step["run"] for step in job["steps"] if "run" in step]
    asked = {target for run in typed for target in re.findall(r"\bmake ([a-z-]+)", run)}
    assert {"setup", "lint", "test", "docs", "test-slow"} <= asked <= targets
    for file in re.findall(r"tests/\w+\.py", " ".join(typed)):
        assert (ROOT / file).is_file()
    wheel = " ".join(step.get("run", "") for step in jobs()["wheel"]["steps"])
    assert "python -m build" in wheel and 'diffgeo" train model=cem data=curve' in wheel


def test_hooks_before_a_commit_are_the_lint_of_make():
    hooks = [
        hook for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    entries = [hook["entry"] for hook in hooks]
    for tool in ("ruff check", "ruff format --check", "mypy"):
        assert any(entry.startswith(f".venv/bin/{tool}") for entry in entries)
    for file in re.findall(r"tests/\w+\.py", " ".join(entries)):
        assert (ROOT / file).is_file()
