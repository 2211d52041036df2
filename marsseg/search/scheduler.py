"""Schedulers: how many epochs each trial gets. Pure functions from the state of a search to the next decision."""

from dataclasses import dataclass
from typing import Protocol

from marsseg.search.state import SearchState, Trial, TrialState


@dataclass(frozen=True)
class RunSegment:
    """Let a paused trial go on to the end of epoch `until`."""

    trial: int
    until: int


@dataclass(frozen=True)
class StartTrial:
    """Take the next proposal and train it to the end of epoch `until`."""

    until: int


@dataclass(frozen=True)
class Wait:
    """Nothing to hand out until a running segment has finished."""


@dataclass(frozen=True)
class Finish:
    """The search is over."""


Decision = RunSegment | StartTrial | Wait | Finish


@dataclass(frozen=True)
class Rungs:
    """The epoch counts at which trials are compared.

    Args:
        min_epochs: The first rung.
        max_epochs: The last one: a full training.
        reduction_factor: From one rung to the next.
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
        """Where trials are compared."""

    def decide(self, state: SearchState, budget: int) -> Decision:
        """The next step of a search.

        Args:
            state: What the ledger adds up to.
            budget: Configurations that may be started.

        Returns:
            The decision; the same for the same arguments.
        """


@dataclass(frozen=True)
class FullTraining:
    """Trains every configuration to the last rung: `--scheduler none`."""

    rungs: Rungs

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Starts configurations until the budget is spent."""
        if state.num_started < budget:
            return StartTrial(self.rungs.max_epochs)
        return Wait() if state.in_state(TrialState.RUNNING) else Finish()


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving by promotion (Li et al., 2018, arXiv 1810.05934).

    A free worker promotes the best trial that stands in the top 1/`reduction_factor` of its rung and has not been
    promoted; if there is none, it starts a new configuration. Once the budget is spent only promotions run, and if
    they run out before anything is complete, the best trial of the highest rung goes on.
    """

    rungs: Rungs

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Promotes from the highest rung downwards, else starts a configuration."""
        for level, following in reversed(list(zip(self.rungs.levels, self.rungs.levels[1:], strict=False))):
            candidate = self._promotable(state, level)
            if candidate is not None:
                return RunSegment(candidate.number, following)
        if state.num_started < budget:
            return StartTrial(self.rungs.levels[0])
        if state.in_state(TrialState.RUNNING):
            return Wait()
        paused = state.in_state(TrialState.PAUSED)
        if paused and not state.in_state(TrialState.COMPLETED):
            leader = max(paused, key=lambda trial: (trial.epochs, trial.rung_scores[trial.epochs], -trial.number))
            return RunSegment(leader.number, next(level for level in self.rungs.levels if level > leader.epochs))
        return Finish()

    def _promotable(self, state: SearchState, level: int) -> Trial | None:
        at_rung = [trial for trial in state.trials if level in trial.rung_scores]
        at_rung.sort(key=lambda trial: (-trial.rung_scores[level], trial.number))
        top = at_rung[: len(at_rung) // self.rungs.reduction_factor]
        return next((trial for trial in top if trial.state is TrialState.PAUSED and trial.epochs == level), None)


SCHEDULERS: dict[str, type[Asha] | type[FullTraining]] = {"asha": Asha, "none": FullTraining}
