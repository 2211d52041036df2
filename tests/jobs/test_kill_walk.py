"""A driver killed at some writes of a search; `make drill` covers all writes, with every engine and every scheduler."""

from pathlib import Path

import pytest

from marsseg.search.schedulers import SCHEDULERS
from tests.jobs.kill_walk import search_of, search_that_measures, walk

STRIDE = 23


@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_search_killed_at_a_write_goes_on_to_the_same_ledger(scheduler: str, tmp_path: Path) -> None:
    assert walk(tmp_path, search_of("optuna", scheduler), STRIDE, remember_proposals=True) > 80


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_search_of_keras_tuner_killed_at_a_write_goes_on_to_the_same_ledger(tmp_path: Path) -> None:
    # It takes longer to propose.
    assert walk(tmp_path, search_of("keras-tuner", "freeze-thaw"), 2 * STRIDE, remember_proposals=True) > 80


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
