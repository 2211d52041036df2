"""Schedulers: laws that each keeps, in simulated searches over deterministic learning curves."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from marsseg.search.budget import Budget
from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.ledger import Event
from marsseg.search.plan import expected_epochs
from marsseg.search.scheduler import Decision, Finish, Propose, Rungs, RunSegment, Scheduler, Wait
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost, SearchState, Trial, TrialState, replay
from marsseg.search.stopping import FullTraining, MedianStopping
from marsseg.search.successive_halving import Asha, Hyperband, TopK

RUNGS = Rungs(3, 27, 3)
BUDGET = 30


def random_qualities(seed: int, count: int = 400) -> list[float]:
    return random.Random(seed).sample(range(count), count)


@dataclass
class Simulation:
    """A search over curves that rise with the epochs towards a trial's quality.

    Args:
        scheduler: What is looked at.
        qualities: By trial.
        workers: Segments at a time; a segment takes as long as it has epochs.
        failing: Trials that fail in their first segment.
        rejected: Proposals that are rejected.
        stops_early: Trials that complete in the middle of their second segment.
    """

    scheduler: Scheduler
    qualities: Sequence[float]
    workers: int = 1
    failing: frozenset[int] = frozenset()
    rejected: frozenset[int] = frozenset()
    stops_early: frozenset[int] = frozenset()
    events: list[Event] = field(default_factory=list)
    decisions: list[tuple[int, SearchState, Decision]] = field(default_factory=list)
    state: SearchState = field(default_factory=SearchState)

    def run(self, budget: int = BUDGET) -> "Simulation":
        now, busy = 0, []
        while True:
            while len(busy) < self.workers:
                decision = self.scheduler.decide(self.state, budget)
                self.decisions.append((len(self.events), self.state, decision))
                if isinstance(decision, Finish):
                    assert not busy
                    return self
                if isinstance(decision, Wait):
                    assert busy
                    break
                if isinstance(decision, Propose):
                    self._propose()
                else:
                    self._append("started", decision.trial, until=decision.until)
                    trial = self.state.trials[decision.trial]
                    busy.append((now + trial.until - trial.epochs, trial.number))
            now, number = min(busy)
            busy.remove((now, number))
            self._finish(self.state.trials[number])

    def segments(self) -> list[tuple[SearchState, RunSegment]]:
        return [(state, decision) for _, state, decision in self.decisions if isinstance(decision, RunSegment)]

    def promotions(self) -> list[tuple[int, int]]:
        return [
            (segment.trial, segment.until) for state, segment in self.segments() if state.trials[segment.trial].epochs
        ]

    def _append(self, kind: str, trial: int, **payload: Any) -> None:
        self.events.append(Event(kind, trial, json.loads(json.dumps(payload)), 0))
        self.state = replay(self.events[-1:], self.state)

    def _propose(self) -> None:
        number = len(self.state.trials)
        self._append("proposed", number, values={"n": number}, cost={"epoch": 1.0, "start": 0.5})
        if number in self.rejected:
            self._append("rejected", number, reason="toy")

    def _finish(self, trial: Trial) -> None:
        if trial.number in self.failing:
            self._append("failed", trial.number, reason="toy", epochs=1, active_s=1.0)
            return
        early = trial.number in self.stops_early and trial.epochs > 0
        epochs = trial.until - 1 if early else trial.until
        scores = [self.qualities[trial.number] * (1 - 0.5**epoch) for epoch in range(1, epochs + 1)]
        self._append(
            "finished",
            trial.number,
            completed=early or epochs == RUNGS.max_epochs,
            epochs=epochs,
            scores=scores,
            best_val_mean_iou=max(scores),
            best_epoch=epochs,
            params=1,
            duration_s=1.0,
            active_s=float(len(self.events)),
        )


class SchedulerLaws:
    """What every scheduler owes; a subclass says which one."""

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        raise NotImplementedError

    @pytest.fixture(params=[1, 3], ids=["one worker", "three workers"])
    def workers(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture(params=range(4))
    def simulation(self, scheduler: Scheduler, workers: int, request: pytest.FixtureRequest) -> Simulation:
        """Searches in order of chance, with and without mishaps."""
        mishaps: dict[str, frozenset[int]] = {}
        if request.param:
            mishaps = {"failing": frozenset({0, 7}), "rejected": frozenset({3, 4, 9}), "stops_early": frozenset({1, 5})}
        return Simulation(scheduler, random_qualities(request.param), workers, **mishaps).run()

    def test_budget_counts_what_was_started_failed_ones_included_rejected_ones_not(
        self, simulation: Simulation
    ) -> None:
        assert simulation.state.num_started == BUDGET
        assert len(simulation.state.trials) == BUDGET + len(simulation.rejected)
        assert len(simulation.state.in_state(TrialState.FAILED)) == len(simulation.failing)

    def test_after_the_budget_nothing_new_is_started(self, simulation: Simulation) -> None:
        late = [(state, decision) for _, state, decision in simulation.decisions if state.num_started == BUDGET]
        assert late
        for state, decision in late:
            assert not isinstance(decision, Propose)
            if isinstance(decision, RunSegment):
                assert state.trials[decision.trial].state is TrialState.PAUSED

    def test_every_segment_takes_a_waiting_trial_forward(self, simulation: Simulation) -> None:
        assert simulation.segments()
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            assert trial.state in (TrialState.PROPOSED, TrialState.PAUSED)
            assert trial.epochs < segment.until <= RUNGS.max_epochs

    def test_nothing_is_handed_out_twice(self, simulation: Simulation) -> None:
        handed = [(event.trial, event.payload["until"]) for event in simulation.events if event.kind == "started"]
        assert len(set(handed)) == len(handed)

    def test_the_ledger_replays_to_the_same_decisions(self, simulation: Simulation) -> None:
        for length, state, decision in simulation.decisions:
            replayed = replay(simulation.events[:length])
            assert replayed == state
            assert simulation.scheduler.decide(replayed, BUDGET) == decision

    def test_at_the_end_something_is_complete_and_nothing_is_running(self, simulation: Simulation) -> None:
        assert simulation.state.winner is not None
        assert not simulation.state.in_state(TrialState.RUNNING, TrialState.PROPOSED)

    @pytest.mark.parametrize("budget", [1, 2, 8, 40])
    def test_the_plan_is_what_searches_spend_on_average(self, scheduler: Scheduler, budget: int) -> None:
        spent = [Simulation(scheduler, random_qualities(seed)).run(budget).state.epochs_spent for seed in range(20)]
        assert expected_epochs(scheduler, Budget(budget)) == pytest.approx(sum(spent) / len(spent), rel=0.15)

    def test_where_all_fail_the_search_ends(self, scheduler: Scheduler, workers: int) -> None:
        state = Simulation(scheduler, range(400), workers, failing=frozenset(range(400))).run().state
        assert len(state.in_state(TrialState.FAILED)) == BUDGET
        assert state.winner is None


class RungLaws(SchedulerLaws):
    """What those owe that compare at rungs."""

    def test_a_promotion_ends_at_the_next_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            if trial.epochs:
                assert segment.until == min(level for level in RUNGS.levels if level > trial.epochs)


class TestAsha(RungLaws):
    @pytest.fixture
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
                # Allowed once everything else has come to its end: the leader of the highest rung.
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


class TestFullTraining(SchedulerLaws):
    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return FullTraining(RUNGS)

    def test_trains_everything_to_the_end_in_one_segment(self, simulation: Simulation) -> None:
        assert not simulation.promotions()
        assert {trial.epochs for trial in simulation.state.in_state(TrialState.COMPLETED)} == {27}


class TestMedianStopping(SchedulerLaws):
    @pytest.fixture
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


class TestHyperband(RungLaws):
    @pytest.fixture
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
    @pytest.fixture
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


class TestFreezeThaw(SchedulerLaws):
    @pytest.fixture
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

    def test_spends_a_quarter_of_full_training(self, simulation: Simulation) -> None:
        assert simulation.state.epochs_spent <= 0.26 * BUDGET * RUNGS.max_epochs

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


def test_all_schedulers_have_their_laws() -> None:
    assert set(SCHEDULERS.values()) == {Asha, FreezeThaw, FullTraining, Hyperband, MedianStopping, TopK}


@pytest.mark.parametrize(
    ("rungs", "levels"),
    [(Rungs(3, 27, 3), (3, 9, 27)), (Rungs(1, 4, 2), (1, 2, 4)), (Rungs(3, 20, 3), (3, 9, 20)), (Rungs(5, 5, 2), (5,))],
)
def test_rungs_end_with_full_training(rungs: Rungs, levels: tuple[int, ...]) -> None:
    assert rungs.levels == levels
