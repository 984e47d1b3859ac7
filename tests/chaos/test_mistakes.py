"""Every mistake is one clear line and the right status, soon and small, and nothing is written."""

import pytest
from forks import content
from mistakes import MISTAKES

SECONDS = 5.0  # of the processor
BYTES = 1 << 30
SHORT = 13  # every so many in every run, the others in the long suite


def cases() -> list:
    found = []
    for number, mistake in enumerate(MISTAKES):
        marks = [] if number % SHORT == 0 else [pytest.mark.slow]
        found.append(pytest.param(*mistake, id=mistake[0], marks=marks))
    return found


@pytest.mark.parametrize("line, status, word", cases())
def test_a_mistake_is_one_line(forks, inputs, work, line, status, word):
    before = sorted(inputs.rglob("*"))
    done = forks.run(line.replace("{in}", str(inputs)), work)
    assert done.status == status and word in done.complaint, done.told
    assert done.cpu_s < SECONDS and done.resident < BYTES, (done.cpu_s, done.resident, done.told)
    assert not list(work.rglob("*")), f"left behind: {sorted(content(work))}\n{done.told}"
    assert sorted(inputs.rglob("*")) == before


def test_the_table_is_long_and_has_no_line_twice():
    lines = [line for line, _, _ in MISTAKES]
    assert len(lines) >= 150 and len(set(lines)) == len(lines)
