"""A driver killed at some writes of a search, for every engine and scheduler; `make drill` covers all writes."""

from pathlib import Path

import pytest

from marsseg.search.schedulers import SCHEDULERS
from tests.jobs.kill_walk import ENGINES, search_of, search_that_measures, walk

STRIDE = 23
# Keras Tuner takes longer to propose.
STRIDES = {"optuna": STRIDE, "keras-tuner": 2 * STRIDE}


@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_killed_at_a_write_goes_on_to_the_same_ledger(engine: str, scheduler: str, tmp_path: Path) -> None:
    assert walk(tmp_path, search_of(engine, scheduler), STRIDES[engine], remember_proposals=True) > 80


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_search_with_several_objectives_killed_at_a_write_goes_on_to_the_same_ledger(tmp_path: Path) -> None:
    settings = search_of("optuna", "asha", objectives=("val_mean_iou", "params", "flops"))
    assert walk(tmp_path, settings, STRIDE, remember_proposals=True) > 80


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_search_that_measures_steps_killed_at_any_write_goes_on_to_the_same_ledger(tmp_path: Path) -> None:
    assert walk(tmp_path, search_that_measures(), stride=13, remember_proposals=True) > 80


@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize(("scheduler", "workers"), [("freeze-thaw", 2), ("asha", 3)])
def test_a_search_of_several_workers_killed_at_a_write_goes_on_to_the_same_ledger(
    scheduler: str, workers: int, tmp_path: Path
) -> None:
    assert walk(tmp_path, search_of("optuna", scheduler, workers=workers), STRIDE, remember_proposals=True) > 80
