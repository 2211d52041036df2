"""The time that tracking adds to a trial, measured directly, with the embedded store.

The search's own tracker gets the same calls as from the driver: started, 27 epochs of 12 values each, finished. *An
epoch* is the time of one call. *A trial* is everything except its epochs: creating the run with its parameters, tags
and origin, drawing three plots, uploading all files (2 MB of weights among them), results, description and end. Nothing
is trained; the ledger's own writes are not counted.

The peer is MLflow used as its documentation teaches, on its own store of the same kind: `start_run`, `log_params`,
`set_tags`, the same plots and files by `log_artifact`; each value of an epoch by `log_metric`, or in a second row all
of them by `log_metrics`. It writes no description and nothing that a rerun could compare.
"""

import json
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from benchmarks.recorded import NAME, build_settings, epoch_record, segment_facts
from benchmarks.results import Promise, Result
from benchmarks.turns import take_turns
from marsseg.data.synthetic import generate_terrain
from marsseg.data.tiles import class_names
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.home import Home
from marsseg.jobs.tracker import StudyTracker
from marsseg.report.figures import draw_confusion_matrix, draw_learning_curve, draw_samples
from marsseg.search.ledger import Ledger, LedgerWriter
from marsseg.search.state import SearchState, replay
from marsseg.tracking.recorder import Recorder
from marsseg.tracking.store import open_store

TRIALS = 9
MAX_EPOCHS = 27
TERRAIN = generate_terrain(6, 64, 128, seed=0)
IMAGES = TERRAIN.images.astype(np.float32) / np.float32(255)
_WEIGHTS_BYTES = 2_000_000


@dataclass
class Clock:
    """Seconds of one trial: of each epoch's call, and of everything else together."""

    epochs: list[float] = field(default_factory=list)
    rest: float = 0.0

    def epoch(self, call: Any, *arguments: Any) -> None:
        """Makes the call, and counts its time as an epoch."""
        start = time.perf_counter()
        call(*arguments)
        self.epochs.append(time.perf_counter() - start)

    def other(self, call: Any, *arguments: Any) -> None:
        """Makes the call, and counts its time as part of the rest."""
        start = time.perf_counter()
        call(*arguments)
        self.rest += time.perf_counter() - start


def write_files(folder: Path, records: list[dict[str, Any]]) -> None:
    """Writes the files that a worker leaves for a trial: freshly drawn plots, and other files of the usual sizes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = ("val_mean_iou", "val_mean_iou_foreground", "val_mean_iou_all")
    scores = {name: [record["metrics"][name] for record in records] for name in names}
    draw_learning_curve(folder / "learning_curve.png", [r["metrics"]["loss"] for r in records], scores, len(records))
    classes = class_names(5)
    confusion = np.random.default_rng(0).integers(0, 1_000_000, (5, 5))
    draw_confusion_matrix(folder / "confusion_matrix.png", confusion, classes)
    draw_samples(folder / "samples.png", IMAGES, TERRAIN.masks, TERRAIN.masks[::-1], classes)
    for name, size in (("config.json", 1500), ("config.toml", 1000), ("architecture.txt", 25_000)):
        (folder / name).write_text("x" * size, encoding="utf-8")
    (folder / "best_weights.safetensors").write_bytes(random.randbytes(_WEIGHTS_BYTES))


class Ours:
    """Trials reported to the search's tracker.

    Args:
        home: Where the stores are.
        ledger: The ledger that holds the search.
        writer: The writer of the search's driver.
    """

    def __init__(self, home: Home, ledger: Ledger, writer: LedgerWriter) -> None:
        settings = build_settings(100)
        candidates = build_candidates(settings)
        self._home, self._writer, self._values = home, writer, candidates.propose(SearchState())
        self.tracker = StudyTracker(
            settings,
            config_of=lambda trial: candidates.config(trial.values),
            ledger=ledger,
            writer=writer,
            home=home,
            open_recorder=lambda: Recorder(open_store(home.path)),
            profile={"images": 600, "num_classes": 5},
        )
        self._state = SearchState()
        self.tracker.catch_up(self._state)

    def trial(self, rungs: tuple[int, ...]) -> Clock:
        """Reports a trial that is paused at each of these epochs except the last."""
        clock, number, luck = Clock(), len(self._state.trials), random.Random(0)
        records: list[dict[str, Any]] = []
        self._append("proposed", number, values=self._values, cost={})
        for until in rungs:
            self._append("started", number, until=until)
            clock.other(self.tracker.on_change, self._state, self._state.trials[number])
            while len(records) < until:
                records.append(epoch_record(number, len(records) + 1, 0.6, luck))
                self._writer.append_epoch(number, len(records), records[-1])
                clock.epoch(self.tracker.on_epoch, self._state.trials[number], records[-1])
            self._append("finished", number, **segment_facts(records, MAX_EPOCHS, luck), active_s=0.0)
            clock.other(write_files, self._home.checkpoints(NAME, number) / "artifacts", records)
            clock.other(self.tracker.on_change, self._state, self._state.trials[number])
        return clock

    def check(self) -> None:
        """Refuses figures from a store that lacks anything."""
        store = open_store(self._home.path)
        for run in store.client.search_runs([store.experiment_id], "tags.`marsexp.kind` = 'trial'"):
            known = len(store.client.get_metric_history(run.info.run_id, "val_mean_iou"))
            files = len(store.client.list_artifacts(run.info.run_id))
            if known != MAX_EPOCHS or files < 10 or run.info.status != "FINISHED":
                raise RuntimeError(f"run {run.info.run_name} has {known} epochs and {files} files, {run.info.status}")

    def _append(self, kind: str, number: int, **payload: Any) -> None:
        self._state = replay([self._writer.append(kind, number, **payload)], self._state)


def peer_trial(folder: Path, params: dict[str, Any], one_by_one: bool) -> Clock:
    """A trial logged as MLflow's documentation teaches."""
    clock, luck = Clock(), random.Random(0)
    records: list[dict[str, Any]] = []
    clock.other(mlflow.start_run)
    clock.other(mlflow.log_params, params)
    clock.other(mlflow.set_tags, {f"tag_{number}": "x" * 40 for number in range(12)})
    while len(records) < MAX_EPOCHS:
        records.append(epoch_record(0, len(records) + 1, 0.6, luck))
        clock.epoch(_log_epoch, records[-1], one_by_one)
    clock.other(write_files, folder, records)
    for name in ("environment", "data_fingerprint"):
        (folder / f"{name}.json").write_text(json.dumps(params), encoding="utf-8")
    for file in sorted(folder.iterdir()):
        clock.other(mlflow.log_artifact, str(file))
    clock.other(mlflow.log_metrics, {f"result_{number}": float(number) for number in range(7)})
    clock.other(mlflow.end_run)
    return clock


def _log_epoch(record: dict[str, Any], one_by_one: bool) -> None:
    timing = {name: record[name] for name in ("learning_rate", "epoch_s", "images_per_second")}
    values = {**record["metrics"], **timing}
    if one_by_one:
        for name, value in values.items():
            mlflow.log_metric(name, value, step=record["epoch"])
    else:
        mlflow.log_metrics(values, step=record["epoch"])


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home, there = Home(Path(temporary) / "ours"), Path(temporary) / "peer"
        there.mkdir()
        mlflow.set_tracking_uri(f"sqlite:///{there / 'mlflow.db'}")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("peer", (there / "artifacts").as_uri()))
        settings = build_settings(100)
        params = build_candidates(settings).config({}).flat()
        ledger = Ledger(home.ledger)
        ledger.create_search(NAME, settings.to_dict())
        with ledger.drive(NAME) as writer:
            ours = Ours(home, ledger, writer)
            straight = partial(ours.trial, (MAX_EPOCHS,))
            single, batched = (partial(peer_trial, there / "files", params, one_by_one) for one_by_one in (True, False))
            first, theirs = take_turns(straight, single, TRIALS, warm_up=1)
            second, theirs_batched = take_turns(straight, batched, TRIALS)
            paused, _ = take_turns(partial(ours.trial, settings.rungs.levels), None, TRIALS)
            ours.check()
    _report("an epoch; peer: log_metric of each value", "ms", _epochs_ms(first), _epochs_ms(theirs))
    _report("an epoch; peer: log_metrics", "ms", _epochs_ms(second), _epochs_ms(theirs_batched))
    _report("a trial without its epochs", "s", [c.rest for c in first + second], [c.rest for c in theirs])
    _report("a trial that is paused twice, without its epochs", "s", [c.rest for c in paused], [])


def _epochs_ms(clocks: list[Clock]) -> list[float]:
    return [1000 * seconds for clock in clocks for seconds in clock.epochs]


def _report(case: str, unit: str, ours: list[float], peer: list[float]) -> None:
    Result(
        benchmark="tracking_overhead",
        case=case,
        unit=unit,
        ours=ours,
        peer=peer,
        peer_name=f"MLflow {metadata.version('mlflow')}" if peer else None,
        promise=Promise(50.0 if unit == "ms" else 2.0),
    ).report()


if __name__ == "__main__":
    main()
