"""Samplers alone and simulated workers, on a few recorded curves; a search with a formula in place of training."""

from pathlib import Path

import pytest

from benchmarks import search_overhead, search_samplers, search_workers
from benchmarks.replay.curves import final_score, load_curves
from benchmarks.search_replay import CURVES
from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.simulation import Curve
from marsseg.search.state import TrialState, replay


@pytest.fixture(scope="module")
def curves() -> list[Curve]:
    return load_curves(CURVES)


def test_a_recorded_configuration_is_nearest_to_itself(curves: list[Curve]) -> None:
    recorded = [curve.values for curve in curves]
    for place in (0, len(recorded) - 1):
        assert search_samplers.nearest(recorded[place], recorded) == place
    # A slightly larger value leads to no other configuration; a field that was not recorded does not count.
    rate = "optimizer.learning_rate"
    alike = {**recorded[3], rate: recorded[3][rate] * 1.01, "training.max_epochs": 27}
    assert search_samplers.nearest(alike, recorded) == 3


def test_regret_after_more_proposals_is_not_larger(curves: list[Curve]) -> None:
    regrets = [search_samplers.search(curves, "optuna", "random", seed) for seed in range(4)]
    assert all(found == sorted(found, reverse=True) and found[-1] >= 0 for found in regrets)
    assert max(first for first, *_ in regrets) > 0
    assert search_samplers.search(curves, "optuna", "random", 0) == regrets[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_more_workers_end_sooner_but_not_sooner_than_one_training(scheduler: str, curves: list[Curve]) -> None:
    times, regrets = zip(
        *(search_workers.search(curves, scheduler, workers, seed=0, trials=12) for workers in (1, 4)), strict=True
    )
    cheapest = min(27 * curve.cost.epoch for curve in curves) / max(27 * c.cost.epoch + c.cost.start for c in curves)
    assert cheapest < times[1] < times[0] <= 12.01
    assert all(0 <= regret < max(map(final_score, curves)) for regret in regrets)
    if scheduler == "none":
        assert times[0] == pytest.approx(12)
        assert regrets[0] == 0


def test_a_search_without_training_starts_every_trial_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_overhead, "NUM_TRIALS", 8)
    home = Home(tmp_path / "home")
    starts = search_overhead.search_ours(home, "random")
    assert len(starts) == 8
    assert starts == sorted(starts)
    state = replay(Ledger(home.ledger).events(search_overhead.NAME))
    assert state.closed
    assert state.in_state(TrialState.COMPLETED)
    assert not state.in_state(TrialState.FAILED)
    assert search_overhead.resume_ours(home) > 0
