"""Nothing runs that a folder, a config directory or a file brought along, nothing of the reader's
is removed or written over, and no secret leaves the environment."""

import pickle
import shutil
from pathlib import Path

import pytest
from forks import Done, Forks
from strangers import DIRECTORIES, FILES, FOLDERS, LINES, SECRETS, payload

SECONDS = 5.0
BYTES = 1 << 30
PRECIOUS = "what the reader wants to keep\n"


@pytest.fixture
def place(work):
    """Where a stranger's thing lies, with something of the reader's beside it."""
    (work / "victim").mkdir()
    (work / "victim" / "precious.txt").write_text(PRECIOUS)
    return work


def leaks(root: Path) -> list[str]:
    """Every secret and where it was found below a folder."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            held = path.read_bytes()
            found += [f"{path}: {name}" for name, text in SECRETS.items() if text.encode() in held]
    return found


def expect_harmless(done: Done, place: Path, forks: Forks) -> None:
    assert not (place / "CANARY").exists(), f"it ran: {done.told}"
    victim = place / "victim"
    kept = victim.is_dir() and [path.name for path in victim.iterdir()] == ["precious.txt"]
    assert kept and (victim / "precious.txt").read_text() == PRECIOUS, done.told
    assert not leaks(place) and not leaks(forks.home), (leaks(place), done.told)
    assert not any(text in done.out + done.err for text in SECRETS.values()), done.told
    assert done.cpu_s < SECONDS and done.resident < BYTES, (done.cpu_s, done.resident, done.told)
    if done.status:
        assert done.status in (1, 2) and done.complaint


def folders():
    """Every folder with every command; every second folder with one of them in every run."""
    for number, name in enumerate(FOLDERS):
        for position, line in enumerate(LINES):
            quick = number % 2 == 0 and position == number // 2 % 4
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, line, id=f"{name}-{line.split(' ')[0]}", marks=marks)


@pytest.mark.parametrize("name, line", list(folders()))
def test_a_run_folder_is_data(forks, inputs, place, name, line):
    folder = place / "gift"
    shutil.copytree(inputs / "run", folder)
    (folder / "provenance.json").unlink()  # or its digests would refuse what is to be judged
    FOLDERS[name](folder, place)
    done = forks.run(line.format(folder=folder), place, **SECRETS)
    expect_harmless(done, place, forks)


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_config_directory_builds_what_is_ours(forks, place, name):
    done = forks.run(DIRECTORIES[name](place / "directory", place), place, **SECRETS)
    assert done.status == 2, done.told
    expect_harmless(done, place, forks)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_numbers(forks, place, name):
    done = forks.run(FILES[name](place), place, **SECRETS)
    assert done.status in (1, 2), done.told
    expect_harmless(done, place, forks)


def test_the_canary_sings(place):
    """The payload is live: unpickled, it does make the file."""
    pickle.loads(payload(place))
    assert (place / "CANARY").exists()
