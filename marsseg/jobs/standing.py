"""Where a running study stands and how long it will still take: the data that every view of it shows."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marsseg.jobs.forecast import Forecast
from marsseg.jobs.settings import StudySettings
from marsseg.search.state import SearchState, Trial, TrialState

# Factor on the time left where workers wait for their turn.
_WAITING = 1.15
_ENDED_WELL = (TrialState.PAUSED, TrialState.COMPLETED, TrialState.STOPPED)


@dataclass(frozen=True)
class Segment:
    """A trial that is being trained.

    Args:
        trial: Its number.
        first: Epochs that it had when the segment began.
        epochs: Epochs finished.
        until: The segment's last epoch.
        score: `val_mean_iou` of the newest epoch, or None.
        epoch_s: Seconds that the newest epoch took, or None.
        silence_s: Seconds since the newest epoch or the segment's start.
    """

    trial: int
    first: int
    epochs: int
    until: int
    score: float | None
    epoch_s: float | None
    silence_s: float


class Standing:
    """Observes a driver and sums up its events.

    Args:
        settings: The study's.
        state: The state replayed from the ledger so far.
        records: Epochs that the ledger holds of each interrupted trial, by trial number.
        now: A clock in seconds.

    Attributes:
        forecast: The estimate before the first epoch has been timed; None where it is not known.
    """

    def __init__(
        self,
        settings: StudySettings,
        state: SearchState,
        records: Mapping[int, Sequence[Mapping[str, Any]]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.state = state
        self.forecast: Forecast | None = None
        self._now = now
        self._began = now()
        self._active_before_s = state.active_s
        self._newest: dict[int, Mapping[str, Any]] = {}
        self._heard: dict[int, float] = {}
        self._scores = {
            trial.number: trial.best_val_mean_iou
            for trial in state.trials
            if trial.best_val_mean_iou is not None and trial.state is not TrialState.FAILED
        }
        self._recipe_epochs = {name: settings.config(name).training.max_epochs for name in settings.configs}
        self._epochs_timed: int = sum(trial.facts.get("epochs", 0) for trial in state.trials)
        self._epoch_seconds: float = sum(trial.duration_s for trial in state.trials)
        # For each segment whose start was observed: when that was, and the seconds of its epochs.
        self._segments: dict[int, tuple[float, float]] = {}
        self._overheads: list[float] = []
        for number, known in records.items():
            for record in known[state.trials[number].epochs :]:
                self.on_epoch(state.trials[number], record)

    def on_epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        """Records an epoch."""
        self._epochs_timed += 1
        self._epoch_seconds += record["epoch_s"]
        self._newest[trial.number] = record
        self._heard[trial.number] = self._now()
        score = record["metrics"]["val_mean_iou"]
        self._scores[trial.number] = max(score, self._scores.get(trial.number, score))
        if trial.number in self._segments:
            start, seconds = self._segments[trial.number]
            self._segments[trial.number] = start, seconds + record["epoch_s"]

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Records the new state of a trial."""
        self.state = state
        if trial.state is TrialState.RUNNING:
            self._segments[trial.number] = self._now(), 0.0
            self._heard[trial.number] = self._now()
            return
        self._newest.pop(trial.number, None)
        start, seconds = self._segments.pop(trial.number, (None, 0.0))
        if start is not None and trial.state in _ENDED_WELL:
            self._overheads.append(max(0.0, self._now() - start - seconds))
        if trial.state is TrialState.FAILED:
            self._scores.pop(trial.number, None)
        elif trial.best_val_mean_iou is not None:
            self._scores[trial.number] = trial.best_val_mean_iou

    @property
    def elapsed_s(self) -> float:
        """Seconds since the study was started or resumed."""
        return self._now() - self._began

    @property
    def active_s(self) -> float:
        """Seconds during which the study has been run, by earlier drivers too."""
        return self._active_before_s + self.elapsed_s

    @property
    def running(self) -> list[Segment]:
        """The segments being trained, by trial number."""
        return [self._segment(trial) for trial in self.state.in_state(TrialState.RUNNING)]

    def _segment(self, trial: Trial) -> Segment:
        newest = self._newest.get(trial.number)
        return Segment(
            trial=trial.number,
            first=trial.epochs,
            epochs=newest["epoch"] if newest else trial.epochs,
            until=trial.until,
            score=newest["metrics"]["val_mean_iou"] if newest else None,
            epoch_s=newest["epoch_s"] if newest else None,
            silence_s=self._now() - self._heard.get(trial.number, self._began),
        )

    @property
    def counts(self) -> dict[TrialState, int]:
        """The number of trials in each state, without empty states."""
        counts = {state: len(self.state.in_state(state)) for state in TrialState}
        return {state: count for state, count in counts.items() if count}

    @property
    def rungs(self) -> dict[int, int]:
        """How many trials have reached each rung and no higher one; empty where nothing is compared."""
        levels = self.settings.build_scheduler().levels
        if len(levels) == 1:
            return {}
        standing = dict.fromkeys(levels, 0)
        for trial in self.state.trials:
            if trial.scores and trial.state is not TrialState.FAILED:
                reached = [level for level in levels if trial.reached(level)] or levels[:1]
                # A trial that stopped early is as complete as one that went to the end.
                standing[levels[-1] if trial.state is TrialState.COMPLETED else reached[-1]] += 1
        return standing

    @property
    def best(self) -> tuple[Trial, float] | None:
        """The trial with the highest score of any epoch so far, and the score; ties go to the earliest."""
        # A copy, since the view may be drawn in another thread.
        scores = dict(self._scores)
        if not scores:
            return None
        number = max(scores, key=lambda number: (scores[number], -number))
        return self.state.trials[number], scores[number]

    @property
    def epochs_spent(self) -> int:
        """Epochs finished by all trials, those being trained included."""
        return self.state.epochs_spent + sum(segment.epochs - segment.first for segment in self.running)

    @property
    def seconds_left(self) -> float | None:
        """How long it will still take, or None where the duration of an epoch is unknown, or nothing is left.

        An epoch is taken to last as long as epochs have so far, and each segment to add what segments have added:
        building the network, tracing the step, drawing the figures.
        """
        running = self.running
        if self.settings.budget.seconds is not None:
            return max(0.0, self.settings.budget.seconds - self.active_s)
        gave_up = self.state.gave_up
        waiting = range(self.state.num_started, 0 if gave_up else self.settings.budget.trials or 0)
        epochs_left = sum(segment.until - segment.epochs for segment in running) + self._first_epochs(waiting)
        if self.settings.kind == "search" and not gave_up:
            epochs_left = max(epochs_left, self.settings.epochs_planned - self.epochs_spent)
        if self._epoch_s is None or epochs_left <= 0 or self.state.closed:
            return None
        # Without a limit on configurations, there is always another one for a free worker.
        busy = self.settings.trials_at_a_time
        if self.settings.budget.trials is not None:
            busy = min(busy, len(running) + len(waiting))
        plan = self.settings.plan
        segments_per_epoch = plan.segments / plan.epochs if plan.epochs else 0.0
        seconds = epochs_left * (self._epoch_s + self._segment_s * segments_per_epoch) / max(1, busy)
        return seconds * _WAITING if busy > 1 and self.settings.in_modelled_order else seconds

    def _first_epochs(self, waiting: range) -> int:
        """The epochs of the first segments of waiting trials."""
        if self.settings.kind == "training":
            return sum(self._recipe_epochs[self.settings.recipe_of(number)[0]] for number in waiting)
        each = self.settings.max_epochs if self.settings.scheduler == "none" else self.settings.min_epochs
        return each * len(waiting)

    @property
    def _epoch_s(self) -> float | None:
        if self._epochs_timed:
            return self._epoch_seconds / self._epochs_timed
        return self.forecast.epoch_s if self.forecast else None

    @property
    def _segment_s(self) -> float:
        # A worker's first segment includes its imports too, the others do not.
        overheads = self._overheads[self.settings.trials_at_a_time :]
        if overheads:
            return statistics.median(overheads)
        return self.forecast.segment_s if self.forecast else 0.0

    @property
    def full_training_s(self) -> float | None:
        """Seconds that full training of all configurations would take; None without a forecast or their number."""
        trials = self.settings.budget.trials
        if self.forecast is None or trials is None:
            return None
        return trials * self.forecast.full_training_s / self.settings.trials_at_a_time

    @property
    def time_left(self) -> str:
        """`about 12 min left`, or empty where that is not known."""
        seconds = self.seconds_left
        if seconds is None:
            return ""
        return "less than a minute left" if seconds < 60 else f"about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """A duration as people say it: `40 s`, `12 min`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
