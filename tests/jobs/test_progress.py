"""Progress of a study while it runs: figures worked out by hand, and both views in real runs."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import time
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any

import pytest

from marsseg.jobs.forecast import Forecast
from marsseg.jobs.progress import show_progress
from marsseg.jobs.standing import Standing, in_words
from marsseg.search.budget import Budget
from marsseg.search.plan import Plan
from marsseg.search.state import SearchState, Trial, TrialState
from tests.conftest import Marsexp, write_tiles
from tests.jobs.toy_study import build_settings

SETTINGS = replace(
    build_settings(), budget=Budget(4), min_epochs=1, max_epochs=4, reduction_factor=2, plan=Plan(10, 8, 100.0)
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|9[0-7])[;m]")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def record(epoch: int, score: float, seconds: float = 10.0) -> dict[str, Any]:
    return {"epoch": epoch, "epoch_s": seconds, "metrics": {"val_mean_iou": score}}


def paused(number: int, score: float, epochs: int = 1, seconds: float = 10.0) -> Trial:
    facts = {"epochs": epochs}
    return Trial(
        number,
        {"optimizer.name": "adamw", "model.num_blocks": 3},
        TrialState.PAUSED,
        until=epochs,
        epochs=epochs,
        scores=(score,) * epochs,
        best_val_mean_iou=score,
        best_epoch=epochs,
        duration_s=seconds,
        facts=facts,
    )


def running(number: int, until: int = 1, since: Trial | None = None) -> Trial:
    return replace(since or Trial(number, {}), state=TrialState.RUNNING, until=until)


def test_epochs_rungs_and_leader_follow_what_the_driver_tells() -> None:
    standing = Standing(SETTINGS, SearchState(), {}, Clock())
    assert standing.best is None
    assert standing.time_left == ""
    first = paused(0, 0.3)
    promoted = running(0, until=2, since=first)
    standing.on_change(SearchState((promoted, running(1))), running(1))
    standing.on_epoch(running(1), record(1, 0.5))
    assert standing.epochs_spent == 2
    assert standing.rungs == {1: 1, 2: 0, 4: 0}
    assert standing.best is not None
    assert (standing.best[0].number, standing.best[1]) == (1, 0.5)
    failed = replace(running(1), state=TrialState.FAILED, epochs=1, reason="NaN")
    standing.on_change(SearchState((paused(0, 0.4, epochs=2), failed)), failed)
    standing.on_change(SearchState((paused(0, 0.4, epochs=2), failed)), paused(0, 0.4, epochs=2))
    assert standing.epochs_spent == 3
    assert standing.rungs == {1: 0, 2: 1, 4: 0}
    assert standing.best is not None
    assert standing.best[0].number == 0, "what has failed cannot win"


def test_what_stopped_early_stands_at_the_last_rung_and_a_training_has_none() -> None:
    early = replace(paused(0, 0.3, epochs=3), state=TrialState.COMPLETED)
    assert Standing(SETTINGS, SearchState((early,)), {}).rungs == {1: 0, 2: 0, 4: 1}
    assert Standing(replace(SETTINGS, scheduler="none"), SearchState((early,)), {}).rungs == {}


def test_time_left_counts_epochs_and_what_segments_cost_besides() -> None:
    clock = Clock()
    standing = Standing(SETTINGS, SearchState(), {}, clock)
    trials: list[Trial] = []
    for number in range(3):
        trials.append(running(number))
        standing.on_change(SearchState(tuple(trials)), running(number))
        # An epoch takes 10 s; each segment adds 30 s the first time in the worker, then 7 s.
        clock.seconds += 10 + (30 if number == 0 else 7)
        standing.on_epoch(running(number), record(1, 0.1))
        trials[number] = paused(number, 0.1)
        standing.on_change(SearchState(tuple(trials)), trials[number])
        if number == 0:
            assert standing.seconds_left == pytest.approx(9 * 10), "imports are paid for once"
    # The plan was 10 epochs in 8 segments; 7 epochs are left.
    assert standing.seconds_left == pytest.approx(7 * (10 + 7 * 8 / 10))
    assert standing.time_left == "about 2 min left"


def test_time_left_is_forecast_until_an_epoch_has_been_timed() -> None:
    clock = Clock()
    standing = Standing(SETTINGS, SearchState(), {}, clock)
    assert standing.seconds_left is None
    standing.forecast = Forecast(epoch_s=20.0, segment_s=8.0, full_training_s=90.0)
    assert standing.seconds_left == pytest.approx(10 * (20 + 8 * 8 / 10))
    assert standing.full_training_s == pytest.approx(4 * 90)
    standing.on_change(SearchState((running(0),)), running(0))
    clock.seconds += 10
    standing.on_epoch(running(0), record(1, 0.1))
    assert standing.seconds_left == pytest.approx(9 * (10 + 8 * 8 / 10))


def test_time_left_goes_on_where_more_epochs_are_needed_than_planned() -> None:
    settings = replace(SETTINGS, plan=Plan(2, 2, 20.0), workers=2)
    trials = (paused(0, 0.2), paused(1, 0.2, epochs=2, seconds=30), running(2, until=1))
    standing = Standing(settings, SearchState(trials), {})
    # 40 s for 3 epochs so far; trial 2 and one not yet started need 1 epoch each, in parallel, plus time spent waiting.
    assert standing.seconds_left == pytest.approx(1.15 * 2 * 40 / 3 / 2)
    assert standing.time_left == "less than a minute left"
    assert Standing(settings, SearchState(trials[:2], closed=True), {}).seconds_left is None


def test_a_search_that_gave_up_waits_for_nothing_but_what_is_trained() -> None:
    rejected = tuple(Trial(number, {}, TrialState.REJECTED) for number in range(2, 202))
    state = SearchState((paused(0, 0.2), running(1, until=2), *rejected))
    assert Standing(SETTINGS, state, {}).seconds_left == pytest.approx(2 * (10 + 0.0))
    assert Standing(SETTINGS, replace(state, trials=state.trials[:-1]), {}).seconds_left == pytest.approx(9 * 10)


def test_a_search_without_a_number_of_configurations_keeps_all_workers_busy() -> None:
    settings = replace(SETTINGS, budget=Budget(epochs=20), plan=Plan(20, 5, 200.0), workers=4)
    standing = Standing(settings, SearchState(), {})
    standing.forecast = Forecast(epoch_s=20.0, segment_s=8.0, full_training_s=90.0)
    assert standing.seconds_left == pytest.approx(1.15 * 20 * (20 + 8 * 5 / 20) / 4)


def test_time_left_of_a_training_follows_what_each_recipe_wants() -> None:
    configs = {name: {"training": {"max_epochs": epochs}} for name, epochs in (("short", 6), ("long", 10))}
    settings = replace(SETTINGS, kind="training", scheduler="none", configs=configs, num_seeds=2, max_epochs=10)
    # One run stopped after 4 of 6 epochs, 10 s each; one of 6 epochs and two of 10 are waiting.
    early = replace(paused(0, 0.3, epochs=4, seconds=40), state=TrialState.COMPLETED)
    standing = Standing(replace(settings, plan=Plan(32, 4, 320.0)), SearchState((early,)), {})
    assert standing.seconds_left == pytest.approx((6 + 10 + 10) * (10 + 0.0))


def test_study_that_goes_on_knows_the_epochs_of_a_trial_that_was_cut_off() -> None:
    cut_off = running(1, until=4, since=paused(1, 0.2, epochs=2, seconds=20))
    known = {1: [record(1, 0.1), record(2, 0.2), record(3, 0.6, seconds=40)]}
    standing = Standing(SETTINGS, SearchState((paused(0, 0.3), cut_off)), known)
    (segment,) = standing.running
    assert (segment.first, segment.epochs, segment.until, segment.score) == (2, 3, 4, 0.6)
    assert standing.epochs_spent == 4
    assert standing.best is not None
    assert standing.best[1] == 0.6
    assert standing.seconds_left == pytest.approx(6 * (10 + 20 + 40) / 4)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59.4, "59 s"), (90, "2 min"), (7100, "118 min"), (7320, "2 h 02 min"), (90000, "25 h 00 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


class Terminal(io.StringIO):
    """Captures what is written to a terminal of 100 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return terminal


def show_a_failure(terminal: Terminal, interrupt: bool) -> None:
    with redirect_stderr(terminal), show_progress(Standing(SETTINGS, SearchState(), {})) as progress:
        trials = (paused(0, 0.3), replace(running(1), state=TrialState.FAILED, reason="NaN in the loss"))
        progress.on_change(SearchState(trials), trials[0])
        progress.on_change(SearchState(trials), trials[1])
        if interrupt:
            raise KeyboardInterrupt


def test_notice_stands_above_the_live_view_and_one_line_stays(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt):
        show_a_failure(terminal, interrupt=True)
    shown = terminal.getvalue()
    assert COLOUR.search(shown)
    before, _, after = shown.partition("trial 1 failed: NaN in the loss")
    # The view is erased line by line, then the notice is printed alone, then the view again.
    assert re.search(r"\r(\x1b\[2K\x1b\[1A){2,}\x1b\[2K$", before)
    assert after.startswith("\n")
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    last_line = ESCAPE.sub("", shown).rstrip().splitlines()[-1]
    assert last_line.endswith("search toy: 2 of 4 trials, 1 failed; 1 epochs, 0 s; best 0.3000 (trial 0)")


def test_no_color_is_respected(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    show_a_failure(terminal, interrupt=False)
    assert "trials" in terminal.getvalue()
    assert not COLOUR.search(terminal.getvalue())


def test_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    show_a_failure(terminal, interrupt=False)
    assert terminal.getvalue().splitlines() == [
        "[2/4] trial 0 paused after 1 epochs, best val_mean_iou 0.3000; leader trial 0 with 0.3000",
        "[2/4] trial 1 failed: NaN in the loss",
    ]


def read_until(descriptor: int, shown: str, wanted: str) -> str:
    """The output sent to a terminal, until it matches the pattern; all of it if the pattern is empty."""
    deadline = time.monotonic() + 120
    while not wanted or not re.search(wanted, ESCAPE.sub("", shown)):
        assert time.monotonic() < deadline, f"waited for {wanted!r}: {shown[-2000:]}"
        if not select.select([descriptor], [], [], 1)[0]:
            continue
        try:
            shown += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:
            break
    return shown


def test_search_in_a_terminal_is_interrupted_and_goes_on_through_a_pipe(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    ours, theirs = pty.openpty()
    search = ("search", "--space", "space.toml", "--data", "tiles.npz", "--name", "s", "--max-epochs", "2")
    search += ("--scheduler", "asha", "--workers", "1")
    process = subprocess.Popen(
        marsexp.command(*search, "--budget", "2"),
        cwd=marsexp.folder,
        env={**marsexp.environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = read_until(ours, "", r"left\s+epochs .* 1 of about \d+\s+trials +\d of 2: .*1 paused")
        process.send_signal(signal.SIGINT)
        shown = read_until(ours, shown, "")
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(ours)
    text = ESCAPE.sub("", shown)
    assert process.returncode == 130
    assert stdout == b""
    assert HIDE in shown
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert "rungs    1: 1   2: 0   (epochs: trials)" in text
    assert re.search(r"best     0\.\d{4}  trial 0  num_blocks=[23], base_filters=[48], loss=\w+", text)
    *_, summary, hint = text.split("\r\n")[:-1]
    assert re.fullmatch(r".*search s: \d of 2 trials.*; best 0\.\d{4} \(trial 0\)", summary)
    assert hint == "stopped; resume with: marsexp search --resume s"

    resumed = marsexp("search", "--resume", "s", "--json")
    assert resumed.status == 0, resumed.stderr
    assert "\x1b" not in resumed.stderr
    assert re.search(r"^\[2/2\] trial \d completed after 2 epochs", resumed.stderr, re.MULTILINE)
    assert resumed.json()["epochs_spent"] == 3
