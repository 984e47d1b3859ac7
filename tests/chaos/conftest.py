"""What the tests of this folder share: the warm process, the things that lines are given, and an
empty folder for each."""

import pytest
from forks import Forks, fresh
from inputs import make_inputs


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    warm = Forks(tmp_path_factory.mktemp("home"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def inputs(forks, tmp_path_factory):
    """A folder of good and of bad files, and of a trained run; nobody writes in it."""
    return make_inputs(forks, tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def work(tmp_path):
    return fresh(tmp_path / "work")
