"""Several objectives: which are allowed, and how schedulers and samplers use them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from marsseg.errors import UsageError
from marsseg.search.engines import SAMPLERS, SAMPLERS_OF_SEVERAL_OBJECTIVES, build_proposer
from marsseg.search.ledger import Event
from marsseg.search.objectives import SCORE, check_objectives
from marsseg.search.pareto import best_first, dominates
from marsseg.search.plan import expected_plan
from marsseg.search.proposer import Observation, observe
from marsseg.search.scheduler import Decision, Rungs, RunSegment, Scheduler
from marsseg.search.schedulers import SCHEDULERS, SCHEDULERS_OF_SEVERAL_OBJECTIVES
from marsseg.search.simulation import Curve, simulate
from marsseg.search.space import FloatParameter, Parameter, Space
from marsseg.search.state import Cost, SearchState, Trial, TrialState, ranked, replay

RUNGS = Rungs(3, 27, 3)
BUDGET = 30


def test_the_score_stands_first_whatever_the_order() -> None:
    assert check_objectives(["flops", "val_mean_iou", "params"]) == ("val_mean_iou", "params", "flops")
    assert check_objectives([SCORE]) == (SCORE,)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["val_mean_iou", "parms"], "did you mean 'params'"),
        (["params", "val_mean_iou", "params"], "'params' 2 times"),
        (["params", "flops"], "expected val_mean_iou among them, found params and flops"),
    ],
)
def test_what_cannot_be_objectives_is_refused(names: list[str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        check_objectives(names)


def test_those_that_take_several_are_known_by_name() -> None:
    assert set(SCHEDULERS_OF_SEVERAL_OBJECTIVES) < set(SCHEDULERS)
    assert SAMPLERS_OF_SEVERAL_OBJECTIVES.keys() == SAMPLERS.keys()
    for engine, samplers in SAMPLERS_OF_SEVERAL_OBJECTIVES.items():
        assert set(samplers) < set(SAMPLERS[engine])


@dataclass
class Overheard:
    """A scheduler that delegates to another one and records its decisions."""

    scheduler: Scheduler
    heard: list[tuple[SearchState, Decision]] = field(default_factory=list)

    @property
    def rungs(self) -> Rungs:
        return self.scheduler.rungs

    def decide(self, state: SearchState, budget: int) -> Decision:
        decision = self.scheduler.decide(state, budget)
        self.heard.append((state, decision))
        return decision

    def promotions(self) -> list[tuple[SearchState, RunSegment]]:
        segments = [(state, decision) for state, decision in self.heard if isinstance(decision, RunSegment)]
        return [(state, segment) for state, segment in segments if state.trials[segment.trial].epochs]


def curves(seed: int, sizes: Sequence[str] = ("params",), **changed: float) -> list[Curve]:
    """Curves that rise towards a quality, for networks of any size."""
    luck = random.Random(seed)
    made = []
    for _ in range(BUDGET):
        quality = luck.random()
        scores = tuple(quality * (1 - 0.5**epoch) for epoch in range(1, 28))
        made.append(Curve(scores, Cost(1.0), sizes={name: changed.get(name, luck.random()) for name in sizes}))
    return made


def search(name: str, known: Sequence[Curve], workers: int = 1) -> tuple[Overheard, SearchState]:
    scheduler = Overheard(SCHEDULERS[name](RUNGS))
    *_, last = simulate(scheduler, known, BUDGET, workers)
    return scheduler, last.state


def front_of(state: SearchState) -> set[int]:
    return {trial.number for trial in state.front}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", SCHEDULERS_OF_SEVERAL_OBJECTIVES)
class TestSchedulers:
    """Laws for each scheduler that takes several objectives."""

    @pytest.mark.parametrize("sizes", [("params",), ("params", "flops")])
    def test_the_budget_is_spent_and_a_front_is_complete(self, name: str, workers: int, sizes: Sequence[str]) -> None:
        for seed in range(4):
            scheduler, state = search(name, curves(seed, sizes), workers)
            assert state.num_started == BUDGET
            assert not state.in_state(TrialState.RUNNING, TrialState.PROPOSED)
            assert state.winner is not None
            assert state.winner.number in front_of(state)
            for before, decision in scheduler.heard:
                assert scheduler.scheduler.decide(before, BUDGET) == decision

    def test_where_all_are_of_one_size_it_is_as_with_the_score_alone(self, name: str, workers: int) -> None:
        alone, _ = search(name, curves(5, ()), workers)
        beside, _ = search(name, [replace(curve, sizes={"params": 7.0}) for curve in curves(5, ())], workers)
        assert [decision for _, decision in beside.heard] == [decision for _, decision in alone.heard]

    def test_the_unit_of_a_size_decides_nothing(self, name: str, workers: int) -> None:
        known = curves(6)
        in_millions = [replace(curve, sizes={"params": curve.sizes["params"] ** 3 / 1e6}) for curve in known]
        assert search(name, known, workers)[0].promotions() == [
            (with_sizes(state, known), segment) for state, segment in search(name, in_millions, workers)[0].promotions()
        ]

    def test_the_smallest_is_found_beside_the_best(self, name: str, workers: int) -> None:
        """If quality does not depend on size, both the best and the smallest network reach the last rung."""
        _, state = search(name, curves(7), workers)
        completed = state.in_state(TrialState.COMPLETED)
        assert max(trial.score for trial in completed) == pytest.approx(
            max(curve.scores[-1] for curve in curves(7)), abs=0.02
        )
        assert min(trial.sizes["params"] for trial in completed) == min(c.sizes["params"] for c in curves(7))


def with_sizes(state: SearchState, known: Sequence[Curve]) -> SearchState:
    return replace(state, trials=tuple(replace(trial, sizes=known[trial.number].sizes) for trial in state.trials))


@pytest.mark.parametrize("workers", [1, 3])
def test_asha_promotes_only_from_the_first_third_of_a_rung_front_by_front(workers: int) -> None:
    following = dict(pairwise(RUNGS.levels))
    for seed in range(6):
        scheduler, _ = search("asha", curves(seed, ("params", "flops")), workers)
        assert scheduler.promotions()
        for state, segment in scheduler.promotions():
            level = state.trials[segment.trial].epochs
            assert segment.until == following[level]
            reached = [trial for trial in state.trials if trial.reached(level)]
            order = best_first([trial.point(trial.score_at(level)) for trial in reached])
            first = [reached[place].number for place in order[: len(order) // 3]]
            finishing = state.num_started == BUDGET and not state.in_state(TrialState.COMPLETED, TrialState.RUNNING)
            assert segment.trial in first or finishing


@pytest.mark.parametrize("name", SCHEDULERS_OF_SEVERAL_OBJECTIVES)
def test_the_plan_is_what_searches_spend_on_average(name: str) -> None:
    spent = [search(name, curves(seed))[1].epochs_spent for seed in range(20)]
    planned = expected_plan(SCHEDULERS[name](RUNGS), BUDGET, [Cost(1.0)], ["params"])
    assert planned.epochs == pytest.approx(sum(spent) / len(spent), rel=0.15)


def completed(number: int, score: float, *sizes: float) -> Trial:
    return Trial(
        number,
        {"n": number},
        TrialState.COMPLETED,
        epochs=1,
        scores=(score,),
        sizes=dict(zip(("params", "flops"), sizes, strict=False)),
        best_val_mean_iou=score,
    )


def test_the_front_is_of_completed_trials_and_the_winner_is_on_it() -> None:
    stopped = replace(completed(0, 0.9, 1.0), state=TrialState.STOPPED)
    trials = (
        stopped,
        completed(1, 0.5, 30.0),
        completed(2, 0.5, 20.0),
        completed(3, 0.4, 20.0),
        completed(4, 0.1, 5.0),
    )
    state = SearchState(trials)
    assert [trial.number for trial in state.front] == [2, 4]
    assert state.winner == trials[2]
    assert [trial.number for trial in ranked(state)] == [2, 1, 3, 4, 0]
    for trial in state.front:
        assert not any(
            dominates(other.point(other.best_val_mean_iou or 0), trial.point(trial.best_val_mean_iou or 0))
            for other in trials[1:]
        )
    assert SearchState((stopped,)).front == []


def test_with_the_score_alone_the_front_is_the_winner_and_its_equals() -> None:
    state = SearchState((completed(0, 0.4), completed(1, 0.5), completed(2, 0.5)))
    assert [trial.number for trial in state.front] == [1, 2]


def test_a_ledger_may_tell_sizes_or_not() -> None:
    cost = {"epoch": 1.0, "start": 0.5}
    told = [
        Event("proposed", 0, {"values": {}, "cost": cost}, 0),
        Event("proposed", 1, {"values": {}, "cost": cost, "sizes": {"params": 9}}, 0),
    ]
    assert [trial.sizes for trial in replay(told).trials] == [{}, {"params": 9}]


def test_what_failed_or_was_rejected_is_told_as_the_worst_in_each_objective() -> None:
    trials = (
        completed(0, 0.5, 1e4, 1e9),
        completed(1, 0.3, 1e5, 1e8),
        replace(completed(2, 0.0, 1e2, 1e2), state=TrialState.FAILED),
        Trial(3, {"n": 3}, TrialState.REJECTED),
        Trial(4, {"n": 4}, TrialState.REJECTED, sizes={"params": 1e9, "flops": 1e12}),
        Trial(5, {"n": 5}, TrialState.RUNNING, sizes={"params": 1e3, "flops": 1e7}),
    )
    told = observe(SearchState(trials), Rungs(1, 4, 2), ("params", "flops"))
    logs = [tuple(round(size / 2.302585092994046, 6) for size in observation.sizes) for observation in told]
    assert logs == [(4, 9), (5, 8), (5, 9), (5, 9), (5, 9), (3, 7)]
    assert [observation.score for observation in told] == [0.5, 0.3, 0.3, 0.3, 0.3, None]
    nothing_known = observe(SearchState(trials[3:4]), Rungs(1, 4, 2), ("params", "flops"))
    assert [(observation.score, observation.sizes) for observation in nothing_known] == [(0.0, (0.0, 0.0))]


PLANE = Space("plane", {}, (Parameter("x", FloatParameter(0.0, 1.0)), Parameter("y", FloatParameter(0.0, 1.0))))


def on_the_plane(x: float, y: float) -> Observation:
    """Score x - y, size x + y: for any x, y = 0 is best in both, so the front is the lower edge."""
    return Observation({"x": x, "y": y}, x - y, sizes=(x + y,))


def go_on(sampler: str, observations: list[Observation], count: int) -> list[dict[str, Any]]:
    """The next proposals of a search, each observed with its score and size before the next is made."""
    known, proposer = list(observations), build_proposer("optuna", sampler, PLANE, 1)
    for number in range(count):
        values: dict[str, Any] = proposer.propose(known, number)
        known.append(on_the_plane(**values))
    return [dict(observation.values) for observation in known[-count:]]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
class TestSamplers:
    """Laws for each sampler that models several objectives."""

    @pytest.fixture(autouse=True)
    def _needs_its_package(self, sampler: str) -> None:
        if sampler == "gp":
            pytest.importorskip("torch", reason="the extra 'gp' is not installed")

    @pytest.fixture
    def observations(self) -> list[Observation]:
        luck = random.Random(3)
        return [on_the_plane(luck.random(), luck.random()) for _ in range(40)]

    def test_proposals_gather_at_the_front_and_spread_along_it(
        self, sampler: str, observations: list[Observation]
    ) -> None:
        proposals, at_random = (go_on(name, observations, 16) for name in (sampler, "random"))
        distance, distance_at_random = (sum(v["y"] for v in made) / len(made) for made in (proposals, at_random))
        assert distance < 0.5 * distance_at_random
        along = [values["x"] for values in proposals]
        # With the score alone all proposals would gather where x is 1.
        assert min(along) < 0.4
        assert max(along) > 0.6

    def test_the_same_arguments_give_the_same_proposal(self, sampler: str, observations: list[Observation]) -> None:
        first = build_proposer("optuna", sampler, PLANE, 1).propose(observations, 4)
        assert build_proposer("optuna", sampler, PLANE, 1).propose(list(observations), 4) == first

    def test_survives_nothing_known_running_trials_and_equal_ones(self, sampler: str) -> None:
        points = [{"x": number / 20, "y": 0.5} for number in range(20)]
        for scores in ((), (None,) * 20, (0.0,) * 20, (None, 0.2, 0.4, 0.1) * 5):
            told = [Observation(point, score, sizes=(1.0,)) for point, score in zip(points, scores, strict=False)]
            values = build_proposer("optuna", sampler, PLANE, 1).propose(told, 2)
            assert all(0 <= values[path] <= 1 for path in ("x", "y"))
