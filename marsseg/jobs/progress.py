"""The progress display of a running study, on stderr: a live view in a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from marsseg.jobs.standing import Standing
from marsseg.search.state import SearchState, Trial, TrialState

if TYPE_CHECKING:
    from marsseg.jobs.driver import Observer

_WITHOUT_CURSOR = ("dumb", "unknown")


def notify(text: str) -> None:
    """Shows a notice; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def show_progress(standing: Standing) -> Iterator["Observer"]:
    """Shows a study's progress, in the form that suits stderr.

    Args:
        standing: Where the study stands; the yielded observer updates it.

    Yields:
        The observer that the driver has to notify.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in _WITHOUT_CURSOR:
        yield PlainProgress(standing)
        return
    from marsseg.jobs.live import LiveProgress

    with LiveProgress(standing) as live:
        yield live


class PlainProgress:
    """Observes a driver and prints a line for every segment that ends.

    Args:
        standing: Where the study stands.
    """

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Learns how long an epoch takes."""
        self._standing.on_epoch(trial, record)

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Prints where the trial stands."""
        self._standing.on_change(state, trial)
        if trial.state in (TrialState.PROPOSED, TrialState.RUNNING):
            return
        of = f"/{self._standing.settings.budget}" if self._standing.settings.budget.trials else ""
        place = f"[{state.num_started}{of}] trial {trial.number} {trial.state}"
        if trial.reason:
            notify(f"{place}: {trial.reason}")
            return
        line = f"{place} after {trial.epochs} epochs, best val_mean_iou {trial.best_val_mean_iou:.4f}"
        if self._standing.best:
            leader, score = self._standing.best
            line += f"; leader trial {leader.number} with {score:.4f}"
        left = self._standing.time_left
        notify(f"{line}; {left}" if left else line)
