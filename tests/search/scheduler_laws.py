"""Laws that every scheduler obeys, in simulated searches over deterministic learning curves."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from marsseg.search.ledger import Event
from marsseg.search.plan import expected_plan
from marsseg.search.scheduler import Decision, Finish, Propose, Rungs, RunSegment, Scheduler, Wait
from marsseg.search.state import Cost, SearchState, Trial, TrialState, replay

RUNGS = Rungs(3, 27, 3)
BUDGET = 30
COST = Cost(1.0, 0.5)


def random_qualities(seed: int, count: int = 400) -> list[float]:
    return random.Random(seed).sample(range(count), count)


@dataclass
class Simulation:
    """A search over curves that rise with the epochs towards a trial's quality.

    Args:
        scheduler: The scheduler under test.
        qualities: The quality of each trial.
        workers: Number of segments at a time; a segment takes one unit of time per epoch.
        failing: Trials that fail in their first segment.
        failing_later: Trials that fail in their second segment.
        rejected: Proposals that are rejected.
        stops_early: Trials that complete in the middle of their second segment.
    """

    scheduler: Scheduler
    qualities: Sequence[float]
    workers: int = 1
    failing: frozenset[int] = frozenset()
    failing_later: frozenset[int] = frozenset()
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
        self._append("proposed", number, values={"n": number}, cost=asdict(COST))
        if number in self.rejected:
            self._append("rejected", number, reason="toy")

    def _finish(self, trial: Trial) -> None:
        if trial.number in (self.failing_later if trial.epochs else self.failing):
            self._append("failed", trial.number, reason="toy", epochs=trial.epochs + 1, active_s=1.0)
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
    """The laws for every scheduler; a subclass says which one."""

    simulations = 20

    @pytest.fixture(scope="class")
    def scheduler(self) -> Scheduler:
        raise NotImplementedError

    @pytest.fixture(params=[1, 3], ids=["one worker", "three workers"], scope="class")
    def workers(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture(params=range(4), scope="class")
    def simulation(self, scheduler: Scheduler, workers: int, request: pytest.FixtureRequest) -> Simulation:
        """Searches with qualities in random order, with and without mishaps."""
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
        seeds = range(self.simulations)
        spent = [Simulation(scheduler, random_qualities(seed)).run(budget).state.epochs_spent for seed in seeds]
        plan = expected_plan(scheduler, budget, [COST])
        assert plan.epochs == pytest.approx(sum(spent) / len(spent), rel=0.15)
        assert plan.cost == pytest.approx(plan.epochs * COST.epoch)
        assert budget <= plan.segments <= plan.epochs

    def test_where_all_fail_the_search_ends(self, scheduler: Scheduler, workers: int) -> None:
        state = Simulation(scheduler, range(400), workers, failing=frozenset(range(400))).run().state
        assert len(state.in_state(TrialState.FAILED)) == BUDGET
        assert state.winner is None

    @pytest.mark.parametrize("number", [1, 400])
    def test_where_some_fail_when_they_go_on_the_search_ends(
        self, scheduler: Scheduler, workers: int, number: int
    ) -> None:
        failing = frozenset(range(number))
        state = Simulation(scheduler, random_qualities(1), workers, failing_later=failing).run().state
        assert state.num_started == BUDGET
        assert not state.in_state(TrialState.RUNNING, TrialState.PROPOSED)
        # Some trials are trained in full in their first segment.
        assert state.winner is not None or number == 400


class RungLaws(SchedulerLaws):
    """Additional laws for schedulers that compare trials at rungs."""

    def test_a_promotion_ends_at_the_next_rung(self, simulation: Simulation) -> None:
        for state, segment in simulation.segments():
            trial = state.trials[segment.trial]
            if trial.epochs:
                assert segment.until == min(level for level in RUNGS.levels if level > trial.epochs)
