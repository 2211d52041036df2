"""One real search, its driver and its workers killed again and again at random moments, against an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from marsseg.errors import MarsexpError
from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger
from marsseg.search.state import TrialState, replay
from marsseg.training.checkpoint import load_latest_checkpoint
from tests.conftest import Marsexp, workers_of

NAME = "drill"
BUDGET = 16
SEARCH = ("search", "--budget", str(BUDGET), "--space", "smoke", "--name", NAME, "--seed", "3")
# What a ledger holds may differ in measured times and memory only.
MEASURED = (
    "duration_s",
    "active_s",
    "peak_memory_mb",
    "train_s",
    "epoch_s",
    "images_per_second",
    "input_wait_s",
    "finished_ms",
)
# Runs are opened again wherever a driver begins.
NOT_COMPARED = ("tracked", "opened")
LONGEST_WAIT_S, SHORTEST_WAIT_S = 120.0, 8.0
TO_THE_END_S = 3600.0
SLOWER, FASTER = 0.8, 1.25


@dataclass
class Victim:
    """A search that is killed, and its state at each kill."""

    marsexp: Marsexp
    luck: random.Random
    process: subprocess.Popen[str] | None = None
    spared: dict[int, int] = field(default_factory=dict)
    finished_ms: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.marsexp.home)

    @property
    def num_epochs(self) -> int:
        return sum(1 for _ in self._ledger_epochs())

    def run_for(self, seconds: float) -> None:
        """Lets the search run, and starts it if it is not running."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.marsexp.command(*self._command()),
                cwd=self.marsexp.folder,
                env=self.marsexp.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        with suppress(subprocess.TimeoutExpired):
            _, errors = self.process.communicate(timeout=seconds)
            assert self.process.returncode == 0, errors
            self.process = None

    def finish(self) -> None:
        """Lets the search run to its end."""
        self.run_for(TO_THE_END_S)
        assert self.process is None, f"still running after {TO_THE_END_S:.0f} s"

    def kill(self) -> str:
        """Kills the driver, a worker or both; returns which, or an empty string where the search is over."""
        if self.process is None:
            return ""
        workers = workers_of(self.process.pid)
        what = self.luck.choice(("driver", "worker", "both"))
        # A trial whose worker dies twice without an epoch in between fails.
        running = self._epochs_of_running_trials()
        if what == "worker" and workers and all(running.get(trial) != epochs for trial, epochs in self.spared.items()):
            self.spared = running
            with suppress(psutil.NoSuchProcess):
                self.luck.choice(workers).kill()
            return what
        if what == "driver":
            self.process.kill()
            # Workers notice that and end by themselves.
            _, alive = psutil.wait_procs(workers, timeout=30)
            assert not alive
        else:
            what = "both"
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.process, self.spared = None, {}
        self.check_that_nothing_was_trained_twice()
        return what

    def check_that_nothing_was_trained_twice(self) -> None:
        """An epoch that was saved once keeps the time at which it was trained."""
        for trial, record in (*self._ledger_epochs(), *self._checkpointed_epochs()):
            key = trial, record["epoch"]
            assert self.finished_ms.setdefault(key, record["finished_ms"]) == record["finished_ms"], key

    def _command(self) -> tuple[str, ...]:
        return ("search", "--resume", NAME) if NAME in Ledger(self.home.ledger).names() else SEARCH

    def _epochs_of_running_trials(self) -> dict[int, int]:
        ledger = Ledger(self.home.ledger)
        running = replay(ledger.events(NAME)).in_state(TrialState.RUNNING) if NAME in ledger.names() else []
        return {trial.number: len(ledger.epochs(NAME, trial.number)) for trial in running}

    def _ledger_epochs(self) -> Iterator[tuple[int, dict[str, Any]]]:
        ledger = Ledger(self.home.ledger)
        if NAME in ledger.names():
            for trial in range(sum(event.kind == "proposed" for event in ledger.events(NAME))):
                yield from ((trial, record) for record in ledger.epochs(NAME, trial))

    def _checkpointed_epochs(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for folder in self.home.checkpoints(NAME).glob("trial-*"):
            with suppress(MarsexpError):
                checkpoint = load_latest_checkpoint(folder)
                for record in checkpoint.state["history"] if checkpoint else ():
                    yield int(folder.name.split("-")[1]), record


def comparable(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: comparable(value) for key, value in values.items() if key not in (*MEASURED, "run_id")}
    return [comparable(value) for value in values] if isinstance(values, list) else values


def record(home: Path) -> list[Any]:
    """All that the ledger holds, apart from what is measured: events, metrics of epochs, hashes of weights."""
    ledger = Ledger(Home(home).ledger)
    events = [event for event in ledger.events(NAME) if event.kind not in NOT_COMPARED]
    num_trials = sum(event.kind == "proposed" for event in events)
    return [
        [(event.kind, event.trial, comparable(dict(event.payload))) for event in events],
        [comparable(ledger.epochs(NAME, trial)) for trial in range(num_trials)],
    ]


def recorded_runs(home: Path) -> dict[str, Any]:
    """What the tracking store shows of each trial and of the search: each may have one run only."""
    from marsseg.tracking.store import open_store

    store = open_store(home)
    shown: dict[str, Any] = {}
    for run in store.client.search_runs([store.experiment_id]):
        trial = run.data.tags["marsexp.trial"]
        assert trial not in shown, f"two runs of trial {trial}"
        run_id = run.info.run_id
        scores = store.client.get_metric_history(run_id, "val_mean_iou")
        shown[trial] = {
            "status": run.info.status,
            "params": run.data.params,
            "state": run.data.tags["marsexp.state"],
            "scores": sorted((metric.step, metric.value) for metric in scores),
            "hashes": [run.data.tags.get(f"marsexp.weights_sha256.{which}") for which in ("final", "best")],
            "data": [entry.dataset.digest for entry in run.inputs.dataset_inputs],
            "files": sorted(file.path for file in store.client.list_artifacts(run_id)),
            "models": len(run.outputs.model_outputs) if run.outputs else 0,
        }
    return shown


@pytest.mark.timeout(0)
def test_a_search_killed_again_and_again_ends_as_if_it_had_been_left_alone(marsexp: Marsexp, num_kills: int) -> None:
    undisturbed = replace(marsexp, home=marsexp.folder / "undisturbed")
    began = time.monotonic()
    done = subprocess.run(
        undisturbed.command(*SEARCH, "--json"), cwd=undisturbed.folder, env=undisturbed.environment, check=False
    )
    assert done.returncode == 0
    expected = undisturbed("leaderboard", "--json").json()
    print(f"undisturbed: {expected['epochs_spent']} epochs in {time.monotonic() - began:.0f} s", flush=True)
    victim = Victim(marsexp, random.Random(0))
    horizon_s = 20.0
    kills = 0
    while kills < num_kills:
        wait_s = victim.luck.uniform(0, horizon_s)
        victim.run_for(wait_s)
        killed = victim.kill()
        kills += bool(killed)
        # So that the last epoch is trained when the last kill comes, however fast the machine is.
        is_ahead = victim.num_epochs / expected["epochs_spent"] > kills / num_kills
        horizon_s = min(max(horizon_s * (SLOWER if is_ahead else FASTER), SHORTEST_WAIT_S), LONGEST_WAIT_S)
        print(
            f"{kills} kills, the last one of {killed or 'nothing'} after {wait_s:.1f} s; {victim.num_epochs} epochs, "
            f"{time.monotonic() - began:.0f} s in all",
            flush=True,
        )
    victim.finish()
    victim.check_that_nothing_was_trained_twice()
    document = marsexp("leaderboard", "--json").json()
    assert comparable(document) == comparable(expected) | {"search_run_id": document["search_run_id"]}
    assert record(marsexp.home) == record(undisturbed.home)
    runs = recorded_runs(marsexp.home)
    assert runs == recorded_runs(undisturbed.home)
    assert {run["status"] for run in runs.values()} <= {"FINISHED", "FAILED"}
    assert len(runs) == 1 + sum(trial["state"] != "rejected" for trial in document["trials"])
