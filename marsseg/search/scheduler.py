"""The interface of schedulers, which decide how many epochs each trial gets, purely from a search's state.

Decisions are values. The schedulers live in modules of their own, by kind; `schedulers.py` lists them by name.
"""

from dataclasses import dataclass
from typing import Protocol

from marsseg.search.state import SearchState, Trial, TrialState


@dataclass(frozen=True)
class RunSegment:
    """Train a proposed or paused trial to the end of epoch `until`."""

    trial: int
    until: int


@dataclass(frozen=True)
class Propose:
    """Have another configuration proposed, then ask again."""


@dataclass(frozen=True)
class Wait:
    """Nothing to hand out until a running segment has finished."""


@dataclass(frozen=True)
class Finish:
    """The search is over."""


Decision = RunSegment | Propose | Wait | Finish


@dataclass(frozen=True)
class Rungs:
    """The epoch counts at which trials are compared.

    Args:
        min_epochs: The first rung.
        max_epochs: The last rung: full training.
        reduction_factor: Ratio of each rung to the one before.
    """

    min_epochs: int
    max_epochs: int
    reduction_factor: int

    @property
    def levels(self) -> tuple[int, ...]:
        """`min_epochs` × `reduction_factor`^k below `max_epochs`, then `max_epochs`."""
        levels = []
        level = self.min_epochs
        while level < self.max_epochs:
            levels.append(level)
            level *= self.reduction_factor
        return (*levels, self.max_epochs)


class Scheduler(Protocol):
    """Decides what a free worker does next."""

    @property
    def rungs(self) -> Rungs:
        """A trial's first segment, full training, and the rungs that may lie between."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The epochs at which it compares trials; the last is full training."""

    def decide(self, state: SearchState, budget: int) -> Decision:
        """The next step of a search.

        Args:
            state: The state that the ledger adds up to.
            budget: Configurations that may be started.

        Returns:
            The decision; the same for the same arguments.
        """


def start_new(state: SearchState, budget: int, until: int) -> Decision | None:
    """Starts the oldest waiting configuration, or has one proposed if none waits; None once the budget is spent."""
    if state.num_started >= budget:
        return None
    waiting = state.in_state(TrialState.PROPOSED)
    return RunSegment(waiting[0].number, until) if waiting else Propose()


def conclude(state: SearchState, levels: tuple[int, ...]) -> Decision:
    """The end: waits for running trials; if none has completed, the highest rung's leader continues to the next."""
    if state.in_state(TrialState.RUNNING):
        return Wait()
    paused = state.in_state(TrialState.PAUSED)
    if paused and not state.in_state(TrialState.COMPLETED):
        leader = max(paused, key=lambda trial: (trial.epochs, trial.score, -trial.number))
        return RunSegment(leader.number, next(level for level in levels if level > leader.epochs))
    return Finish()


def leader_of(state: SearchState) -> Trial | None:
    """The paused trial with the best score, whatever its epoch."""
    return max(state.in_state(TrialState.PAUSED), key=lambda trial: (trial.score, -trial.number), default=None)


def finish_leader(state: SearchState, max_epochs: int) -> Decision:
    """The end: waits for running trials; if none has completed, the best paused trial is trained in full."""
    if state.in_state(TrialState.RUNNING):
        return Wait()
    leader = leader_of(state)
    if leader is not None and not state.in_state(TrialState.COMPLETED):
        return RunSegment(leader.number, max_epochs)
    return Finish()
