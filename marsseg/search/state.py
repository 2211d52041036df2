"""The state that a search's record adds up to, trial by trial. Nothing here decides or remembers anything else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from marsseg.errors import LedgerError
from marsseg.search.ledger import Event
from marsseg.search.pareto import Point, fronts

_SCORED_EPOCHS = 3
_MAX_REJECTED_IN_A_ROW = 200


class TrialState(StrEnum):
    """The state of a trial."""

    PROPOSED = "proposed"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    REJECTED = "rejected"


def score_at(scores: Sequence[float], epoch: int) -> float:
    """The mean of the last three scores up to an epoch: a lucky epoch is not a good network.

    Args:
        scores: The scores after each epoch.
        epoch: From 1 to the number of scores.
    """
    last = scores[max(0, epoch - _SCORED_EPOCHS) : epoch]
    return sum(last) / len(last)


@dataclass(frozen=True)
class Cost:
    """Modelled seconds on the reference machine: decisions may depend on them, since they depend on no clock.

    Args:
        epoch: Cost of an epoch with its validation.
        start: Additional cost of a segment whose worker last trained another trial.
        report: Additional cost of every segment; too small to choose by, but not to tell which trial ends first.
    """

    epoch: float = 0.0
    start: float = 0.0
    report: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One configuration of a search.

    Args:
        number: Its place in the order of proposals, from 0.
        values: The values that vary, by dotted path; inactive ones are absent.
        state: Its current state.
        until: The last epoch of the segment handed out last.
        starts: Number of segments that followed one of another trial, so that a worker had to build the network again.
        ends: When the segment handed out last ends, by modelled cost alone.
        epochs: Epochs finished.
        scores: `val_mean_iou` after each epoch of the finished segments.
        step_ms: Measured milliseconds of a training step; None where no measurement was asked for.
        cost: The cost of training it, by the cost model that ships with the package.
        sizes: The objectives besides the score by name, lower is better; empty where the score alone counts.
        best_val_mean_iou: The best epoch's.
        best_epoch: Counted from 1; 0 before the first segment has finished.
        params: Number of parameters; 0 while unknown.
        duration_s: Seconds spent training.
        reason: Why it failed or was rejected.
        facts: The payload of the last finished segment.
        run_id: Its run in the tracking store; empty while there is none.
    """

    number: int
    values: Mapping[str, Any]
    state: TrialState = TrialState.PROPOSED
    until: int = 0
    starts: int = 0
    ends: float = 0.0
    epochs: int = 0
    scores: tuple[float, ...] = ()
    step_ms: float | None = None
    cost: Cost = Cost()
    sizes: Mapping[str, float] = field(default_factory=dict)
    best_val_mean_iou: float | None = None
    best_epoch: int = 0
    params: int = 0
    duration_s: float = 0.0
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""

    def reached(self, epoch: int) -> bool:
        """Whether there is a score to compare at the end of this epoch."""
        return len(self.scores) >= epoch

    def score_at(self, epoch: int) -> float:
        """The score that the trial is compared by at the end of an epoch that it reached."""
        return score_at(self.scores, epoch)

    def point(self, score: float) -> Point:
        """The trial as a point with one of its scores: one number per objective, higher is better in each."""
        return (score, *(-size for size in self.sizes.values()))

    @property
    def score(self) -> float:
        """`score_at` the last epoch of the finished segments; at least one must have finished."""
        return self.score_at(len(self.scores))


@dataclass(frozen=True)
class SearchState:
    """All trials of a search.

    Args:
        trials: By number.
        closed: Whether the search has ended.
        run_id: The search's run in the tracking store; empty while there is none.
        active_s: Seconds during which the search was running, up to its last segment's end or a stop after it.
        last_trained: The trial whose segment finished last: the worker that is free now still holds it.
        opened_with: Number of trials when the search was last extended.
        now: When the segment that finished last ended, by modelled cost alone.
    """

    trials: tuple[Trial, ...] = ()
    closed: bool = False
    run_id: str = ""
    active_s: float = 0.0
    last_trained: int | None = None
    opened_with: int = 0
    now: float = 0.0

    def in_state(self, *states: TrialState) -> list[Trial]:
        """The trials in one of these states, by number."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def num_started(self) -> int:
        """Configurations whose first segment was handed to a worker: what a budget counts."""
        return len(self.trials) - len(self.in_state(TrialState.PROPOSED, TrialState.REJECTED))

    @property
    def epochs_spent(self) -> int:
        """Epochs finished by all trials."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def rejected_in_a_row(self) -> int:
        """The number of proposals rejected since the newest started one, or since the search was last extended.

        Waiting proposals do not count.
        """
        count = 0
        for trial in reversed(self.trials[self.opened_with :]):
            if trial.state not in (TrialState.REJECTED, TrialState.PROPOSED):
                break
            count += trial.state is TrialState.REJECTED
        return count

    @property
    def gave_up(self) -> bool:
        """Whether so many proposals in a row were rejected that no more are asked for."""
        return self.rejected_in_a_row >= _MAX_REJECTED_IN_A_ROW

    @property
    def winner(self) -> Trial | None:
        """The completed trial with the best `best_val_mean_iou`; ties go to the smallest, then to the earliest."""
        completed = self.in_state(TrialState.COMPLETED)
        return max(completed, key=_best_first, default=None)

    @property
    def front(self) -> list[Trial]:
        """The completed trials that no other dominates in the objectives, the winner first."""
        completed = self.in_state(TrialState.COMPLETED)
        found = fronts([trial.point(trial.best_val_mean_iou or 0.0) for trial in completed])
        return [completed[index] for index in found[0]] if found else []


def ranked(state: SearchState) -> list[Trial]:
    """All trials as a leaderboard: completed first, then by `best_val_mean_iou`, those without a score last."""
    return sorted(
        state.trials, key=lambda trial: (trial.state is TrialState.COMPLETED, *_best_first(trial)), reverse=True
    )


def replay(events: Iterable[Event], start: SearchState | None = None) -> SearchState:
    """Adds up a search's record, oldest event first.

    Args:
        events: The whole record, or the events since `start`.
        start: The state to continue from; by default the one before the first event.

    Returns:
        The state after the last event.
    """
    start = start or SearchState()
    closed, run_id, active_s, last_trained = start.closed, start.run_id, start.active_s, start.last_trained
    opened_with, now = start.opened_with, start.now
    # A trial that many events touch is built once, at the end.
    trials: list[Trial | dict[str, Any]] = list(start.trials)
    for event in events:
        if event.kind == "proposed":
            payload = event.payload
            fields = {"values": payload["values"], "cost": Cost(**payload["cost"]), "sizes": payload.get("sizes", {})}
            trials.append({"number": len(trials), **fields})
        elif event.trial is not None:
            fields = _fields(trials[event.trial])
            fields.update(_changes(event))
            if event.kind == "started":
                is_anew, cost = last_trained != event.trial, fields["cost"]
                fields["starts"] = fields.get("starts", 0) + is_anew
                epochs = fields["until"] - fields.get("epochs", 0)
                fields["ends"] = now + epochs * cost.epoch + is_anew * cost.start + cost.report
            elif event.kind in ("finished", "failed"):
                last_trained, active_s = event.trial, event.payload["active_s"]
                now = max(now, fields.get("ends", 0.0))
            trials[event.trial] = fields
        elif event.kind == "tracked":
            run_id = event.payload["run_id"]
        elif event.kind == "interrupted":
            active_s = event.payload["active_s"]
        elif event.kind not in ("opened", "closed"):
            raise _unknown(event)
        else:
            closed = event.kind == "closed"
            before, after = TrialState.PAUSED, TrialState.STOPPED
            if not closed:
                before, after = after, before
                opened_with = len(trials)
            trials = [{**_fields(trial), "state": after} if _state(trial) is before else trial for trial in trials]
    made = (trial if isinstance(trial, Trial) else Trial(**trial) for trial in trials)
    return SearchState(tuple(made), closed, run_id, active_s, last_trained, opened_with, now)


def _fields(trial: Trial | dict[str, Any]) -> dict[str, Any]:
    return dict(vars(trial)) if isinstance(trial, Trial) else trial


def _state(trial: Trial | dict[str, Any]) -> TrialState:
    state: TrialState = vars(trial)["state"] if isinstance(trial, Trial) else trial.get("state", TrialState.PROPOSED)
    return state


def _changes(event: Event) -> dict[str, Any]:
    """What an event changes in a trial."""
    payload = event.payload
    match event.kind:
        case "tracked":
            return {"run_id": payload["run_id"]}
        case "measured":
            return {"step_ms": payload["step_ms"]}
        case "rejected":
            return {"state": TrialState.REJECTED, "reason": payload["reason"]}
        case "started":
            return {"state": TrialState.RUNNING, "until": payload["until"]}
        case "failed":
            return {"state": TrialState.FAILED, "reason": payload["reason"], "epochs": payload["epochs"]}
        case "finished":
            return {
                "state": TrialState.COMPLETED if payload["completed"] else TrialState.PAUSED,
                "epochs": payload["epochs"],
                "scores": tuple(payload["scores"]),
                "best_val_mean_iou": payload["best_val_mean_iou"],
                "best_epoch": payload["best_epoch"],
                "params": payload["params"],
                "duration_s": payload["duration_s"],
                "facts": payload,
            }
    raise _unknown(event)


def _unknown(event: Event) -> LedgerError:
    return LedgerError(f"the ledger holds an event '{event.kind}' that this version does not know; use a newer version")


def _best_first(trial: Trial) -> Point:
    score = trial.best_val_mean_iou
    return (float("-inf"), -trial.number) if score is None else (*trial.point(score), -trial.number)
