"""Schedulers that treat one trial after the other: each is trained until something stops it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from marsseg.search.scheduler import Decision, Rungs, RunSegment, conclude, start_new
from marsseg.search.state import SearchState, TrialState

_TRIALS_FOR_A_MEDIAN = 5


@dataclass(frozen=True)
class FullTraining:
    """Trains every configuration to the last rung: `--scheduler none`."""

    rungs: Rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """The last rung alone."""
        return (self.rungs.max_epochs,)

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Starts configurations until the budget is spent."""
        full = self.rungs.max_epochs
        return start_new(state, budget, full) or conclude(state, (full,))


@dataclass(frozen=True)
class MedianStopping:
    """The median stopping rule (Golovin et al., 2017, Google Vizier).

    After every `min_epochs` epochs a trial continues unless it is worse than the median of the trials that were started
    before it and came as far; the first five are not compared. Which of two trials finished first does not matter.
    """

    rungs: Rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """Every `min_epochs` epochs."""
        step, full = self.rungs.min_epochs, self.rungs.max_epochs
        return (*range(step, full, step), full)

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Continues the oldest trial that may continue, otherwise starts a configuration."""
        step, levels = self.rungs.min_epochs, self.levels
        before: dict[int, list[float]] = {level: [] for level in levels}
        for trial in state.trials:
            if trial.state is TrialState.PAUSED and _may_continue(trial.score, before[trial.epochs]):
                return RunSegment(trial.number, min(trial.epochs + step, levels[-1]))
            for level in levels:
                if trial.reached(level):
                    before[level].append(trial.score_at(level))
        return start_new(state, budget, step) or conclude(state, levels)


def _may_continue(score: float, before: Sequence[float]) -> bool:
    return len(before) < _TRIALS_FOR_A_MEDIAN or score >= statistics.median(before)
