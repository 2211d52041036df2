"""The lines below the table of a leaderboard, and terminals that cannot show every letter."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marsseg.cli.output import print_leaderboard


def document(num_failed: int) -> dict[str, Any]:
    row = {"run_id": None, "epochs": 1, "best_val_mean_iou": None, "best_epoch": 0, "params": 0, "values": {}}
    completed = [{**row, "rank": n, "trial": n, "state": "completed", "reason": ""} for n in range(1, 4)]
    failed = [
        {**row, "rank": n, "trial": n, "state": "failed", "reason": f"fault {n}"} for n in range(4, 4 + num_failed)
    ]
    fixed = {"search": "s", "objectives": ["val_mean_iou"], "epochs_spent": 8, "epochs_planned": 9}
    return {**fixed, "tracking_uri": None, "trials": [*completed, *failed]}


def test_failed_trials_are_named_once_whether_the_table_shows_them_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    for top in (None, 3, 4, 5):
        print_leaderboard(document(2), top)
        printed = capsys.readouterr().out
        assert printed.count("fault 4") == 1
        assert printed.count("fault 5") == 1


def test_of_very_many_failed_trials_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard(document(14), top=3)
    lines = capsys.readouterr().out.splitlines()
    assert sum("failed: fault" in line for line in lines) == 10
    assert "and 4 more failed; see: marsexp leaderboard s" in lines


def test_a_result_is_shown_in_any_encoding(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "marsseg.cli.app", "data", "synth", "--images", "1", "--out", "tiles….npz"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"tiles?.npz: 1 tiles of 64x128\n"), done.stderr


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>&- >&- <&-"])
def test_streams_that_are_closed_from_the_start_cost_nothing_and_mix_nothing(closed: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m marsseg.cli.app"
    environment = {**os.environ, "MARSEXP_HOME": str(tmp_path)}
    failing, working = (
        subprocess.run(
            f"{command} {what} {closed}", shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        for what in ("leaderboard", "data synth --images 1 --out tiles.npz")
    )
    # The message of an error is no result.
    assert (failing.returncode, failing.stdout) == (1, b"")
    assert working.returncode == 0, working.stderr
    assert (tmp_path / "tiles.npz").exists()
