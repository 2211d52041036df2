"""Successive halving schedulers: their laws, and which trials are promoted from which rung."""

import pytest

from marsseg.search.scheduler import Propose, RunSegment, Scheduler, Wait
from marsseg.search.state import SearchState, Trial, TrialState
from marsseg.search.successive_halving import Asha, Hyperband, TopK
from tests.search.scheduler_laws import BUDGET, RUNGS, RungLaws, SchedulerLaws, Simulation, random_qualities


class TestAsha(RungLaws):
    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return Asha(RUNGS)

    def test_promotes_only_from_the_top_third_of_a_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            if trial.state is TrialState.PROPOSED:
                continue
            scores = [other.score_at(trial.epochs) for other in state.trials if other.reached(trial.epochs)]
            better = sum(score > trial.score for score in scores)
            if better >= len(scores) // 3:
                # Allowed once everything else has ended: the leader of the highest rung.
                assert state.num_started == BUDGET
                assert not state.in_state(TrialState.RUNNING, TrialState.COMPLETED)
                assert (trial.epochs, better) == (max(other.epochs for other in state.in_state(TrialState.PAUSED)), 0)

    def test_spends_far_less_than_full_training(self, simulation: Simulation) -> None:
        assert simulation.state.epochs_spent < 0.5 * BUDGET * RUNGS.max_epochs

    def test_the_best_of_clear_curves_wins(self, scheduler: Scheduler, workers: int) -> None:
        qualities = random_qualities(5)
        winner = Simulation(scheduler, qualities, workers).run().state.winner
        assert winner is not None
        assert qualities[winner.number] == max(qualities[:BUDGET])

    def test_spends_what_synchronous_halving_would_where_the_best_come_first(self, scheduler: Scheduler) -> None:
        state = Simulation(scheduler, range(400, 0, -1)).run(40).state
        assert state.epochs_spent == 40 * 3 + 13 * 6 + 4 * 18

    def test_where_nothing_completed_the_best_of_the_highest_rung_goes_on(self, scheduler: Scheduler) -> None:
        simulation = Simulation(scheduler, [2.0, 5.0, 1.0, 3.0]).run(4)
        assert simulation.promotions() == [(1, 9), (1, 27)]

    def test_the_leader_is_replaced_where_it_fails(self, scheduler: Scheduler) -> None:
        state = Simulation(scheduler, [5.0, 2.0], failing=frozenset({0})).run(2).state
        assert state.winner is not None
        assert state.winner.number == 1

    def test_equal_scores_go_by_number(self, scheduler: Scheduler) -> None:
        simulation = Simulation(scheduler, [1.0] * 9).run(9)
        assert [trial for trial, _ in simulation.promotions()] == [0, 1, 2, 0]

    def test_waits_while_a_segment_runs_after_the_budget(self, scheduler: Scheduler) -> None:
        running = SearchState((Trial(0, {}, TrialState.RUNNING, until=3),))
        assert scheduler.decide(running, 1) == Wait()
        assert scheduler.decide(running, 2) == Propose()
        proposed = SearchState((*running.trials, Trial(1, {})))
        assert scheduler.decide(proposed, 2) == RunSegment(1, 3)


class TestHyperband(RungLaws):
    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return Hyperband(RUNGS)

    def test_brackets_are_those_of_the_paper(self, scheduler: Scheduler) -> None:
        simulation = Simulation(scheduler, random_qualities(1)).run(17 + 4)
        first = [segment.until for state, segment in simulation.segments() if not state.trials[segment.trial].epochs]
        # η = 3 and R/r = 9: 9 configurations from 3 epochs, ⌈3/2 · 3⌉ = 5 from 9, 3 from 27; then again.
        assert first == [3] * 9 + [9] * 5 + [27] * 3 + [3] * 4
        epochs = sorted(trial.epochs for trial in simulation.state.trials[:9])
        assert epochs == [3] * 6 + [9] * 2 + [27]
        assert sorted(trial.epochs for trial in simulation.state.trials[9:17]) == [9] * 4 + [27] * 4
        assert sorted(trial.epochs for trial in simulation.state.trials[17:]) == [3] * 3 + [27]

    def test_the_best_of_each_rung_go_on(self, scheduler: Scheduler) -> None:
        qualities = random_qualities(2)
        trials = Simulation(scheduler, qualities).run(9).state.trials
        order = sorted(range(9), key=lambda number: -qualities[number])
        assert [trials[number].epochs for number in order] == [27, 9, 9] + [3] * 6

    def test_compares_a_rung_only_once_it_is_complete(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            if trial.epochs:
                members = bracket_of(trial, state)
                assert not [other for other in members if other.until == trial.epochs and other.state == "running"]


def bracket_of(trial: Trial, state: SearchState) -> list[Trial]:
    tried = [t for t in state.trials if t.state is not TrialState.REJECTED]
    place = tried.index(trial)
    edges = [0, 9, 14, 17, 26, 31]
    first = max(edge for edge in edges if edge <= place)
    return tried[first : edges[edges.index(first) + 1]]


class TestTopK(SchedulerLaws):
    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        return TopK(RUNGS)

    def test_the_best_ninth_of_the_first_rung_is_trained_in_full(self, scheduler: Scheduler, workers: int) -> None:
        qualities = random_qualities(3)
        trials = Simulation(scheduler, qualities, workers).run(40).state.trials
        order = sorted(range(40), key=lambda number: -qualities[number])
        assert [trials[number].epochs for number in order] == [27] * 4 + [3] * 36

    def test_promotes_only_once_all_have_come_to_the_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            if state.trials[segment.trial].epochs:
                assert state.num_started == BUDGET
                assert all(t.until == RUNGS.max_epochs for t in state.in_state(TrialState.RUNNING))
