"""The live view of a study: redrawn twice a second at the foot of the terminal, while notices scroll by above it."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from marsseg.jobs.progress import notify
from marsseg.jobs.standing import Segment, Standing, in_words
from marsseg.search.state import SearchState, Trial, TrialState

_DRAWN_PER_SECOND = 2
_LABEL_WIDTH = 8
_BAR_SHARE = 0.3
# An epoch that takes longer than the one before must not look finished.
_MOST_OF_AN_EPOCH = 0.95


class LiveProgress:
    """Observes a driver and shows where its study stands until the block ends; then a one-line summary stays.

    Args:
        standing: Where the study stands.
    """

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._console = Console(stderr=True)
        self._over = False
        # Drawn in a thread of its own, so that the driver is not held up.
        self._live = Live(self, console=self._console, refresh_per_second=_DRAWN_PER_SECOND, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        try:
            self._live.stop()
        finally:
            # A second Ctrl-C may come in the middle of the line above.
            self._console.show_cursor(True)

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Records the epoch."""
        self._standing.on_epoch(trial, record)

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Records the trial's state; reports a failure, which the counts alone would not explain."""
        self._standing.on_change(state, trial)
        if trial.state is TrialState.FAILED:
            notify(f"trial {trial.number} failed: {trial.reason}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield render_summary(self._standing) if self._over else render_standing(self._standing, options.max_width)


def render_standing(standing: Standing, width: int) -> RenderableType:
    """A study in progress.

    Args:
        standing: Where it stands.
        width: Columns of the terminal.
    """
    bar_width = round(width * _BAR_SHARE)
    rows = Table.grid(padding=(0, 1))
    rows.add_column(min_width=_LABEL_WIDTH, style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("epochs", _budget_row(standing, bar_width))
    rows.add_row("trials", _trials(standing))
    if standing.rungs:
        rows.add_row("rungs", _rungs(standing))
    for segment in standing.running:
        done = segment.epochs - segment.first + _part_of_epoch(segment)
        bar = _bar_row(done, segment.until - segment.first, bar_width, _epoch(segment))
        rows.add_row(f"trial {segment.trial}", bar)
    if standing.best:
        rows.add_row("best", _best(*standing.best))
    return Group(_headline(standing), rows)


def _headline(standing: Standing) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{standing.settings.kind} {standing.settings.name}", style="bold")
    line.append(f"  {_clock(standing.elapsed_s)}", style="cyan")
    if standing.time_left:
        line.append(f"  {standing.time_left}", style="bold cyan")
    return line


def _budget_row(standing: Standing, width: int) -> Table:
    """How much of the budget has been spent."""
    spent, planned = standing.epochs_spent, standing.settings.epochs_planned
    if standing.settings.budget.seconds is None:
        return _bar_row(spent, planned, width, _epochs(spent, planned))
    return _bar_row(standing.active_s, standing.settings.budget.seconds, width, Text(str(spent)))


def _bar_row(done: float, total: float, width: int, note: Text) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=width)
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(ProgressBar(total=max(1, total), completed=min(done, total), width=width), note)
    return row


def _epochs(spent: int, planned: int) -> Text:
    return Text(f"{spent} of about {planned}" if spent <= planned else f"{spent}, about {planned} were planned")


def _trials(standing: Standing) -> Text:
    line = Text(_started(standing))
    separator = ": "
    for state, count in standing.counts.items():
        if state is not TrialState.PROPOSED:
            line.append(f"{separator}{count} {state}", style="red" if state is TrialState.FAILED else "")
            separator = ", "
    return line


def _started(standing: Standing) -> str:
    of = f" of {standing.settings.budget}" if standing.settings.budget.trials else ""
    return f"{standing.state.num_started}{of}"


def _rungs(standing: Standing) -> Text:
    line = Text()
    for level, count in standing.rungs.items():
        line.append(f"{level}: ", style="dim").append(f"{count}   ")
    return line.append("(epochs: trials)", style="dim")


def _epoch(segment: Segment) -> Text:
    if segment.epochs >= segment.until:
        line = Text(f"epoch {segment.until} of {segment.until} done, reporting or waiting")
    else:
        line = Text(f"epoch {segment.epochs + 1} of {segment.until}")
    return line if segment.score is None else line.append(f"  last val_mean_iou {segment.score:.4f}", style="dim")


def _part_of_epoch(segment: Segment) -> float:
    """The estimated share of the epoch in progress that is done."""
    if not segment.epoch_s or segment.epochs >= segment.until:
        return 0.0
    return min(_MOST_OF_AN_EPOCH, segment.silence_s / segment.epoch_s)


def _best(trial: Trial, score: float) -> Text:
    line = Text().append(f"{score:.4f}", style="bold green").append(f"  trial {trial.number}  ")
    choices = ", ".join(f"{_short(path)}={_shown(value)}" for path, value in trial.values.items())
    return line.append(choices, style="dim")


def _short(path: str) -> str:
    """`optimizer.name` is the optimizer, `loss.terms` the loss."""
    group, _, name = path.rpartition(".")
    return group if name in ("name", "terms") else name


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def render_summary(standing: Standing) -> Text:
    """What a study had achieved when its view was closed."""
    line = Text().append(f"{standing.settings.kind} {standing.settings.name}", style="bold")
    line.append(f": {_started(standing)} trials")
    for state in (TrialState.COMPLETED, TrialState.FAILED, TrialState.REJECTED):
        if state in standing.counts:
            line.append(f", {standing.counts[state]} {state}")
    line.append(f"; {standing.epochs_spent} epochs, {in_words(standing.elapsed_s)}")
    if standing.best:
        trial, score = standing.best
        line.append(f"; best {score:.4f} (trial {trial.number})")
    return line
