"""A worker process that trains a tiny network for a few steps, to see whether it can, and how long that takes.

Follows the path of a real trial, from the new process to the step, but touches neither stores nor checkpoints.
"""

import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError, kind_and_first_line
from marsseg.jobs.worker import redirect_output
from marsseg.search.executor import LocalExecutor
from marsseg.training.callback import Callback
from marsseg.training.runtime import configure_runtime, import_tensorflow_quietly

_FINAL_KINDS = frozenset({"done", "failed"})
_POLL_S = 0.5
_NUM_IMAGES, _HEIGHT, _WIDTH = 40, 32, 64
_TINY = {
    "model.num_blocks": 2,
    "model.base_filters": 4,
    "model.max_filters": 8,
    "training.batch_size": 8,
    "training.max_epochs": 1,
}


@dataclass(frozen=True)
class FirstSteps:
    """What the worker measured.

    Args:
        import_s: Seconds to import TensorFlow.
        first_step_s: Seconds from there until the first step was done: building and tracing the network.
        step_ms: Milliseconds of a later step.
        steps: Number of steps done.
        gpus: Names of the GPUs that TensorFlow sees.
    """

    import_s: float
    first_step_s: float
    step_ms: float
    steps: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    config: ExperimentConfig
    log: Path


def train_first_steps(config: ExperimentConfig, timeout_s: float) -> FirstSteps:
    """Starts a worker and waits for it.

    Args:
        config: Precision and threads, `auto` resolved; the rest is made tiny.
        timeout_s: How long to wait.

    Raises:
        TrainingError: If the worker fails, dies or takes too long; with the last line that it wrote.
    """
    executor = LocalExecutor(serve_first_steps, 1, _FINAL_KINDS)
    deadline = time.monotonic() + timeout_s
    with tempfile.TemporaryDirectory(prefix="marsexp-doctor-") as temporary:
        task = _Task(config.with_values(_TINY), Path(temporary) / "worker.log")
        try:
            executor.submit("first steps", task)
            while time.monotonic() < deadline:
                for message in executor.poll(_POLL_S):
                    if message.kind == "done":
                        return FirstSteps(**message.body)
                    raise TrainingError(f"{message.body}{_last_line(task.log)}")
            raise TrainingError(f"no step was done within {timeout_s:.0f} s{_last_line(task.log)}")
        finally:
            executor.close()


def serve_first_steps(connection: Connection) -> None:
    """Runs in the worker: takes one task, sends what it measured."""
    task: _Task = connection.recv()
    redirect_output(task.log)
    # From here on, whatever ends it is reported, not retried.
    connection.send(("alive", None))
    try:
        connection.send(("done", asdict(_train(task.config))))
    except Exception as error:
        connection.send(("failed", kind_and_first_line(error)))


class _StepClock(Callback):
    """Records when the first step was done, and how long the last one took."""

    def __init__(self) -> None:
        self.first_at = 0.0
        self.last_s = 0.0
        self.steps = 0

    def on_step(self, seconds: float) -> None:
        self.first_at = self.first_at or time.monotonic()
        self.last_s = seconds
        self.steps += 1


def _train(config: ExperimentConfig) -> FirstSteps:
    began = time.monotonic()
    import_tensorflow_quietly()
    imported = time.monotonic()
    configure_runtime(config.training.threads)
    import tensorflow as tf

    from marsseg.training.trainer import Training

    clock = _StepClock()
    Training(config, _terrain(config)).run(until=1, callbacks=[clock])
    gpus = tf.config.list_physical_devices("GPU")
    names = tuple(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    return FirstSteps(imported - began, clock.first_at - imported, clock.last_s * 1000, clock.steps, names)


def _terrain(config: ExperimentConfig) -> Any:
    import numpy as np

    from marsseg.data.prepare import Fingerprint, PreparedData
    from marsseg.data.split import Split
    from marsseg.data.synthetic import generate_terrain

    terrain = generate_terrain(_NUM_IMAGES, _HEIGHT, _WIDTH, seed=0)
    indices = np.arange(_NUM_IMAGES)
    held_out = _NUM_IMAGES // 5
    split = Split(indices[held_out:], indices[:held_out], indices[:0])
    images = terrain.images.astype(np.float32) / np.float32(255)
    return PreparedData(
        images, terrain.masks, split, {}, config.data.num_classes, "terrain", Fingerprint("", "", "", "", "")
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it last wrote: {last}" if last else ""
