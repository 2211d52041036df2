"""Which trials are trained again, and by which study: the one already begun, as long as the best are the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marsseg.config import ExperimentConfig
from marsseg.jobs.confirm import chosen, find_begun
from marsseg.jobs.settings import StudySettings
from marsseg.search.ledger import Ledger
from marsseg.search.state import SearchState, Trial, TrialState
from tests.jobs.toy_study import build_settings


def confirming(**values: Any) -> StudySettings:
    config = ExperimentConfig().with_values(values)
    configs = {"trial-4": config.model_dump(mode="json")}
    return build_settings(name="rover-confirm-1x3", kind="training", confirms="rover", configs=configs)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def test_the_best_are_trained_again_though_a_scheduler_let_only_one_complete() -> None:
    stopped, completed = TrialState.STOPPED, TrialState.COMPLETED
    scores = [(stopped, 0.4), (completed, 0.5), (stopped, 0.6), (TrialState.FAILED, 0.7), (TrialState.REJECTED, None)]
    trials = (Trial(n, {}, state, best_val_mean_iou=score) for n, (state, score) in enumerate(scores))
    state = SearchState(tuple(trials), closed=True)
    assert [trial.number for trial in chosen(state, 2)] == [1, 2]
    assert [trial.number for trial in chosen(state, 9)] == [1, 2, 0]


@pytest.mark.parametrize(("sizes", "expected"), [((95, 90, 10), [1, 2, 0]), ((0, 0, 0), [1, 0, 2])])
def test_the_front_comes_first_then_the_others_by_score(sizes: tuple[int, ...], expected: list[int]) -> None:
    trials = [
        Trial(n, {}, TrialState.COMPLETED, sizes={"params": size} if size else {}, best_val_mean_iou=score)
        for n, (size, score) in enumerate(zip(sizes, (0.5, 0.6, 0.4), strict=True))
    ]
    stopped = Trial(3, {}, TrialState.STOPPED, sizes={"params": 1}, best_val_mean_iou=0.9)
    assert [trial.number for trial in chosen(SearchState((*trials, stopped)), 3)] == expected


def test_nothing_was_begun(ledger: Ledger) -> None:
    assert find_begun(ledger, confirming()) == (confirming(), False)


def test_it_goes_on_with_data_and_server_where_they_are_now(ledger: Ledger) -> None:
    begun = replace(confirming(**{"data.source": "/old.npz"}), note="mine", tracking_uri="http://old")
    ledger.create_search("rover-confirm-1x3", begun.to_dict())
    moved = replace(confirming(**{"data.source": "/new.npz"}), tracking_uri="http://new")
    assert find_begun(ledger, moved) == (replace(moved, note="mine"), True)


def test_other_best_ones_are_another_study(ledger: Ledger) -> None:
    first, second = (confirming(**{"model.num_blocks": blocks}) for blocks in (3, 5))
    ledger.create_search(first.name, first.to_dict())
    study, is_begun = find_begun(ledger, second)
    assert (study, is_begun) == (replace(second, name="rover-confirm-1x3-2"), False)
    ledger.create_search(study.name, study.to_dict())
    assert find_begun(ledger, second) == (study, True)
