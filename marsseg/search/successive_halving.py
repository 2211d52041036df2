"""Schedulers that halve: at each rung the best trials continue, all others stay where they are.

With several objectives the best trials are those of the first fronts; see `pareto.best_first`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

from marsseg.search.pareto import best_first
from marsseg.search.scheduler import Decision, Rungs, RunSegment, conclude, start_new
from marsseg.search.state import SearchState, Trial, TrialState


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving by promotion (Li et al., 2018, arXiv 1810.05934).

    A free worker promotes the best trial that is in the top 1/`reduction_factor` of its rung and has not been
    promoted; if there is none, it starts a new configuration. Once the budget is spent only promotions run, and if
    they run out before any trial is complete, the best trial of the highest rung continues.
    """

    rungs: Rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """All rungs."""
        return self.rungs.levels

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Promotes from the highest rung downwards, otherwise starts a configuration."""
        levels = self.rungs.levels
        for level, following in reversed(list(pairwise(levels))):
            at_rung = _best_first([trial for trial in state.trials if trial.reached(level)], level)
            for trial in at_rung[: len(at_rung) // self.rungs.reduction_factor]:
                if _waits_at(trial, level):
                    return RunSegment(trial.number, following)
        return start_new(state, budget, levels[0]) or conclude(state, levels)


@dataclass(frozen=True)
class Hyperband:
    """Hyperband (Li et al., 2016, arXiv 1603.06560), its trials resumed from one rung to the next.

    Trials fall into brackets in the order in which they were proposed. Bracket s starts s rungs below full training
    with ⌈(s_max + 1) / (s + 1) · η^s⌉ configurations and halves synchronously: a rung is compared once all trials that
    are to reach it have. After bracket 0 the first one comes again, until the budget is spent; the last one may be
    smaller. While a bracket waits for a running trial, a free worker starts the next.
    """

    rungs: Rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """All rungs."""
        return self.rungs.levels

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Promotes from the oldest bracket on, otherwise starts a configuration of the newest."""
        levels, factor = self.rungs.levels, self.rungs.reduction_factor
        trials = [t for t in state.trials if t.state not in (TrialState.PROPOSED, TrialState.REJECTED)]
        brackets = cycle(reversed(range(len(levels))))
        while trials or state.num_started < budget:
            bracket = next(brackets)
            size = math.ceil(len(levels) / (bracket + 1) * factor**bracket)
            members, trials = trials[:size], trials[size:]
            decision = start_new(state, budget, levels[-bracket - 1]) if len(members) < size else None
            decision = decision or _promote_in_step(members, levels[-bracket - 1 :], factor)
            if decision is not None:
                return decision
        return conclude(state, levels)


@dataclass(frozen=True)
class TopK:
    """One rung, then full training of the best, one in `reduction_factor`² (Egele et al., 2023, arXiv 2307.15422).

    The honest baseline for everything more refined.
    """

    rungs: Rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """The first rung and the last."""
        return (self.rungs.min_epochs, self.rungs.max_epochs)

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Starts all configurations, then promotes once every trial has reached the rung."""
        started = [trial for trial in state.trials if trial.state not in (TrialState.PROPOSED, TrialState.REJECTED)]
        return (
            start_new(state, budget, self.levels[0])
            or _promote_in_step(started, self.levels, self.rungs.reduction_factor**2)
            or conclude(state, self.levels)
        )


def _promote_in_step(trials: Sequence[Trial], levels: Sequence[int], factor: int) -> Decision | None:
    """The next promotion of one bracket; None where a rung is not complete, or all is done."""
    number_left = len(trials)
    for level, following in pairwise(levels):
        if any(trial.state is TrialState.RUNNING and not trial.reached(level) for trial in trials):
            return None
        number_left = max(1, number_left // factor)
        trials = _best_first([trial for trial in trials if trial.reached(level)], level)[:number_left]
        for trial in trials:
            if _waits_at(trial, level):
                return RunSegment(trial.number, following)
    return None


def _best_first(trials: Sequence[Trial], level: int) -> list[Trial]:
    by_number = sorted(trials, key=lambda trial: trial.number)
    return [by_number[place] for place in best_first([trial.point(trial.score_at(level)) for trial in by_number])]


def _waits_at(trial: Trial, level: int) -> bool:
    return trial.state is TrialState.PAUSED and trial.epochs == level
