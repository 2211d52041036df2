"""The one trainer of every trial: from a config and data to weights, epoch by epoch, resumable after each.

It knows networks only through `build_network` and tells others what happens through callbacks; searching, tracking
and processes live elsewhere.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import ExperimentConfig, LossConfig, OptimizerConfig, ScheduleConfig
from marsseg.data.pipeline import steps_per_epoch, training_batches
from marsseg.data.prepare import PreparedData
from marsseg.data.tiles import class_names
from marsseg.errors import TrainingError
from marsseg.losses import build_loss
from marsseg.metrics import segmentation_scores
from marsseg.training.averaging import WeightAverage
from marsseg.training.checkpoint import Checkpoint, weights_sha256
from marsseg.training.network import build_network
from marsseg.training.optimizers import Optimizer, next_learning_rate
from marsseg.training.step import Evaluator, build_train_step
from marsseg.training.weights import FlatWeights, random_generators

PRIMARY_METRIC = "val_mean_iou"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave.

    Args:
        epoch: Counted from 1.
        metrics: `loss` (mean over the training images) and the validation scores, `val_…`; equal on every rerun.
        learning_rate: The epoch's.
        train_s: Seconds of training steps.
        epoch_s: Seconds with validation.
        images_per_second: Training images by `train_s`.
        finished_ms: Unix time in milliseconds.
    """

    epoch: int
    metrics: dict[str, float]
    learning_rate: float
    train_s: float
    epoch_s: float
    images_per_second: float
    finished_ms: int


class Callback(Protocol):
    """What a training tells while it runs."""

    def on_step(self, seconds: float) -> None:
        """A step has finished."""

    def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
        """An epoch has finished; the checkpoint continues after it."""


@dataclass(frozen=True)
class TrainResult:
    """What a training has reached.

    Args:
        history: All epochs, those before `start` included.
        stopped_early: Whether early stopping ended it.
        best_epoch: The epoch with the highest `val_mean_iou`, the earliest of equals.
        best_confusion: That epoch's confusion matrix on the validation part, shape (num_classes, num_classes).
        weights_sha256: Hashes of the `final` and the `best` epoch's weights, as validated.
        model: The network, with the best epoch's weights.
    """

    history: tuple[EpochRecord, ...]
    stopped_early: bool
    best_epoch: int
    best_confusion: NDArray[np.int64]
    weights_sha256: dict[str, str]
    model: keras.Model


@dataclass(frozen=True)
class _Stage:
    """A stretch of epochs with its own loss, optimizer and schedule; `first_epoch` is counted from 1."""

    first_epoch: int
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig


def train(
    config: ExperimentConfig,
    data: PreparedData,
    *,
    until: int,
    start: Checkpoint | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Trains from `start`, or from scratch, to the end of epoch `until`.

    Args:
        config: Decides everything, `auto` resolved; precision and threads must be set up already.
        data: Training and validation part.
        until: Last epoch; early stopping or `max_epochs` may end the training before.
        start: Where to go on.
        callbacks: Told of every step and epoch, in order.

    Returns:
        What was reached.

    Raises:
        ConfigError: If the network's depth does not fit the images.
        TrainingError: If the loss becomes NaN or infinite.
    """
    until = min(until, config.training.max_epochs)
    training = _Training(config, data)
    if start is not None:
        training.restore(start)
    while training.epoch < until and not training.stopped_early:
        training.enter_stage()
        batches = training.batches(min(until, training.last_epoch_of_stage))
        for _ in range(training.epoch, min(until, training.last_epoch_of_stage)):
            record = training.run_epoch(batches, callbacks)
            checkpoint = training.checkpoint()
            for callback in callbacks:
                callback.on_epoch(record, checkpoint)
            if training.stopped_early:
                break
    return training.result()


@dataclass
class _Progress:
    """What a training has seen so far, apart from tensors."""

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_confusion: list[list[int]] = field(default_factory=list)


class _Training:
    """The moving parts of one training."""

    def __init__(self, config: ExperimentConfig, data: PreparedData) -> None:
        self.config = config
        self.images, self.masks = data.train
        self.validation = data.validation
        self.model = build_network(config, data.images.shape[1:3])
        self.weights = FlatWeights(self.model)
        self.average = WeightAverage(self.weights) if config.training.weight_averaging else None
        self.evaluator = Evaluator(self.model)
        self.steps_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.progress = _Progress()
        self.best_weights: list[NDArray[np.float32]] = []
        self._entered: _Stage | None = None
        self._optimizer_slots: dict[str, NDArray[Any]] = {}

    @property
    def epoch(self) -> int:
        return len(self.progress.history)

    @property
    def stages(self) -> list[_Stage]:
        config, warmup = self.config, self.config.warmup
        main = _Stage(warmup.epochs + 1 if warmup else 1, config.loss, config.optimizer, config.schedule)
        return [_Stage(1, warmup.loss, warmup.optimizer, warmup.schedule), main] if warmup else [main]

    @property
    def stage(self) -> _Stage:
        """The stage that the next epoch belongs to."""
        return [stage for stage in self.stages if stage.first_epoch <= self.epoch + 1][-1]

    @property
    def last_epoch_of_stage(self) -> int:
        following = [stage.first_epoch - 1 for stage in self.stages if stage.first_epoch > self.epoch + 1]
        return min([*following, self.config.training.max_epochs])

    @property
    def stopped_early(self) -> bool:
        patience = self.config.training.early_stopping_patience
        waiting_since = max(self.progress.best_epoch, self.stages[-1].first_epoch - 1)
        return patience is not None and self.epoch - waiting_since >= patience

    def enter_stage(self) -> None:
        """Builds loss, optimizer and step of the next epoch's stage, unless they stand already."""
        stage = self.stage
        if stage == self._entered:
            return
        self._entered = stage
        self.optimizer = Optimizer(stage.optimizer, self.weights.trainable)
        for variable, value in zip(self.optimizer.variables, self._optimizer_slots.values(), strict=False):
            variable.assign(value)
        self._optimizer_slots = {}
        pixels = np.bincount(self.masks.ravel(), minlength=self.config.data.num_classes)
        loss = build_loss(stage.loss, pixels)
        self.step = build_train_step(self.model, self.weights, self.optimizer, loss, self.average, self.steps_done)

    def batches(self, until: int) -> Any:
        dataset = training_batches(
            self.images,
            self.masks,
            self.config.augmentation,
            self.config.training.batch_size,
            self.config.seed,
            self.epoch + 1,
            until,
        )
        return iter(dataset)

    def run_epoch(self, batches: Any, callbacks: Sequence[Callback]) -> EpochRecord:
        """Trains and validates one epoch of the stage entered."""
        started = time.perf_counter()
        stage = self.stage
        stage_scores = [record.metrics[PRIMARY_METRIC] for record in self.progress.history[stage.first_epoch - 1 :]]
        learning_rate = next_learning_rate(stage.schedule, stage.optimizer.learning_rate, stage_scores)
        self.optimizer.learning_rate.assign(learning_rate)
        loss = self._train_epoch(batches, callbacks)
        if not all(np.isfinite(vector.numpy()).all() for vector in self.weights.vectors):
            raise TrainingError(f"a weight became NaN or infinite in the last step of epoch {self.epoch + 1}")
        train_s = time.perf_counter() - started
        confusion = self._validate()
        scores = segmentation_scores(confusion, class_names(self.config.data.num_classes))
        record = EpochRecord(
            epoch=self.epoch + 1,
            metrics={"loss": loss, **{f"val_{name}": value for name, value in scores.items()}},
            learning_rate=learning_rate,
            train_s=train_s,
            epoch_s=time.perf_counter() - started,
            images_per_second=len(self.images) / train_s,
            finished_ms=time.time_ns() // 1_000_000,
        )
        self._take(record, confusion)
        return record

    def _train_epoch(self, batches: Any, callbacks: Sequence[Callback]) -> float:
        total = 0.0
        steps = steps_per_epoch(len(self.images), self.config.training.batch_size)
        for step in range(1, steps + 1):
            started = time.perf_counter()
            images, labels = next(batches)
            value = float(self.step(images, labels))
            if not math.isfinite(value):
                raise TrainingError(f"the loss became {value} at epoch {self.epoch + 1}, step {step} of {steps}")
            total += value * int(images.shape[0])
            for callback in callbacks:
                callback.on_step(time.perf_counter() - started)
        return total / len(self.images)

    def _validate(self) -> NDArray[np.int64]:
        self.model.set_weights(self._scored_weights())
        return self.evaluator.confusion_matrix(*self.validation)

    def _take(self, record: EpochRecord, confusion: NDArray[np.int64]) -> None:
        best_epoch, history = self.progress.best_epoch, self.progress.history
        history.append(record)
        if best_epoch == 0 or record.metrics[PRIMARY_METRIC] > history[best_epoch - 1].metrics[PRIMARY_METRIC]:
            self.progress.best_epoch = record.epoch
            self.progress.best_confusion = confusion.tolist()
            self.best_weights = self._scored_weights()

    def _scored_weights(self) -> list[NDArray[np.float32]]:
        """What is validated and kept, in the model's order."""
        return self.average.arrays() if self.average is not None else self.weights.arrays()

    def _by_path(self, weights: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {weight.path: value for weight, value in zip(self.model.weights, weights, strict=True)}

    def checkpoint(self) -> Checkpoint:
        """Everything that the next epoch depends on."""
        groups: dict[str, dict[str, NDArray[Any]]] = {
            "weights": self._by_path(self.weights.arrays()),
            "average": self._by_path(self.average.arrays()) if self.average is not None else {},
            "best": self._by_path(self.best_weights),
            "optimizer": {str(i): np.asarray(v.numpy()) for i, v in enumerate(self.optimizer.variables)},
            "dropout": {str(i): np.asarray(v.numpy()) for i, v in enumerate(random_generators(self.model))},
            "steps": {"done": np.asarray(self.steps_done.numpy())},
        }
        tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        return Checkpoint(self.epoch, tensors, {**asdict(self.progress), "config_hash": self.config.config_hash()})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to the state after a checkpoint's epoch.

        Raises:
            TrainingError: If the checkpoint belongs to another config.
        """
        found = checkpoint.state["config_hash"]
        if found != self.config.config_hash():
            raise TrainingError(f"the checkpoint belongs to config {found[:12]}, not {self.config.config_hash()[:12]}")
        self.progress = _Progress(
            [EpochRecord(**record) for record in checkpoint.state["history"]],
            checkpoint.state["best_epoch"],
            checkpoint.state["best_confusion"],
        )
        self.weights.assign(list(checkpoint.group("weights").values()))
        self.best_weights = list(checkpoint.group("best").values())
        if self.average is not None:
            self.average.assign(list(checkpoint.group("average").values()))
        for variable, value in zip(random_generators(self.model), checkpoint.group("dropout").values(), strict=True):
            variable.assign(value)
        self.steps_done.assign(checkpoint.group("steps")["done"])
        begins_stage = any(stage.first_epoch == self.epoch + 1 for stage in self.stages)
        self._optimizer_slots = {} if begins_stage else checkpoint.group("optimizer")

    def result(self) -> TrainResult:
        """What was reached; leaves the best weights in the model."""
        hashes = {
            "final": weights_sha256(self._by_path(self._scored_weights())),
            "best": weights_sha256(self._by_path(self.best_weights)),
        }
        self.model.set_weights(self.best_weights)
        return TrainResult(
            tuple(self.progress.history),
            self.stopped_early,
            self.progress.best_epoch,
            np.asarray(self.progress.best_confusion, dtype=np.int64),
            hashes,
            self.model,
        )
