"""A driver killed at every write of a search, before it and after it, whoever proposes and whoever gives epochs."""

from pathlib import Path

import pytest

from marsseg.search.schedulers import SCHEDULERS
from tests.jobs.kill_walk import ENGINES, walk


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_killed_at_any_write_goes_on_to_the_same_ledger(engine: str, scheduler: str, tmp_path: Path) -> None:
    assert walk(tmp_path, engine, scheduler, stride=1, remember_proposals=False) > 80
