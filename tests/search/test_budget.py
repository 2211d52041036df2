"""Budgets as users type them, and limits that every scheduler keeps."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from marsseg.errors import UsageError
from marsseg.search.budget import Budget, Limited
from marsseg.search.scheduler import Decision, Finish, Propose, Rungs, RunSegment, Scheduler
from marsseg.search.schedulers import SCHEDULERS, build_scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost, SearchState, Trial, TrialState

RUNGS = Rungs(3, 27, 3)


@pytest.mark.parametrize(
    ("text", "budget", "words"),
    [
        ("40", Budget(trials=40), "40 configurations"),
        ("500epochs", Budget(epochs=500), "500 epochs"),
        ("500 Epochs", Budget(epochs=500), "500 epochs"),
        ("2h", Budget(seconds=7200.0), "120 min"),
        ("1.5h", Budget(seconds=5400.0), "90 min"),
        ("30min", Budget(seconds=1800.0), "30 min"),
        ("45s", Budget(seconds=45.0), "45 s"),
        ("1.1h", Budget(seconds=3960.0), "66 min"),
        ("1234567s", Budget(seconds=1234567.0), "20576.1 min"),
    ],
)
def test_budgets_are_written_as_people_do(text: str, budget: Budget, words: str) -> None:
    assert Budget.parse(text) == budget
    assert budget.in_words == words
    assert Budget.parse(str(budget)) == budget
    assert str(budget) == text.lower().replace(" ", "").replace("1.5h", "90min").replace("1.1h", "66min")


@pytest.mark.parametrize("text", ["", "0", "-3", "forty", "2.5", "2.5epochs", "3 days", "0h", "1e3", "nan", "h"])
def test_what_is_no_budget_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(UsageError, match="40, 500epochs, 30min or 2h") as error:
        Budget.parse(text)
    assert f"'{text}'" in str(error.value)


@pytest.mark.parametrize("text", ["99999999999999999999", "1000000001epochs", f"{'9' * 5000}h"])
def test_what_nobody_could_spend_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected at most 1000000000, found"):
        Budget.parse(text)


def test_a_budget_is_extended_in_its_own_currency() -> None:
    assert Budget(trials=60).covers(Budget(trials=40))
    assert Budget(trials=40).covers(Budget(trials=40))
    assert not Budget(trials=39).covers(Budget(trials=40))
    assert not Budget(epochs=500).covers(Budget(trials=40))
    assert Budget(seconds=60.0).covers(Budget(seconds=30.0))


def random_curves(seed: int, count: int) -> list[Curve]:
    luck = random.Random(seed)
    shape = [0.3 + 0.7 * math.log(epoch) / math.log(27) for epoch in range(1, 28)]
    return [
        Curve(tuple(quality * part for part in shape), Cost(luck.uniform(1.0, 3.0), 0.5))
        for quality in (luck.uniform(0.2, 0.6) for _ in range(count))
    ]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("epochs", [27, 60, 200])
def test_epochs_are_never_overspent_and_one_finalist_is_complete(name: str, epochs: int, workers: int) -> None:
    budget = Budget(epochs=epochs)
    scheduler = build_scheduler(name, RUNGS, budget, workers)
    *_, last = simulate(scheduler, random_curves(epochs, 80), budget.most_trials, workers)
    assert last.state.epochs_spent <= epochs
    assert last.state.winner is not None
    assert not last.state.in_state(TrialState.RUNNING)
    # The rest would hardly have paid for another step.
    assert epochs - last.state.epochs_spent < RUNGS.max_epochs


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_hours_are_those_of_the_clock_however_many_work(name: str, workers: int) -> None:
    budget = Budget(seconds=400.0)
    scheduler = build_scheduler(name, RUNGS, budget, workers)
    times = [0.0]
    on_the_clock = _OnTheClock(scheduler, lambda: times[-1])
    for moment in simulate(on_the_clock, random_curves(1, 300), budget.most_trials, workers):
        times.append(moment.time)
    assert moment.state.winner is not None
    # The rest would hardly have paid for another full training run.
    assert 400 - 27 * 3.5 < times[-1] <= 400


@dataclass(frozen=True)
class _OnTheClock:
    """Tells a scheduler the simulated time, and that trials take as long as modelled."""

    scheduler: Scheduler
    clock: Callable[[], float]

    @property
    def rungs(self) -> Rungs:
        return self.scheduler.rungs

    @property
    def levels(self) -> tuple[int, ...]:
        return self.scheduler.levels

    def decide(self, state: SearchState, budget: int) -> Decision:
        trials = tuple(replace(trial, duration_s=len(trial.scores) * trial.cost.epoch) for trial in state.trials)
        return self.scheduler.decide(replace(state, trials=trials, active_s=self.clock()), budget)


def test_seconds_are_modelled_ones_scaled_by_what_trials_took() -> None:
    scheduler = Limited(SCHEDULERS["asha"](RUNGS), Budget(seconds=1000.0))
    # Modelled 3 · 2 = 6 s, took 60: everything to come will take ten times as long as modelled.
    first = Trial(0, {}, TrialState.PAUSED, until=3, epochs=3, scores=(0.1, 0.2, 0.3), cost=Cost(2.0), duration_s=60.0)
    next_trial = Trial(1, {}, cost=Cost(2.0))
    # The rest of the leader's training takes 480 s, a first segment 60.
    enough = SearchState((first, next_trial), active_s=1000.0 - 480 - 60)
    assert scheduler.decide(enough, Budget(seconds=1.0).most_trials) == RunSegment(1, 3)
    assert scheduler.decide(SearchState((first,), active_s=1000.0 - 480 - 60), 10**9) == Propose()
    late = replace(enough, active_s=enough.active_s + 1)
    assert scheduler.decide(late, 10**9) == RunSegment(0, 27)
    complete = replace(first, state=TrialState.COMPLETED)
    assert scheduler.decide(SearchState((complete,), active_s=1000.0), 10**9) == Finish()
