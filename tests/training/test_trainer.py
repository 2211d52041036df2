"""The trainer: bit-exact however it is interrupted, scored and stopped as documented, with failures reported."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData
from marsseg.errors import ConfigError, TrainingError
from marsseg.metrics import confusion_matrix, segmentation_scores
from marsseg.training import loss_scale, step, trainer
from marsseg.training.callback import Callback
from marsseg.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint, weights_sha256
from marsseg.training.trainer import EpochRecord, Training, TrainResult
from tests.training.conftest import tiny_config, tiny_data

Interruption = Callable[[ExperimentConfig, PreparedData, Path], TrainResult]

# Everything that holds state between epochs, at once; the stage changes after the first of four epochs.
EVERYTHING: dict[str, dict[str, Any]] = {
    "model": {"dropout": 0.3},
    "augmentation": {"flips": True},
    "optimizer": {"name": "adamw", "weight_decay": 1e-3, "learning_rate": 0.02},
    "schedule": {"name": "plateau", "patience": 1},
    "loss": {"terms": "dice"},
    "warmup": {"epochs": 1, "optimizer.learning_rate": 0.05},
    "training": {"early_stopping_patience": 9},
}


class KilledError(Exception):
    pass


class Recorder(Callback):
    """Keeps what a training run reports, on disk if asked, and kills it at the given steps."""

    def __init__(self, folder: Path | None = None, kill_at_steps: Iterable[int] = ()) -> None:
        self.folder = folder
        self.kill_at_steps = set(kill_at_steps)
        self.steps = 0
        self.epochs: list[int] = []
        self.checkpoints: list[Checkpoint] = []

    def on_step(self, seconds: float) -> None:
        assert seconds > 0
        self.steps += 1
        if self.steps in self.kill_at_steps:
            raise KilledError

    def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
        self.epochs.append(record.epoch)
        self.checkpoints.append(checkpoint)
        if self.folder is not None:
            save_checkpoint(self.folder, checkpoint)


def outcome(result: TrainResult) -> dict[str, Any]:
    """Everything that has to be equal in a rerun."""
    return {
        "weights": result.weights_sha256,
        "metrics": [record.metrics for record in result.history],
        "learning_rates": [record.learning_rate for record in result.history],
        "best": (result.best_epoch, result.best_confusion.tolist(), result.stopped_early),
    }


def train_in_fresh_process(config: ExperimentConfig, until: int) -> dict[str, Any]:
    """Trains in a process where nothing ran before."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_configure_and_train, config, until).result()


def _configure_and_train(config: ExperimentConfig, until: int) -> dict[str, Any]:
    from marsseg.training.runtime import configure_runtime

    configure_runtime(2)
    return outcome(Training(config, tiny_data()).run(until))


def in_segments(config: ExperimentConfig, data: PreparedData, folder: Path) -> TrainResult:
    """Segments of one, two and one epoch, each resumed from the checkpoint before."""
    start = None
    for until in (1, 3, 4):
        recorder = Recorder()
        result = Training(config, data, start).run(until, [recorder])
        start = recorder.checkpoints[-1]
    return result


def paused(config: ExperimentConfig, data: PreparedData, folder: Path) -> TrainResult:
    """One, two and one epoch by the same object; the result so far is returned after each."""
    training = Training(config, data)
    return [training.run(until) for until in (1, 3, 4)][-1]


def killed_twice(config: ExperimentConfig, data: PreparedData, folder: Path) -> TrainResult:
    """With three steps per epoch: killed in the second epoch, resumed from disk, killed in the fourth, resumed."""
    recorders = [Recorder(folder, [5]), Recorder(folder, [8]), Recorder(folder)]
    for recorder in recorders[:2]:
        with pytest.raises(KilledError):
            Training(config, data, load_latest_checkpoint(folder)).run(4, [recorder])
    Training(config, data, load_latest_checkpoint(folder)).run(4, [recorders[2]])
    assert [recorder.epochs for recorder in recorders] == [[1], [2, 3], [4]]
    # A worker that died after its last epoch is asked for that epoch again.
    return Training(config, data, load_latest_checkpoint(folder)).run(4)


@pytest.mark.parametrize(
    ("precision", "ways"),
    [
        ("float32", [in_segments, paused, killed_twice]),
        ("bfloat16", [paused, killed_twice]),
        ("float16", [paused, killed_twice]),
    ],
)
def test_however_it_is_interrupted_it_ends_in_the_same_bits(
    precision: str, ways: list[Interruption], data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The primary score never improves, so the plateau schedule lowers the rate and the first epoch stays the best.
    monkeypatch.setattr(trainer, "segmentation_scores", lambda *given: {**segmentation_scores(*given), "mean_iou": 0.5})
    # The loss scale of float16 grows with each step and overflows several times within these few.
    monkeypatch.setattr(loss_scale, "_GROWTH_STEPS", 1)
    monkeypatch.setattr(loss_scale, "_INITIAL", 2.0**22)
    config = tiny_config(**EVERYTHING).with_values({"training.precision": precision})
    recorder = Recorder()
    whole = outcome(Training(config, data).run(4, [recorder]))
    scales = [float(checkpoint.tensors.get("loss_scale/0", 0)) for checkpoint in recorder.checkpoints]
    assert (len(set(scales)) > 1) == (precision == "float16")
    assert whole["learning_rates"] == [0.05, 0.02, 0.02, 0.01]
    assert len({metrics["val_mean_iou_all"] for metrics in whole["metrics"]}) > 1
    for way in ways:
        assert outcome(way(config, data, tmp_path)) == whole


def test_what_ran_before_in_the_process_changes_nothing(data: PreparedData) -> None:
    config = tiny_config(**EVERYTHING)
    other = outcome(Training(config.with_values({"training.precision": "bfloat16", "seed": 1}), data).run(1))
    here = outcome(Training(config, data).run(2))
    assert here == train_in_fresh_process(config, 2)
    assert here["weights"] != other["weights"]


@pytest.mark.parametrize("averaging", [True, False])
def test_best_epoch_is_the_model_that_is_kept(averaging: bool, data: PreparedData) -> None:
    recorder = Recorder()
    config = tiny_config(training={"weight_averaging": averaging}, optimizer={"learning_rate": 0.05})
    result = Training(config, data).run(4, [recorder])
    assert result.history[-1].metrics["loss"] < 0.9 * result.history[0].metrics["loss"]
    assert recorder.steps == 4 * 3
    assert recorder.epochs == [record.epoch for record in result.history] == [1, 2, 3, 4]
    scores = [record.metrics["val_mean_iou"] for record in result.history]
    assert result.best_epoch == 1 + int(np.argmax(scores))

    images, masks = data.validation
    predicted = np.argmax(result.model(images), -1)
    counts = confusion_matrix(masks, predicted, 5)
    np.testing.assert_array_equal(result.best_confusion, counts)
    names = ("background", "soil", "bedrock", "sand", "big_rock")
    assert segmentation_scores(counts, names)["mean_iou"] == max(scores)

    group = "average" if averaging else "weights"
    assert bool(recorder.checkpoints[-1].group("average")) == averaging
    for name, epoch in (("best", result.best_epoch), ("final", 4)):
        assert result.weights_sha256[name] == weights_sha256(recorder.checkpoints[epoch - 1].group(group))
    by_path = {weight.path: weight.numpy() for weight in result.model.weights}
    assert weights_sha256(by_path) == result.weights_sha256["best"]


def script_scores(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    remaining = iter(scores)
    monkeypatch.setattr(trainer, "segmentation_scores", lambda *_: {"mean_iou": next(remaining)})


@pytest.mark.parametrize(
    ("scores", "warmup_epochs", "epochs", "best_epoch", "stopped_early"),
    [
        # A gain restarts the count; an equal score is not a gain: 2 epochs after epoch 3.
        ([0.1, 0.05, 0.3, 0.3, 0.2, 0.9], 0, 5, 3, True),
        ([0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 3, 5, 1, True),  # waits from the main stage's start, epoch 4
    ],
)
def test_early_stopping_waits_patience_epochs_since_the_best(
    scores: list[float],
    warmup_epochs: int,
    epochs: int,
    best_epoch: int,
    stopped_early: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_scores(monkeypatch, scores)
    config = tiny_config(training={"early_stopping_patience": 2, "max_epochs": 6})
    if warmup_epochs:
        config = config.with_values({"warmup.epochs": warmup_epochs})
    result = Training(config, tiny_data(num_train=1)).run(6)
    assert (len(result.history), result.best_epoch, result.stopped_early) == (epochs, best_epoch, stopped_early)


def test_plateau_begins_anew_with_the_main_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    script_scores(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.1])
    plateau = {"schedule.name": "plateau", "schedule.patience": 1, "schedule.factor": 0.5}
    config = tiny_config(warmup={"epochs": 3, "optimizer.learning_rate": 0.4, **plateau}).with_values(
        {"optimizer.learning_rate": 0.1, **plateau}
    )
    history = Training(config, tiny_data(num_train=1)).run(5).history
    assert [record.learning_rate for record in history] == [0.4, 0.4, 0.2, 0.1, 0.1]


def test_loss_of_an_epoch_is_the_mean_over_its_steps(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([4.0, 1.0, 1.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(trainer, "build_train_step", lambda *_: lambda images, labels: next(losses))
    history = Training(tiny_config(), data).run(2).history
    assert [record.metrics["loss"] for record in history] == [2.0, 2.0]


def test_a_value_that_is_not_finite_fails_with_epoch_and_step(data: PreparedData) -> None:
    images = data.images.copy()
    images[data.split.train] = np.inf
    with pytest.raises(TrainingError, match="the loss became nan at epoch 1, step 1 of 3"):
        Training(tiny_config(), dataclasses.replace(data, images=images)).run(1)
    wild = tiny_config(optimizer={"learning_rate": 1e30}, model={"normalization": "none"})
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at epoch \d, step \d of 3"):
        Training(wild, data).run(3)


def test_a_gradient_that_overflows_float16_at_every_scale_fails_with_the_reason(data: PreparedData) -> None:
    # 5e5 for a pixel's logit, but float16 ends at 65504; halved 16 times, a scale of 2^15 is below 1.
    config = tiny_config(loss={"terms": "1e9*cross_entropy"}, training={"precision": "float16"})
    with pytest.raises(TrainingError, match=r"the loss scale fell below 1 at epoch 6, step 1 of 3: .*'float32'"):
        Training(config, data).run(7)


def test_a_checkpoint_with_another_order_of_weights_is_refused(data: PreparedData) -> None:
    found: list[Checkpoint] = []

    class Keeps(Callback):
        def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
            found.append(checkpoint)

    Training(tiny_config(), data).run(1, [Keeps()])
    (checkpoint,) = found
    assert Training(tiny_config(), data, checkpoint).epoch == 1
    turned = dataclasses.replace(checkpoint, tensors=dict(reversed(checkpoint.tensors.items())))
    with pytest.raises(TrainingError, match="another order of weights"):
        Training(tiny_config(), data, turned)


def test_callbacks_hear_of_every_validation_batch(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Hears(Callback):
        def on_validation_batch(self) -> None:
            heard.append("batch")

        def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
            heard.append("epoch")

    # As many pixels as an image has, so that each image is a batch.
    monkeypatch.setattr(step, "_PIXELS_AT_ONCE", data.images[0].size)
    Training(tiny_config(), data).run(2, [Hears()])
    assert heard == 2 * [*["batch"] * len(data.validation[0]), "epoch"]


def test_a_checkpoint_of_another_config_is_refused(data: PreparedData) -> None:
    other = Checkpoint(1, {}, {"config_hash": tiny_config(optimizer={"learning_rate": 0.5}).config_hash()})
    with pytest.raises(TrainingError, match="belongs to config"):
        Training(tiny_config(), data, other).run(2)


def test_depth_that_does_not_fit_is_refused(data: PreparedData) -> None:
    with pytest.raises(ConfigError, match="at most 4 blocks fit"):
        Training(tiny_config(model={"num_blocks": 5}), data).run(1)


def test_it_ends_at_max_epochs_whatever_is_asked_for() -> None:
    result = Training(tiny_config(training={"max_epochs": 2}), tiny_data(num_train=1)).run(5)
    assert len(result.history) == 2
