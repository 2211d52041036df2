"""What a person sees while a study runs: plain lines on stderr."""

import sys
from typing import Any

from marsseg.jobs.settings import StudySettings
from marsseg.search.state import SearchState, Trial, TrialState


def notify(text: str) -> None:
    """Shows a notice; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


class PlainProgress:
    """Observes a driver and prints a line for every segment that ends.

    Args:
        settings: What the study is.
    """

    def __init__(self, settings: StudySettings) -> None:
        self._settings = settings
        self._epochs_seen = 0
        self._seconds_seen = 0.0

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Learns how long an epoch takes."""
        self._epochs_seen += 1
        self._seconds_seen += record["epoch_s"]

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Prints where the trial stands."""
        if trial.state in (TrialState.PROPOSED, TrialState.RUNNING):
            return
        place = f"[{state.num_started}/{self._settings.budget}] trial {trial.number} {trial.state}"
        if trial.reason:
            notify(f"{place}: {trial.reason}")
            return
        scored = [other for other in state.trials if other.best_val_mean_iou is not None]
        best = max(scored, key=lambda other: (other.best_val_mean_iou or 0.0, -other.number))
        notify(
            f"{place} after {trial.epochs} epochs, best val_mean_iou {trial.best_val_mean_iou:.4f}; "
            f"leader trial {best.number} with {best.best_val_mean_iou:.4f}{self._time_left(state)}"
        )

    def _time_left(self, state: SearchState) -> str:
        epochs_left = self._settings.epochs_planned - state.epochs_spent
        if not self._epochs_seen or epochs_left <= 0:
            return ""
        seconds = epochs_left * self._seconds_seen / self._epochs_seen / self._settings.workers
        return f"; about {seconds / 60:.0f} min left" if seconds >= 60 else "; less than a minute left"
