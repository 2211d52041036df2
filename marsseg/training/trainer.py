"""The one trainer of every trial: from a config and data to weights, epoch by epoch, resumable after each.

It knows networks only through `build_network` and reports events through callbacks; searching, tracking and processes
live elsewhere.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from marsseg.config import ExperimentConfig
from marsseg.data.pipeline import TrainingSet, steps_per_epoch
from marsseg.data.prepare import PreparedData
from marsseg.data.tiles import class_names, pixels_per_class
from marsseg.errors import TrainingError
from marsseg.metrics import segmentation_scores
from marsseg.training.callback import Callback
from marsseg.training.checkpoint import Checkpoint, weights_sha256
from marsseg.training.network import build_network, build_network_loss
from marsseg.training.replica import Replica
from marsseg.training.replicas import Replicas
from marsseg.training.schedules import next_learning_rate
from marsseg.training.stages import Stage, stages_of
from marsseg.training.step import Evaluator, build_train_step

PRIMARY_METRIC = "val_mean_iou"


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch.

    Args:
        epoch: Counted from 1.
        metrics: `loss` (mean over the epoch's steps) and the validation scores, `val_…`; equal on every rerun.
        learning_rate: The epoch's learning rate.
        train_s: Seconds of training steps.
        epoch_s: Seconds including validation.
        images_per_second: Training images by `train_s`; padding of the last batch is not counted.
        finished_ms: Unix time in milliseconds.
        input_wait_s: Seconds of `train_s` that steps waited for their batch; 0 where an older version trained.
    """

    epoch: int
    metrics: dict[str, float]
    learning_rate: float
    train_s: float
    epoch_s: float
    images_per_second: float
    finished_ms: int
    input_wait_s: float = 0.0


@dataclass(frozen=True)
class TrainResult:
    """The results of a training run.

    Args:
        history: All epochs, those before `start` included.
        stopped_early: Whether early stopping ended it.
        best_epoch: The epoch with the highest `val_mean_iou`; ties go to the earliest.
        best_confusion: That epoch's confusion matrix on the validation split, shape (num_classes, num_classes).
        weights_sha256: Hashes of the `final` and the `best` epoch's weights, as validated.
        model: The network, with the best epoch's weights.
        evaluator: Predicts with these weights.
    """

    history: tuple[EpochRecord, ...]
    stopped_early: bool
    best_epoch: int
    best_confusion: NDArray[np.int64]
    weights_sha256: dict[str, str]
    model: keras.Model
    evaluator: Evaluator


@dataclass
class _Progress:
    """The progress of a training run, apart from tensors."""

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_confusion: list[list[int]] = field(default_factory=list)


class Training:
    """One training run, which can be paused after any epoch and resumed from there.

    Args:
        config: Decides everything, `auto` resolved; precision and threads must be set up already.
        data: Training and validation split.
        start: The checkpoint to resume from, instead of starting from scratch.

    Raises:
        ConfigError: If the network's depth does not fit the images.
        TrainingError: If the checkpoint belongs to another config, or to a version with another order of weights.
    """

    def __init__(self, config: ExperimentConfig, data: PreparedData, start: Checkpoint | None = None) -> None:
        self._config = config
        self._training_set = TrainingSet.of(*data.train, config.augmentation)
        self._validation = data.validation
        self._model = build_network(config, data.images.shape[1:3])
        self._stages = stages_of(config)
        self._replicas = Replicas(self._model, config.training, self._stages[0].optimizer)
        self._evaluator = Evaluator(self._model, len(self._validation[0]))
        self._progress = _Progress()
        self._best_weights: list[NDArray[np.float32]] = []
        self._entered: Stage | None = None
        if start is not None:
            self._restore(start)

    def run(self, until: int, callbacks: Sequence[Callback] = ()) -> TrainResult:
        """Trains to the end of epoch `until`; early stopping or `max_epochs` may end training earlier.

        Args:
            until: Last epoch.
            callbacks: Told of everything, in order.

        Returns:
            The results so far.

        Raises:
            TrainingError: If the loss becomes NaN or infinite, or its gradient overflows float16 at every scale.
        """
        until = min(until, self._config.training.max_epochs)
        while self.epoch < until and not self.stopped_early:
            self._enter_stage()
            last_epoch = min(until, self._stage.last_epoch)
            batches = self._batches(last_epoch)
            for _ in range(self.epoch, last_epoch):
                record = self._run_epoch(batches, callbacks)
                checkpoint = self._checkpoint()
                for callback in callbacks:
                    callback.on_epoch(record, checkpoint)
                if self.stopped_early:
                    break
        return self._result()

    @property
    def _replica(self) -> Replica:
        """The replica that is validated and recorded."""
        return self._replicas.first

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self._progress.history)

    @property
    def best_epoch(self) -> int:
        """The epoch with the highest `val_mean_iou` so far; ties go to the earliest; 0 before the first."""
        return self._progress.best_epoch

    @property
    def _stage(self) -> Stage:
        """The stage that the next epoch belongs to."""
        return [stage for stage in self._stages if stage.first_epoch <= self.epoch + 1][-1]

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping has ended the training."""
        patience = self._config.training.early_stopping_patience
        waiting_since = max(self._progress.best_epoch, self._stages[-1].first_epoch - 1)
        return patience is not None and self.epoch - waiting_since >= patience

    def _enter_stage(self) -> None:
        """Builds loss, optimizer and step of the next epoch's stage, unless they exist already."""
        stage = self._stage
        if stage == self._entered:
            return
        if self._entered is not None:
            self._replicas.begin_stage(stage.optimizer)
        self._entered = stage
        pixels = pixels_per_class(self._training_set.masks, self._config.data.num_classes)
        self._step = build_train_step(self._replicas, build_network_loss(self._config, stage.loss, pixels))

    def _batches(self, until: int) -> Any:
        batch_size, seed = self._config.training.batch_size, self._config.seed
        return iter(self._training_set.batches(batch_size, seed, self.epoch + 1, until))

    def _run_epoch(self, batches: Any, callbacks: Sequence[Callback]) -> EpochRecord:
        """Trains and validates one epoch of the stage entered."""
        started = time.perf_counter()
        stage = self._stage
        stage_scores = [record.metrics[PRIMARY_METRIC] for record in self._progress.history[stage.first_epoch - 1 :]]
        learning_rate = next_learning_rate(
            stage.schedule, stage.optimizer.learning_rate, stage.num_epochs, stage_scores
        )
        self._replicas.set_learning_rate(learning_rate)
        loss, input_wait_s = self._train_epoch(batches, callbacks)
        if not all(np.isfinite(vector.numpy()).all() for vector in self._replica.weights.vectors):
            raise TrainingError(f"a weight became NaN or infinite in the last step of epoch {self.epoch + 1}")
        train_s = time.perf_counter() - started
        confusion = self._validate(callbacks)
        scores = segmentation_scores(confusion, class_names(self._config.data.num_classes))
        record = EpochRecord(
            epoch=self.epoch + 1,
            metrics={"loss": loss, **{f"val_{name}": value for name, value in scores.items()}},
            learning_rate=learning_rate,
            train_s=train_s,
            epoch_s=time.perf_counter() - started,
            images_per_second=len(self._training_set) / train_s,
            finished_ms=time.time_ns() // 1_000_000,
            input_wait_s=input_wait_s,
        )
        self._take(record, confusion)
        return record

    def _train_epoch(self, batches: Any, callbacks: Sequence[Callback]) -> tuple[float, float]:
        """The mean loss, and the seconds that steps waited for their batch."""
        total = waited_s = 0.0
        steps = steps_per_epoch(len(self._training_set), self._config.training.batch_size)
        for step in range(1, steps + 1):
            started = time.perf_counter()
            images, labels = next(batches)
            waited_s += time.perf_counter() - started
            value = float(self._step(images, labels))
            if not math.isfinite(value):
                raise TrainingError(f"the loss became {value} at epoch {self.epoch + 1}, step {step} of {steps}")
            if self._replica.loss_scale is not None and self._replica.loss_scale.is_exhausted:
                raise TrainingError(
                    f"the loss scale fell below 1 at epoch {self.epoch + 1}, step {step} of {steps}: the gradient is "
                    "too large for float16; use training.precision = 'float32'"
                )
            total += value
            for callback in callbacks:
                callback.on_step(time.perf_counter() - started)
        return total / steps, waited_s

    def _validate(self, callbacks: Sequence[Callback]) -> NDArray[np.int64]:
        def tell() -> None:
            for callback in callbacks:
                callback.on_validation_batch()

        self._model.set_weights(self._replica.scored_weights())
        return self._evaluator.confusion_matrix(*self._validation, on_batch=tell)

    def _take(self, record: EpochRecord, confusion: NDArray[np.int64]) -> None:
        best_epoch, history = self._progress.best_epoch, self._progress.history
        history.append(record)
        if best_epoch == 0 or record.metrics[PRIMARY_METRIC] > history[best_epoch - 1].metrics[PRIMARY_METRIC]:
            self._progress.best_epoch = record.epoch
            self._progress.best_confusion = confusion.tolist()
            self._best_weights = self._replica.scored_weights()

    def _checkpoint(self) -> Checkpoint:
        """Everything that the next epoch depends on."""
        groups = {**self._replica.state(), "best": self._replica.by_path(self._best_weights)}
        tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        return Checkpoint(self.epoch, tensors, {**asdict(self._progress), "config_hash": self._config.config_hash()})

    def _restore(self, checkpoint: Checkpoint) -> None:
        found = checkpoint.state["config_hash"]
        if found != self._config.config_hash():
            raise TrainingError(f"the checkpoint belongs to config {found[:12]}, not {self._config.config_hash()[:12]}")
        # The optimizer's vectors follow this order too.
        if list(checkpoint.group("weights")) != [weight.path for weight in self._model.weights]:
            raise TrainingError(
                "the checkpoint is from a version with another order of weights; resume with that version"
            )
        self._progress = _Progress(
            [EpochRecord(**record) for record in checkpoint.state["history"]],
            checkpoint.state["best_epoch"],
            checkpoint.state["best_confusion"],
        )
        self._best_weights = list(checkpoint.group("best").values())
        self._replicas.begin_stage(self._stage.optimizer)
        self._replicas.restore(checkpoint.group, same_stage=self._stage.first_epoch <= self.epoch)

    def _result(self) -> TrainResult:
        """The results so far; leaves the best weights in the model."""
        hashes = {
            "final": weights_sha256(self._replica.by_path(self._replica.scored_weights())),
            "best": weights_sha256(self._replica.by_path(self._best_weights)),
        }
        self._model.set_weights(self._best_weights)
        return TrainResult(
            tuple(self._progress.history),
            self.stopped_early,
            self._progress.best_epoch,
            np.asarray(self._progress.best_confusion, dtype=np.int64),
            hashes,
            self._model,
            self._evaluator,
        )
