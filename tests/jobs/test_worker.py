"""A worker alone at the other end of a pipe: what it keeps between two tasks, and what it does not."""

import errno
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import marsseg.jobs.worker
from marsseg.config import ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.errors import TrainingError
from marsseg.jobs.trial_report import _keep_weights
from marsseg.jobs.worker import FINAL_KINDS, MeasureTask, TrainTask, _signs_of_life, _Worker, serve
from marsseg.jobs.worker_memory import Growth
from tests.conftest import write_tiles
from tests.training.conftest import tiny_config

FULL_DISK = Path("/dev/full")


def test_it_gives_signs_of_life_while_it_prepares_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marsseg.jobs.worker, "_HEARTBEAT_S", 0.01)
    ours, theirs = multiprocessing.Pipe()
    with _signs_of_life(theirs):
        assert [ours.recv() for _ in range(3)] == [("alive", None)] * 3
    while ours.poll():
        ours.recv()
    assert not ours.poll(0.1)


def test_data_that_is_never_there_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marsseg.jobs.worker, "_HEARTBEAT_S", 0.01)
    monkeypatch.setattr(marsseg.jobs.worker, "_LONGEST_PREPARATION_S", 0.1)
    ours, theirs = multiprocessing.Pipe()
    began, last = time.monotonic(), 0.0
    with _signs_of_life(theirs):
        while ours.poll(1.0) and last < 30:
            ours.recv()
            last = time.monotonic() - began
    assert last < 30


@pytest.fixture(scope="module")
def worker() -> Iterator[Connection]:
    with started_worker() as connection:
        yield connection


@contextmanager
def started_worker() -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    yield ours
    ours.close()
    process.join(timeout=30)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    tiles = tmp_path_factory.mktemp("worker") / "tiles.npz"
    write_tiles(tiles)
    return tiny_config(
        data={"source": str(tiles)}, split={"validation_images": 4, "test_images": 4}, training={"max_epochs": 3}
    )


def train(worker: Connection, config: ExperimentConfig, folder: Path, until: int) -> tuple[list[int], dict[str, Any]]:
    """The epochs that the worker reports, and the body of its final message."""
    digest = prepare_data(config).fingerprint.digest
    worker.send(TrainTask(config.to_json(), folder, until, digest, folder / "log"))
    epochs = []
    while True:
        assert worker.poll(120)
        kind, body = worker.recv()
        if kind == "epoch":
            epochs.append(body["epoch"])
        assert kind != "renew"
        if kind == "failed":
            raise TrainingError(body)
        if kind in FINAL_KINDS:
            return epochs, body


def test_trial_that_goes_on_next_is_not_built_again(
    worker: Connection, config: ExperimentConfig, tmp_path: Path
) -> None:
    _, whole = train(worker, config, tmp_path / "whole", 3)
    assert train(worker, config, tmp_path / "paused", 1)[0] == [1]
    epochs, outcome = train(worker, config, tmp_path / "paused", 3)
    # If it had started from the checkpoint, it would report the first epoch again.
    assert epochs == [2, 3]
    assert outcome["completed"]
    assert outcome["weights_sha256"] == whole["weights_sha256"]


def test_only_what_has_changed_is_drawn_again(worker: Connection, config: ExperimentConfig, tmp_path: Path) -> None:
    # A learning rate so high that some epochs are worse than those before.
    many = config.with_values({"training.max_epochs": 9, "optimizer.learning_rate": 0.1})
    drawn, best = [], []
    for epoch in range(1, 10):
        _, outcome = train(worker, many, tmp_path / "trial", epoch)
        best.append(outcome["best_epoch"])
        stats = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "trial" / "artifacts").iterdir()}
        drawn.append((stats["learning_curve.png"], stats["confusion_matrix.png"], stats["samples.png"]))
    assert 1 < len(set(best)) < len(best), "a best epoch that changes, and one that stays"
    for (before, now), (best_before, best_now) in zip(pairwise(drawn), pairwise(best), strict=True):
        assert now[0] > before[0]
        assert [new > old for new, old in zip(now[1:], before[1:], strict=True)] == [best_now != best_before] * 2
    names = {path.name for path in (tmp_path / "trial" / "artifacts").iterdir()}
    assert names >= {"config.toml", "architecture.txt", "samples.png", "best_weights.safetensors"}


def test_trial_that_goes_on_after_another_starts_from_its_checkpoint(
    worker: Connection, config: ExperimentConfig, tmp_path: Path
) -> None:
    other = config.with_values({"seed": 1})
    _, whole = train(worker, config, tmp_path / "whole", 2)
    train(worker, config, tmp_path / "paused", 1)
    _, between = train(worker, other, tmp_path / "other", 1)
    epochs, outcome = train(worker, config, tmp_path / "paused", 2)
    assert epochs == [1, 2]
    assert outcome["weights_sha256"] == whole["weights_sha256"] != between["weights_sha256"]


def test_trial_that_another_worker_has_taken_further_starts_from_that_checkpoint(
    worker: Connection, config: ExperimentConfig, tmp_path: Path
) -> None:
    _, whole = train(worker, config, tmp_path / "whole", 3)
    train(worker, config, tmp_path / "shared", 1)
    with started_worker() as other:
        assert train(other, config, tmp_path / "shared", 2)[0] == [1, 2]
    epochs, outcome = train(worker, config, tmp_path / "shared", 3)
    assert epochs == [1, 2, 3]
    assert outcome["weights_sha256"] == whole["weights_sha256"]


def test_another_trial_in_the_same_folder_is_not_taken_for_the_paused_one(
    worker: Connection, config: ExperimentConfig, tmp_path: Path
) -> None:
    train(worker, config, tmp_path, 1)
    with pytest.raises(TrainingError, match="the checkpoint belongs to config"):
        train(worker, config.with_values({"seed": 1}), tmp_path, 2)


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
def test_a_full_disk_is_no_fault_of_the_trial(config: ExperimentConfig, tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    digest = prepare_data(config).fingerprint.digest
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    ours.send(TrainTask(config.to_json(), tmp_path, 1, digest, FULL_DISK))
    kinds = []
    while not kinds or kinds[-1] not in FINAL_KINDS:
        assert ours.poll(120)
        kind, body = ours.recv()
        kinds.append(kind)
    process.kill()
    process.join()
    assert (kinds[-1], body) == ("unable", "No space left on device: /dev/full")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("tensorflow_runtime")
def test_weights_that_find_no_room_say_so_as_the_worker_expects(tmp_path: Path) -> None:
    import keras

    (tmp_path / "weights").symlink_to(FULL_DISK)
    with pytest.raises(OSError, match="No space left on device") as error_info:
        _keep_weights(tmp_path / "weights", keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    assert error_info.value.errno == errno.ENOSPC


@pytest.mark.usefixtures("tensorflow_runtime")
def test_a_worker_that_has_grown_leaves_what_is_new_to_its_successor_and_goes_on_with_a_kept_training(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = prepare_data(config).fingerprint.digest
    ours, theirs = multiprocessing.Pipe()
    worker = _Worker(theirs)
    new, kept = (TrainTask(config.to_json(), tmp_path / name, 1, digest, tmp_path / "log") for name in ("new", "kept"))
    step = MeasureTask(config.to_json(), (16, 32), tmp_path / "log")
    assert worker.run(kept)[0] == "done"
    worker.growth = Growth(begun=6, settled=2**20)
    # While a network is kept, memory use says nothing about growth.
    assert worker.run(step)[0] == "done"
    assert worker.run(replace(kept, until=2))[1]["epochs"] == 2
    assert worker.growth.begun == 6
    assert worker.run(new) == ("renew", None)
    assert not new.folder.exists()
    assert worker.run(step) == ("renew", None)
    assert "MiB, once 1\n" in capsys.readouterr().out
    ours.close()


def test_growth_is_measured_by_what_was_held_after_five_tasks() -> None:
    growth = Growth()
    assert not any(growth.begin_task(held) for held in (100, 200, 300, 400, 450, 500, 534))
    assert growth.begin_task(536)
    assert not growth.begin_task(534)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the process' own")
def test_peak_of_memory_is_the_segments_own(config: ExperimentConfig, tmp_path: Path) -> None:
    wide = config.with_values({"model.base_filters": 64, "model.max_filters": 256, "training.max_epochs": 1})
    with started_worker() as worker:
        _, of_wide = train(worker, wide, tmp_path / "wide", 1)
        _, of_narrow = train(worker, config, tmp_path / "narrow", 1)
    assert of_narrow["peak_memory_mb"] < of_wide["peak_memory_mb"] - 20
