"""A search's budget, and how a limit in epochs or time is kept whichever scheduler decides."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Self

from marsseg.errors import UsageError
from marsseg.search.scheduler import Decision, Propose, Rungs, RunSegment, Scheduler, finish_leader, leader_of
from marsseg.search.state import Cost, SearchState, Trial, TrialState

_UNLIMITED = 10**9
_UNITS = {"": "trials", "epochs": "epochs", "epoch": "epochs", "s": "seconds", "min": "minutes", "h": "hours"}
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


@dataclass(frozen=True)
class Budget:
    """What a search may spend, in one of three currencies; the other two are None.

    Args:
        trials: Configurations whose first segment is handed to a worker.
        epochs: Epochs of all trials together.
        seconds: Seconds during which the search is running.
    """

    trials: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """A budget as typed by the user: `40`, `500epochs`, `30min`, `2h`.

        Raises:
            UsageError: If it is none of these, not above 0, or more than anybody could spend.
        """
        found = _FORM.fullmatch(text.lower())
        unit = _UNITS.get(found[2]) if found else None
        if found is None or unit is None or float(found[1]) <= 0 or (unit in ("trials", "epochs") and "." in found[1]):
            raise UsageError(
                "--budget: expected configurations, epochs or a duration, such as 40, 500epochs, 30min or 2h; "
                f"found '{text}'"
            )
        if float(found[1]) > _UNLIMITED:
            raise UsageError(f"--budget: expected at most {_UNLIMITED}, found '{text}'")
        if unit in _SECONDS:
            # To the millisecond: 1.1 h are 66 minutes.
            return cls(seconds=max(0.001, round(float(found[1]) * _SECONDS[unit], 3)))
        return cls(**{unit: int(found[1])})

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.epochs}epochs" if self.epochs is not None else str(self.trials)
        # The largest unit that divides the time exactly.
        unit = next((unit for unit in ("h", "min") if self.seconds % _SECONDS[_UNITS[unit]] == 0), "s")
        # Without an exponent, which `parse` would not take.
        return f"{Decimal(str(self.seconds / _SECONDS[_UNITS[unit]])).normalize():f}{unit}"

    @property
    def in_words(self) -> str:
        """`40 configurations`, `500 epochs`, `90 min`."""
        if self.trials is not None:
            return f"{self.trials} configurations"
        if self.epochs is not None:
            return f"{self.epochs} epochs"
        seconds = self.seconds or 0.0
        return f"{seconds:g} s" if seconds < _SECONDS["minutes"] else f"{seconds / _SECONDS['minutes']:g} min"

    @property
    def most_trials(self) -> int:
        """The largest number of configurations that may be started."""
        return self.trials if self.trials is not None else _UNLIMITED

    def covers(self, other: "Budget") -> bool:
        """Whether it has the same currency as another budget and is not smaller."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all((mine is None) == (theirs is None) and (mine or 0) >= (theirs or 0) for mine, theirs in pairs)


@dataclass(frozen=True)
class Limited:
    """Keeps a scheduler within a limit, and reserves the cost of training one finalist in full.

    A segment is handed out only if the budget still covers it and, after it, the rest of the leader's training;
    otherwise the leader is trained in full and the search is over. Each epoch costs 1; seconds are modelled seconds,
    scaled by the measured time of the trials so far: the one place where a measured time decides.

    Args:
        scheduler: Decides as long as there is budget left.
        budget: Epochs or seconds.
    """

    scheduler: Scheduler
    budget: Budget

    @property
    def rungs(self) -> Rungs:
        """The scheduler's rungs."""
        return self.scheduler.rungs

    @property
    def levels(self) -> tuple[int, ...]:
        """The scheduler's levels."""
        return self.scheduler.levels

    def decide(self, state: SearchState, budget: int) -> Decision:
        """The scheduler's decision if the budget covers it."""
        factor = self._seconds_per_modelled(state)
        state = replace(state, trials=tuple(replace(t, cost=self._cost(t, factor)) for t in state.trials))
        left = self._left(state)
        decision = self.scheduler.decide(state, budget)
        if isinstance(decision, Propose) and self._least_to_start(state) > left:
            known = state.num_started + len(state.in_state(TrialState.PROPOSED))
            decision = self.scheduler.decide(state, known)
        if isinstance(decision, RunSegment) and any(trial.until for trial in state.trials):
            trial = state.trials[decision.trial]
            segment = (decision.until - trial.epochs) * trial.cost.epoch + trial.cost.start
            if segment + self._rest(state, replace(trial, epochs=decision.until)) > left:
                return finish_leader(state, self.rungs.max_epochs)
        return decision

    def _least_to_start(self, state: SearchState) -> float:
        known = (trial for trial in state.trials if trial.state is not TrialState.REJECTED)
        cheapest = min((trial.cost.epoch for trial in known), default=0.0)
        return cheapest * self.rungs.min_epochs + self._rest(state)

    def _cost(self, trial: Trial, factor: float) -> Cost:
        if self.budget.epochs is not None:
            return Cost(1.0)
        # A GPU speeds up epochs, but not the building and tracing of networks.
        return Cost(trial.cost.epoch * factor, trial.cost.start)

    def _seconds_per_modelled(self, state: SearchState) -> float:
        modelled = sum(len(trial.scores) * trial.cost.epoch for trial in state.trials)
        return sum(trial.duration_s for trial in state.trials) / modelled if modelled else 1.0

    def _left(self, state: SearchState) -> float:
        running = state.in_state(TrialState.RUNNING)
        if self.budget.epochs is not None:
            return self.budget.epochs - state.epochs_spent - sum(trial.until - trial.epochs for trial in running)
        return (self.budget.seconds or 0.0) - state.active_s

    def _rest(self, state: SearchState, ahead: Trial | None = None) -> float:
        """The highest cost of finishing a trial that may lead by then; 0 once a trial is complete or will be."""
        full = self.rungs.max_epochs
        candidates = [replace(trial, epochs=trial.until) for trial in state.in_state(TrialState.RUNNING)]
        candidates += [trial for trial in (leader_of(state), ahead) if trial is not None]
        if state.in_state(TrialState.COMPLETED) or any(trial.epochs >= full for trial in candidates):
            return 0.0
        return max(((full - trial.epochs) * trial.cost.epoch + trial.cost.start for trial in candidates), default=0.0)
