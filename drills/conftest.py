"""Fixtures and options of the drills."""

import pytest

from tests.conftest import marsexp as marsexp
from tests.conftest import no_waiting_for_the_disk as no_waiting_for_the_disk


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--kills 20` for a shorter drill."""
    parser.addoption("--kills", type=int, default=100, help="how many times a search is killed")


@pytest.fixture
def num_kills(request: pytest.FixtureRequest) -> int:
    """How many times a search is killed."""
    return int(request.config.getoption("--kills"))
