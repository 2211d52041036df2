"""The driver of a study: asks the scheduler, hands segments to workers, writes the ledger, notifies the tracker.

A kill at any line loses at most the epoch in progress: every decision is in the ledger, every finished epoch in a
checkpoint, and a resumed study starts from both.

Where several workers share a CPU, results are processed in the order of modelled cost, and an early one waits for its
turn. So what is known at the next decision depends on the seed and the number of workers, not on a clock.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError
from marsseg.jobs.admission import Admission
from marsseg.jobs.candidates import Candidates
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.worker import MeasureTask, TrainTask
from marsseg.search.executor import LocalExecutor, Message
from marsseg.search.ledger import LedgerWriter
from marsseg.search.scheduler import Finish, Propose, RunSegment, Scheduler
from marsseg.search.state import SearchState, Trial, TrialState, replay
from marsseg.training.checkpoint import drop_checkpoints

_POLL_S = 1.0
# A trial that may still be resumed keeps its last checkpoint, one that never will be keeps none. The checkpoints of a
# running trial are its worker's business.
_CHECKPOINTS_KEPT = {TrialState.PAUSED: 1, TrialState.COMPLETED: 0, TrialState.FAILED: 0}


class Observer(Protocol):
    """Is notified by a driver while it runs; the ledger already holds everything that it is told."""

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """An epoch has finished."""

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """A trial was started, paused, completed, rejected or failed."""


@dataclass
class Driver:
    """Runs a study to its end.

    Args:
        settings: The study's.
        candidates: Proposes configurations.
        admission: Checks them first.
        scheduler: Allocates epochs.
        writer: The ledger, held by this driver alone.
        executor: Runs segments.
        observers: Notified of everything.
        home: Where checkpoints are.
        state: The state replayed from the ledger so far.
        epochs: How many epochs the ledger holds of each interrupted trial, by trial number.
        in_order: Whether results are processed in the order of modelled cost; otherwise as they arrive.
        should_stop: Called between two writes; true interrupts the study.
    """

    settings: StudySettings
    candidates: Candidates
    admission: Admission
    scheduler: Scheduler
    writer: LedgerWriter
    executor: LocalExecutor
    observers: list[Observer]
    home: Home
    state: SearchState
    epochs: dict[int, int] = field(default_factory=dict)
    in_order: bool = True
    should_stop: Callable[[], bool] = lambda: False
    _identities: dict[str, int] = field(default_factory=dict)
    _measuring: int | None = None
    _active: set[int] = field(default_factory=set)
    _results: dict[int, Message] = field(default_factory=dict)
    _deaths: dict[int, int] = field(default_factory=dict)
    _active_before_s: float = 0.0
    _began: float = 0.0
    _untold: list[Callable[[Observer], None]] = field(default_factory=list)

    def run(self) -> SearchState:
        """Runs until the scheduler says that the study is over.

        Returns:
            The final state; the ledger is closed.

        Raises:
            KeyboardInterrupt: If it should stop before that.
            TrainingError: If workers cannot start, or cannot write to the disk.
        """
        self._active_before_s, self._began = self.state.active_s, time.monotonic()
        for trial in self.state.trials:
            # The first trial of each identity that was admitted, even if it still waits or turned out too slow.
            if self.admission.reason_to_reject(trial.values) is None:
                self._identities.setdefault(self.candidates.identity(trial.values), trial.number)
        for trial in self.state.in_state(*_CHECKPOINTS_KEPT):
            # A kill may have come between a segment's end and this.
            self._free_disk(trial)
        for trial in self.state.in_state(TrialState.PROPOSED):
            # A kill may have come before it was checked.
            self._admit(trial)
        while True:
            finished = self.state.closed or self._dispatch()
            # Workers come first: observers are notified while they train.
            self._tell_all()
            if finished:
                break
            if self.should_stop():
                self._append("interrupted", active_s=self._active_s())
                raise KeyboardInterrupt
            # No decision may depend on whether a step is timed before or after a result arrives.
            if self._measuring is None and self._settle_next():
                continue
            for message in self.executor.poll(_POLL_S):
                self._take(message)
        if not self.state.closed:
            self._append("closed")
        return self.state

    def _append(self, kind: str, trial: int | None = None, **payload: Any) -> None:
        self.state = replay([self.writer.append(kind, trial, **payload)], self.state)

    def _dispatch(self) -> bool:
        """Gives every free worker a segment; true where nothing is left to do."""
        # A worker whose result waits for its turn waits too.
        while self.executor.num_free > len(self._results) and not self.should_stop():
            interrupted = [t for t in self.state.in_state(TrialState.RUNNING) if t.number not in self._active]
            if interrupted:
                self._submit(interrupted[0])
                continue
            match self.scheduler.decide(self.state, self._budget()):
                case RunSegment(number, until):
                    if not self._is_measured(number):
                        if self._measuring is None:
                            self._measure(number)
                        return False
                    self._start(number, until)
                case Propose():
                    self._propose()
                case Finish():
                    return True
                case _:
                    return False
        return False

    def _budget(self) -> int:
        if self.state.gave_up:
            return self.state.num_started + len(self.state.in_state(TrialState.PROPOSED))
        return self.settings.budget.most_trials

    def _propose(self) -> None:
        values = self.candidates.propose(self.state)
        self._append("proposed", len(self.state.trials), values=values, **self.admission.facts(values))
        self._admit(self.state.trials[-1])

    def _admit(self, trial: Trial) -> None:
        """Rejects a proposal that cannot be tried, or has been tried before."""
        reason = self.admission.reason_to_reject(trial.values)
        if reason is None:
            same = self._identities.setdefault(self.candidates.identity(trial.values), trial.number)
            reason = None if same == trial.number else f"the same as trial {same}"
        if reason is None and trial.step_ms is not None:
            # The kill came after its step was timed.
            reason = self.admission.reason_after_measuring(trial.step_ms)
        self._reject_for(reason, trial.number)

    def _reject_for(self, reason: str | None, number: int) -> None:
        if reason is not None:
            self._append("rejected", number, reason=reason)
            self._changed(number)

    @property
    def _log(self) -> Path:
        return self.home.log(f"study-{self.settings.name}")

    def config(self, trial: Trial) -> ExperimentConfig:
        """A trial's experiment config."""
        return self.candidates.config(trial.values)

    def _is_measured(self, number: int) -> bool:
        trial = self.state.trials[number]
        limited = self.admission.filters.max_step_ms is not None
        return not limited or trial.step_ms is not None or trial.state is not TrialState.PROPOSED

    def _measure(self, number: int) -> None:
        data = self.admission.data
        config = data.as_trained(self.config(self.state.trials[number]))
        task = MeasureTask(config.to_json(), data.image_shape, self._log)
        self._measuring = number
        self.executor.submit(("step", number), task, runtime=config.training.threads, held=self._results)

    def _take_step(self, number: int, message: Message) -> None:
        """A step that failed is recorded as 0 ms and so passes the limit: training will show what is wrong."""
        self._measuring = None
        if message.kind == "died":
            # Once may be bad luck: it is timed again.
            if self._deaths.pop(number, None) is None:
                self._deaths[number] = 0
            else:
                self._reject_for(f"its step could not be timed: {message.body}", number)
            return
        self._deaths.pop(number, None)
        step_ms = message.body * 1000 if message.kind == "done" else 0.0
        self._append("measured", number, step_ms=step_ms)
        self._reject_for(self.admission.reason_after_measuring(step_ms), number)

    def _start(self, number: int, until: int) -> None:
        max_epochs = self.config(self.state.trials[number]).training.max_epochs
        self._append("started", number, until=min(until, max_epochs))
        self._submit(self.state.trials[number])
        self._changed(number)

    def _submit(self, trial: Trial) -> None:
        config = self.config(trial)
        folder = self.home.checkpoints(self.settings.name, trial.number)
        task = TrainTask(
            config.to_json(),
            folder,
            trial.until,
            self.settings.fingerprint["digest"],
            self._log,
        )
        self._active.add(trial.number)
        # Prefer an idle worker that is not needed to resume a trial whose result still waits.
        self.executor.submit(trial.number, task, runtime=config.training.threads, held=self._results)

    def _take(self, message: Message) -> None:
        """Writes a worker's message to the ledger."""
        if message.kind == "unable":
            raise TrainingError(message.body)
        match message.key:
            case int(number):
                self._take_segment(number, message)
            case ("step", int(number)):
                self._take_step(number, message)

    def _take_segment(self, number: int, message: Message) -> None:
        if message.kind == "epoch":
            self._take_epoch(number, message.body)
        elif message.kind == "died" and self._deaths.get(number) != self.epochs.get(number, 0):
            # In the ledger it is still running: the next free worker resumes it from its checkpoint.
            self._deaths[number] = self.epochs.get(number, 0)
            self._active.discard(number)
        else:
            self._results[number] = message

    def _settle_next(self) -> bool:
        """Writes the next result to the ledger, if it has arrived."""
        running = self.state.in_state(TrialState.RUNNING)
        expected = [trial for trial in running if self.in_order or trial.number in self._results]
        trial = min(expected, key=lambda trial: (trial.ends, trial.number), default=None)
        if trial is None or trial.number not in self._results:
            return False
        number, result = trial.number, self._results.pop(trial.number)
        self._active.discard(number)
        self._deaths.pop(number, None)
        if result.kind == "done":
            self._append("finished", number, **result.body, active_s=self._active_s())
        else:
            epochs = max(trial.epochs, self.epochs.get(number, 0))
            self._append("failed", number, reason=result.body, epochs=epochs, active_s=self._active_s())
        self._free_disk(self.state.trials[number])
        self._changed(number)
        return True

    def _active_s(self) -> float:
        return self._active_before_s + time.monotonic() - self._began

    def _free_disk(self, trial: Trial) -> None:
        # Checkpoints that cannot be removed now are removed with the others when the search ends.
        with suppress(OSError):
            drop_checkpoints(self.home.checkpoints(self.settings.name, trial.number), _CHECKPOINTS_KEPT[trial.state])

    def _take_epoch(self, number: int, record: dict[str, Any]) -> None:
        # A worker that resumes from a checkpoint reports its epochs again, from the first.
        self.epochs[number] = max(self.epochs.get(number, 0), record["epoch"])
        if self.writer.append_epoch(number, record["epoch"], record):
            trial = self.state.trials[number]
            self._untold.append(lambda observer: observer.on_epoch(trial, record))

    def _changed(self, number: int) -> None:
        state, trial = self.state, self.state.trials[number]
        self._untold.append(lambda observer: observer.on_change(state, trial))

    def _tell_all(self) -> None:
        for tell in self._untold:
            for observer in self.observers:
                tell(observer)
        self._untold.clear()
