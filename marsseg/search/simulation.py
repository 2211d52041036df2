"""Searches without training: learning curves are known, a scheduler decides, and a clock runs by modelled cost.

Made-up curves tell what a search will cost, recorded ones how good a scheduler is.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from marsseg.search.scheduler import Propose, RunSegment, Scheduler
from marsseg.search.state import Cost, SearchState, Trial, TrialState


@dataclass(frozen=True)
class Curve:
    """The learning curve that training a configuration would show.

    Args:
        scores: `val_mean_iou` after each epoch of full training.
        cost: The cost of training it.
        values: The values that vary, by dotted path.
        sizes: Values of the objectives besides the score, by name.
    """

    scores: tuple[float, ...]
    cost: Cost
    values: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """The situation of a simulated search after a segment.

    Args:
        time: Time on the clock, in units of cost.
        cost: Cost spent by all workers so far.
        state: All trials.
    """

    time: float
    cost: float
    state: SearchState


def simulate(scheduler: Scheduler, curves: Sequence[Curve], budget: int, workers: int = 1) -> Iterator[Moment]:
    """Runs a search over known curves.

    Args:
        scheduler: The scheduler that decides.
        curves: Proposal n is curve n; at least as many as the budget and the proposals made ahead.
        budget: Configurations to start.
        workers: Number of segments that run at a time.

    Yields:
        A moment for each finished segment, in clock order; the same for the same arguments.
    """
    trials: list[Trial] = []
    last_finished: int | None = None
    busy: list[tuple[float, int, int]] = []
    last_trained: dict[int, int | None] = dict.fromkeys(range(workers))
    now = cost = 0.0
    while True:
        while len(busy) < workers:
            decision = scheduler.decide(SearchState(tuple(trials), last_trained=last_finished), budget)
            if isinstance(decision, Propose):
                curve = curves[len(trials)]
                trials.append(Trial(len(trials), curve.values, cost=curve.cost, sizes=curve.sizes))
            elif isinstance(decision, RunSegment):
                worker = _free_worker(decision, last_trained, {worker for _, _, worker in busy})
                trial = trials[decision.trial]
                duration = (decision.until - trial.epochs) * trial.cost.epoch
                duration += trial.cost.start * (last_trained[worker] != trial.number)
                last_trained[worker] = trial.number
                starts = trial.starts + (last_finished != trial.number)
                trials[trial.number] = replace(trial, state=TrialState.RUNNING, until=decision.until, starts=starts)
                heapq.heappush(busy, (now + duration, trial.number, worker))
                cost += duration
            else:
                break
        if not busy:
            return
        now, number, _ = heapq.heappop(busy)
        trials[number] = _after_segment(trials[number], curves[number])
        last_finished = number
        yield Moment(now, cost, SearchState(tuple(trials), last_trained=number))


def _free_worker(segment: RunSegment, last_trained: Mapping[int, int | None], busy: set[int]) -> int:
    """The worker that trained this trial last, if it is free, otherwise the first free one."""
    free = [worker for worker in last_trained if worker not in busy]
    return next((worker for worker in free if last_trained[worker] == segment.trial), free[0])


def _after_segment(trial: Trial, curve: Curve) -> Trial:
    scores = curve.scores[: trial.until]
    best = max(scores)
    return replace(
        trial,
        state=TrialState.COMPLETED if len(scores) == len(curve.scores) else TrialState.PAUSED,
        epochs=len(scores),
        scores=scores,
        best_val_mean_iou=best,
        best_epoch=scores.index(best) + 1,
    )
