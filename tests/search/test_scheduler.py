"""Schedulers: laws that each keeps, in simulated searches over deterministic learning curves."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from marsseg.search.ledger import Event
from marsseg.search.plan import expected_epochs
from marsseg.search.scheduler import (
    SCHEDULERS,
    Asha,
    Decision,
    Finish,
    FullTraining,
    Rungs,
    RunSegment,
    Scheduler,
    StartTrial,
    Wait,
)
from marsseg.search.state import SearchState, Trial, TrialState, replay

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
                number = self._take(decision)
                if number is not None:
                    trial = self.state.trials[number]
                    busy.append((now + trial.until - trial.epochs, number))
            now, number = min(busy)
            busy.remove((now, number))
            self._finish(self.state.trials[number])

    def segments(self) -> list[tuple[SearchState, RunSegment]]:
        return [(state, decision) for _, state, decision in self.decisions if isinstance(decision, RunSegment)]

    def _append(self, kind: str, trial: int, **payload: Any) -> None:
        self.events.append(Event(kind, trial, json.loads(json.dumps(payload)), 0))
        self.state = replay(self.events[-1:], self.state)

    def _take(self, decision: Decision) -> int | None:
        number = decision.trial if isinstance(decision, RunSegment) else len(self.state.trials)
        if isinstance(decision, StartTrial):
            self._append("proposed", number, values={"n": number})
            if number in self.rejected:
                self._append("rejected", number, reason="toy")
                return None
        self._append("started", number, until=decision.until)
        return number

    def _finish(self, trial: Trial) -> None:
        if trial.number in self.failing:
            self._append("failed", trial.number, reason="toy", epochs=1)
            return
        early = trial.number in self.stops_early and trial.epochs > 0
        epochs = trial.until - 1 if early else trial.until
        score = self.qualities[trial.number] * (1 - 0.5**epochs)
        self._append(
            "finished",
            trial.number,
            completed=early or epochs == RUNGS.max_epochs,
            epochs=epochs,
            score=score,
            best_val_mean_iou=score,
            best_epoch=epochs,
            params=1,
            duration_s=1.0,
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
        late = [decision for _, state, decision in simulation.decisions if state.num_started == BUDGET]
        assert late
        assert not any(isinstance(decision, StartTrial) for decision in late)

    def test_every_segment_goes_to_a_paused_trial_up_to_its_next_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            assert trial.state is TrialState.PAUSED
            assert segment.until == min(level for level in RUNGS.levels if level > trial.epochs)

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
        assert expected_epochs(scheduler, budget) == pytest.approx(sum(spent) / len(spent), rel=0.15)

    def test_where_all_fail_the_search_ends(self, scheduler: Scheduler, workers: int) -> None:
        state = Simulation(scheduler, range(400), workers, failing=frozenset(range(400))).run().state
        assert len(state.in_state(TrialState.FAILED)) == BUDGET
        assert state.winner is None


class TestAsha(SchedulerLaws):
    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return Asha(RUNGS)

    def test_promotes_only_from_the_top_third_of_a_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            scores = [other.rung_scores[trial.epochs] for other in state.trials if trial.epochs in other.rung_scores]
            better = sum(score > trial.rung_scores[trial.epochs] for score in scores)
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
        assert [(segment.trial, segment.until) for _, segment in simulation.segments()] == [(1, 9), (1, 27)]

    def test_the_leader_is_replaced_where_it_fails(self, scheduler: Scheduler) -> None:
        state = Simulation(scheduler, [5.0, 2.0], failing=frozenset({0})).run(2).state
        assert state.winner is not None
        assert state.winner.number == 1

    def test_equal_scores_go_by_number(self, scheduler: Scheduler) -> None:
        simulation = Simulation(scheduler, [1.0] * 9).run(9)
        assert [segment.trial for _, segment in simulation.segments()] == [0, 1, 2, 0]

    def test_waits_while_a_segment_runs_after_the_budget(self, scheduler: Scheduler) -> None:
        running = SearchState((Trial(0, {}, TrialState.RUNNING, until=3),))
        assert scheduler.decide(running, 1) == Wait()
        assert scheduler.decide(running, 2) == StartTrial(3)


class TestFullTraining(SchedulerLaws):
    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return FullTraining(RUNGS)

    def test_trains_everything_to_the_end_in_one_segment(self, simulation: Simulation) -> None:
        assert not simulation.segments()
        assert {trial.epochs for trial in simulation.state.in_state(TrialState.COMPLETED)} == {27}


def test_all_schedulers_have_their_laws() -> None:
    assert set(SCHEDULERS.values()) == {Asha, FullTraining}


@pytest.mark.parametrize(
    ("rungs", "levels"),
    [(Rungs(3, 27, 3), (3, 9, 27)), (Rungs(1, 4, 2), (1, 2, 4)), (Rungs(3, 20, 3), (3, 9, 20)), (Rungs(5, 5, 2), (5,))],
)
def test_rungs_end_with_full_training(rungs: Rungs, levels: tuple[int, ...]) -> None:
    assert rungs.levels == levels
