"""A driver killed at every write of a search, before it and after it, with every engine and every scheduler."""

from dataclasses import replace
from pathlib import Path

import pytest

from marsseg.search.schedulers import SCHEDULERS
from tests.jobs.kill_walk import ENGINES, search_of, search_that_measures, walk


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_killed_at_any_write_goes_on_to_the_same_ledger(engine: str, scheduler: str, tmp_path: Path) -> None:
    assert walk(tmp_path, search_of(engine, scheduler), stride=1, remember_proposals=False) > 80


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_measures_steps_killed_at_any_write_goes_on_to_the_same_ledger(
    workers: int, tmp_path: Path
) -> None:
    settings = replace(search_that_measures(), workers=workers)
    assert walk(tmp_path, settings, stride=1, remember_proposals=False) > 80


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize(("scheduler", "workers"), [("freeze-thaw", 2), ("asha", 3)])
def test_a_search_of_several_workers_killed_at_any_write_goes_on_to_the_same_ledger(
    scheduler: str, workers: int, tmp_path: Path
) -> None:
    assert walk(tmp_path, search_of("optuna", scheduler, workers=workers), stride=1, remember_proposals=False) > 80
