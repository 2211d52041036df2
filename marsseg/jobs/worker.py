"""The worker process: trains segments, and times a step before the first, for the process at the other end of its pipe.

It writes checkpoints, a trial's figures and its model to disk; ledger and tracking store belong to the driver.
"""

import dataclasses
import errno
import json
import os
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsseg.config import ExperimentConfig, parse_config
from marsseg.data.prepare import PreparedData, remembered_data
from marsseg.errors import CheckpointError, MarsexpError, TrainingError, first_line, kind_and_first_line
from marsseg.jobs.worker_memory import Growth, forget_peak, free_memory, peak_mb, resident_bytes
from marsseg.models.operations import count_operations
from marsseg.training.callback import Callback
from marsseg.training.runtime import configure_runtime, import_tensorflow_quietly

if TYPE_CHECKING:
    from marsseg.training.trainer import Training, TrainResult

FINAL_KINDS = frozenset({"done", "failed", "unable"})
# Not the fault of any trial: it can be resumed where there is space again.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_HEARTBEAT_S = 1.0
# Preparing data that takes longer than this is taken for hanging, such as on a network drive that is gone.
_LONGEST_PREPARATION_S = 3600.0
_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")
# TensorFlow's position in its graph.
_GRAPH_NODE = re.compile(r"\{\{.*?\}\} *| \[Op:\w+\]")


@dataclass(frozen=True)
class TrainTask:
    """A segment to train.

    Args:
        config: The experiment config as JSON, `auto` resolved.
        folder: Where checkpoints are, and figures and model go.
        until: Last epoch.
        fingerprint: Digest of the data that the driver saw.
        log: The file for all output.
    """

    config: str
    folder: Path
    until: int
    fingerprint: str
    log: Path


@dataclass(frozen=True)
class MeasureTask:
    """A step to time.

    Args:
        config: The experiment config as JSON, `auto` resolved.
        image_shape: (height, width) of the images.
        log: The file for all output.
    """

    config: str
    image_shape: tuple[int, int]
    log: Path


def serve(connection: Connection) -> None:
    """Does one task after the other until the connection is closed."""
    worker = _Worker(connection)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        # First, so that the log shows why TensorFlow could not be imported.
        redirect_output(task.log)
        worker.get_ready()
        connection.send(worker.run(task))
        free_memory()


@dataclass
class _Worker:
    """Does tasks; the training that it paused last is kept in memory, since most such trials are resumed next."""

    connection: Connection
    is_ready: bool = False
    growth: Growth = field(default_factory=Growth)
    paused: "tuple[TrainTask, Training] | None" = None

    def get_ready(self) -> None:
        """Does the imports that take seconds, once."""
        if self.is_ready:
            return
        import_tensorflow_quietly()
        self.is_ready = True
        self.connection.send(("alive", None))

    def run(self, task: TrainTask | MeasureTask) -> tuple[str, Any]:
        """The last message on a task: its kind and body.

        `unable` is the machine's fault, `failed` the task's; `renew` leaves the task to a fresh worker.
        """
        try:
            config = parse_config(json.loads(task.config))
            configure_runtime(config.training.threads)
            kept = self._take_up(task) if isinstance(task, TrainTask) else None
            if self.paused is None and self._has_grown():
                return "renew", None
            if isinstance(task, MeasureTask):
                return "done", self._measure(task, config)
            return "done", self._train_segment(task, config, kept)
        except MarsexpError as error:
            return "failed", str(error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                return "unable", f"{error.strerror}: {error.filename or task.log}"
            traceback.print_exc()
            return "failed", _explain(error)

    def _has_grown(self) -> bool:
        held = resident_bytes()
        has_grown = self.growth.begin_task(held)
        if has_grown:
            print(f"a fresh worker: this one holds {held >> 20} MiB, once {self.growth.settled >> 20}", flush=True)
        return has_grown

    def _measure(self, task: MeasureTask, config: ExperimentConfig) -> float:
        from marsseg.training.measure import measure_step

        return measure_step(config, task.image_shape, on_step=lambda: self.connection.send(("alive", None)))

    def _train_segment(self, task: TrainTask, config: ExperimentConfig, kept: "Training | None") -> dict[str, Any]:
        from marsseg.jobs.trial_report import write_trial_report

        print(f"{task.folder.name} to epoch {task.until}", flush=True)
        forget_peak()
        with _signs_of_life(self.connection):
            data = remembered_data(config)
        if data.fingerprint.digest != task.fingerprint:
            raise TrainingError(f"the data changed while it was in use: {config.data.source}")
        # A training that was kept was reported by this worker when it was paused.
        best_shown = kept.best_epoch if kept else None
        training = kept or self._begin(task, config, data)
        result = training.run(task.until, [_Reporter(self.connection, task.folder)])
        self.connection.send(("alive", None))
        # First, so that the peak of memory is the training's, not that of figures and model.
        outcome = _outcome(config, data, result)
        write_trial_report(task.folder / "artifacts", config, data, result, best_shown)
        self.paused = None if outcome["completed"] else (task, training)
        return outcome

    def _take_up(self, task: TrainTask) -> "Training | None":
        """The training that was paused here, if it is the task's and no other worker has continued it."""
        from marsseg.training.checkpoint import latest_epoch

        if self.paused is not None:
            before, training = self.paused
            same = dataclasses.replace(before, until=task.until) == task
            if same and training.epoch == latest_epoch(task.folder):
                return training
            del training
            self.paused = None
            free_memory()
        return None

    def _begin(self, task: TrainTask, config: ExperimentConfig, data: PreparedData) -> "Training":
        import keras

        from marsseg.training.checkpoint import load_latest_checkpoint
        from marsseg.training.trainer import Training

        # Drops the state that Keras keeps of the previous network.
        keras.backend.clear_session(free_memory=False)
        try:
            start = load_latest_checkpoint(task.folder)
        except CheckpointError as error:
            # Training from scratch gives the same bits; it only takes longer.
            print(error, flush=True)
            shutil.rmtree(task.folder)
            start = None
        if start is not None:
            # A kill may have come between the checkpoint and the message; the driver ignores epochs that it has.
            for record in start.state["history"]:
                self.connection.send(("epoch", record))
        return Training(config, data, start)


def _explain(error: Exception) -> str:
    ran_out = type(error).__name__ in _OUT_OF_MEMORY
    return _GRAPH_NODE.sub("", f"memory ran out: {first_line(error)}" if ran_out else kind_and_first_line(error))


def _outcome(config: ExperimentConfig, data: PreparedData, result: "TrainResult") -> dict[str, Any]:
    from marsseg.training.trainer import PRIMARY_METRIC

    operations = count_operations(config.model, data.images.shape[1:3], config.data.num_classes)
    scores = [record.metrics[PRIMARY_METRIC] for record in result.history]
    epochs = len(scores)
    return {
        "completed": result.stopped_early or epochs >= config.training.max_epochs,
        "epochs": epochs,
        "scores": scores,
        "best_val_mean_iou": scores[result.best_epoch - 1],
        "best_epoch": result.best_epoch,
        "params": operations.params,
        "flops": operations.flops,
        "duration_s": sum(record.epoch_s for record in result.history),
        "peak_memory_mb": peak_mb(),
        "weights_sha256": result.weights_sha256,
    }


def redirect_output(log: Path) -> None:
    """Appends all output of this process to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


@contextmanager
def _signs_of_life(connection: Connection) -> Iterator[None]:
    """Sends the driver signs of life during work that takes longer the more data there is."""
    is_done, deadline = threading.Event(), time.monotonic() + _LONGEST_PREPARATION_S

    def tell() -> None:
        while not is_done.wait(_HEARTBEAT_S) and time.monotonic() < deadline:
            connection.send(("alive", None))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_done.set()
        teller.join()


class _Reporter(Callback):
    """Reports steps and epochs to the driver, an epoch only once its checkpoint is safe."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._last_sign = 0.0

    def on_step(self, seconds: float) -> None:
        self._tell("step", seconds)

    def on_validation_batch(self) -> None:
        self._tell("alive", None)

    def _tell(self, kind: str, body: Any) -> None:
        now = time.monotonic()
        if now - self._last_sign >= _HEARTBEAT_S:
            self._last_sign = now
            self._connection.send((kind, body))

    def on_epoch(self, record: Any, checkpoint: Any) -> None:
        from marsseg.training.checkpoint import save_checkpoint

        save_checkpoint(self._folder, checkpoint)
        self._connection.send(("epoch", dataclasses.asdict(record)))
