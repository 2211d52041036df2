"""A trial whose worker hangs until the driver gives up on it after two minutes, and whose next worker hangs too."""

import subprocess
import time

import psutil
import pytest

from marsseg.search.ledger import Ledger
from marsseg.search.state import TrialState, replay
from tests.conftest import Marsexp, workers_of

NAME = "hangs"
HANGS = 1


def state_of(marsexp: Marsexp, trial: int) -> TrialState | None:
    ledger = Ledger(marsexp.home / "ledger.db")
    trials = replay(ledger.events(NAME)).trials if NAME in ledger.names() else ()
    return trials[trial].state if len(trials) > trial else None


@pytest.mark.timeout(1200)
def test_a_trial_that_hangs_fails_and_the_search_completes(marsexp: Marsexp) -> None:
    stopped = set()
    with subprocess.Popen(
        marsexp.command("search", "--budget", "3", "--space", "smoke", "--workers", "1", "--name", NAME),
        cwd=marsexp.folder,
        env=marsexp.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        while driver.poll() is None:
            if state_of(marsexp, HANGS) is TrialState.RUNNING:
                for worker in workers_of(driver.pid):
                    if worker.pid not in stopped:
                        worker.suspend()
                        stopped.add(worker.pid)
            time.sleep(0.05)
        printed = driver.stdout.read() if driver.stdout else ""
    assert driver.returncode == 0
    assert len(stopped) == 2
    assert not [pid for pid in stopped if psutil.pid_exists(pid)]
    rows = {row["trial"]: row for row in marsexp("leaderboard", "--json").json()["trials"]}
    assert rows[HANGS]["state"] == "failed"
    assert "the worker gave no sign of life for 12" in rows[HANGS]["reason"]
    assert rows[HANGS]["reason"] in " ".join(printed.split())
    assert {row["state"] for row in rows.values()} <= {"failed", "completed", "stopped", "rejected"}
