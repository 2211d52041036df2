"""Freeze-thaw: its laws, what it spends, and which trial it starts or resumes next."""

import math
from dataclasses import replace

import pytest

from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import RunSegment, Scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost, SearchState, Trial, TrialState
from tests.search.scheduler_laws import BUDGET, COST, RUNGS, SchedulerLaws, Simulation, random_qualities


class TestFreezeThaw(SchedulerLaws):
    # Each decision takes milliseconds, and every search spends the same.
    simulations = 2

    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return FreezeThaw(RUNGS)

    def test_a_new_trial_is_paused_at_the_first_rung_and_no_other_goes_more_than_twice_as_far(
        self, simulation: Simulation
    ) -> None:
        for state, segment in simulation.segments():
            epochs = state.trials[segment.trial].epochs
            if epochs == 0:
                assert segment.until == RUNGS.min_epochs
            elif state.num_started < BUDGET or state.in_state(TrialState.COMPLETED):
                assert segment.until <= 2 * epochs

    def test_spends_three_tenths_of_full_training(self, simulation: Simulation) -> None:
        starts = sum(trial.starts for trial in simulation.state.trials)
        spent = simulation.state.epochs_spent * COST.epoch + starts * COST.start
        assert 0.24 < spent / (BUDGET * (RUNGS.max_epochs * COST.epoch + COST.start)) < 0.31

    def test_a_poor_trial_that_stops_early_takes_nothing_from_the_leader(self, scheduler: Scheduler) -> None:
        qualities = [1, *random_qualities(3)[1:]]
        state = Simulation(scheduler, qualities, stops_early=frozenset({0})).run().state
        assert state.trials[0].state is TrialState.COMPLETED
        assert state.winner is not None
        assert all(trial.score <= state.winner.score for trial in state.trials if trial.scores)

    @pytest.mark.parametrize("seed", range(5))
    def test_one_of_the_best_of_clear_curves_wins_wherever_it_comes(self, scheduler: Scheduler, seed: int) -> None:
        shape = [0.3 + 0.7 * math.log(epoch) / math.log(27) for epoch in range(1, 28)]
        qualities = [0.2 + quality / 1000 for quality in random_qualities(seed)[:BUDGET]]
        curves = [Curve(tuple(quality * part for part in shape), Cost(1.0, 0.5)) for quality in qualities]
        *_, last = simulate(scheduler, curves, BUDGET)
        winner = last.state.winner
        assert winner is not None
        assert qualities[winner.number] >= max(qualities) - 0.02

    def test_a_limit_on_what_is_spent_is_kept_with_the_leader_trained_in_full(self) -> None:
        simulation = Simulation(FreezeThaw(RUNGS, spend=60.0), random_qualities(6)).run()
        # In the simulation an epoch costs 1 and a start 0.5.
        starts = sum(trial.starts for trial in simulation.state.trials)
        assert simulation.state.epochs_spent + 0.5 * starts <= 60
        assert simulation.state.winner is not None
        assert simulation.state.num_started < BUDGET

    def test_of_two_equal_curves_the_cheaper_goes_on(self) -> None:
        scores = (0.1, 0.2, 0.3)
        trials = [
            Trial(number, {}, TrialState.PAUSED, epochs=3, scores=scores, cost=Cost(cost, 0.0))
            for number, cost in enumerate((3.0, 1.0, 2.0))
        ]
        decision = FreezeThaw(RUNGS, spend=1000.0).decide(SearchState(tuple(trials)), 3)
        assert decision == RunSegment(1, 4)

    def test_configurations_like_the_best_are_started_first(self) -> None:
        def trial(number: int, optimizer: str, quality: float) -> Trial:
            scores = tuple(quality * (1 - 0.5**epoch) for epoch in range(1, 28))
            return Trial(
                number, {"optimizer": optimizer}, TrialState.COMPLETED, epochs=27, scores=scores, cost=Cost(1.0, 1.0)
            )

        tried = [trial(number, *known) for number, known in enumerate([("sgd", 0.2), ("adam", 0.6)] * 3)]
        waiting = [
            Trial(6 + number, {"optimizer": name}, cost=Cost(1.0, 1.0))
            for number, name in enumerate(["sgd", "sgd", "adam", "sgd", "sgd", "sgd"])
        ]
        decision = FreezeThaw(RUNGS, spend=1000.0).decide(SearchState((*tried, *waiting)), 12)
        assert decision == RunSegment(8, RUNGS.min_epochs)

    def test_of_very_many_trials_the_leading_ones_are_looked_at_and_those_that_run(self) -> None:
        trials = [
            Trial(number, {"x": number}, TrialState.PAUSED, epochs=3, scores=(0.1, 0.1, number / 200), cost=COST)
            for number in range(200)
        ]
        # It has fallen far behind the others, and is still being trained.
        trials[0] = replace(trials[0], state=TrialState.RUNNING, until=6)
        decision = FreezeThaw(RUNGS, spend=1000.0).decide(SearchState(tuple(trials)), 200)
        assert isinstance(decision, RunSegment)
        assert decision.trial > 150
