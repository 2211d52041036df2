"""Full training, and stopping below the median of earlier trials: their laws, and how far each trial gets."""

import statistics

import pytest

from marsseg.search.scheduler import Scheduler
from marsseg.search.state import TrialState
from marsseg.search.stopping import FullTraining, MedianStopping
from tests.search.scheduler_laws import BUDGET, RUNGS, SchedulerLaws, Simulation, random_qualities


class TestFullTraining(SchedulerLaws):
    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return FullTraining(RUNGS)

    def test_trains_everything_to_the_end_in_one_segment(self, simulation: Simulation) -> None:
        assert not simulation.promotions()
        assert {trial.epochs for trial in simulation.state.in_state(TrialState.COMPLETED)} == {27}


class TestMedianStopping(SchedulerLaws):
    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return MedianStopping(RUNGS)

    def test_goes_on_only_with_what_is_not_worse_than_the_median_of_those_before(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            if trial.epochs:
                assert segment.until == trial.epochs + RUNGS.min_epochs
                before = [t.score_at(trial.epochs) for t in state.trials[: trial.number] if t.reached(trial.epochs)]
                assert len(before) < 5 or trial.score >= statistics.median(before)

    def test_the_best_of_clear_curves_wins(self, scheduler: Scheduler, workers: int) -> None:
        qualities = random_qualities(5)
        winner = Simulation(scheduler, qualities, workers).run().state.winner
        assert winner is not None
        assert qualities[winner.number] == max(qualities[:BUDGET])

    def test_where_each_is_worse_than_the_one_before_only_five_are_trained_in_full(self, scheduler: Scheduler) -> None:
        state = Simulation(scheduler, range(400, 0, -1)).run().state
        assert [trial.epochs for trial in state.trials] == [27] * 5 + [3] * 25
