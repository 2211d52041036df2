"""What a trial leaves for the tracking store: figures, config, architecture and, once complete, weights and model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData
from marsseg.data.tiles import class_names
from marsseg.files import write_durably
from marsseg.report.figures import draw_confusion_matrix, draw_learning_curve, draw_samples

if TYPE_CHECKING:
    import keras

    from marsseg.training.trainer import TrainResult

WEIGHTS_FILE = "best_weights.safetensors"
# Beside the folder of artifacts: it becomes a logged model.
MODEL_FILE = "model.keras"
_MAX_SAMPLES = 6


def write_trial_report(
    folder: Path, config: ExperimentConfig, data: PreparedData, result: "TrainResult", best_shown: int | None = None
) -> None:
    """Writes the files that a trial's run shows; each file of an earlier report is replaced atomically.

    Args:
        folder: Where to write them; the model of a completed trial goes beside it.
        config: The trial's config.
        data: The data that it was trained on.
        result: The result of its training so far.
        best_shown: The best epoch of the earlier report; None where it is unknown. Segments are short, and where the
            best epoch is the same, its figures are kept: redrawing them takes longer than all else at a segment's end.
    """
    # An upload of the earlier report must not find half a figure.
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if best_shown is None:
        _show_network(fresh, config, result)
    _show_progress(fresh, result)
    if result.best_epoch != best_shown:
        _show_best(fresh, config, data, result)
    if result.stopped_early or len(result.history) >= config.training.max_epochs:
        _keep_weights(fresh / WEIGHTS_FILE, result.model)
        _save_portable_model(folder.with_name(MODEL_FILE), config, data, result)
    folder.mkdir(exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    fresh.rmdir()


def _show_network(folder: Path, config: ExperimentConfig, result: "TrainResult") -> None:
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    result.model.summary(print_fn=_writer(folder / "architecture.txt"), line_length=110)


def _show_progress(folder: Path, result: "TrainResult") -> None:
    scores = {
        name: [record.metrics[name] for record in result.history]
        for name in ("val_mean_iou", "val_mean_iou_foreground", "val_mean_iou_all")
    }
    losses = [record.metrics["loss"] for record in result.history]
    draw_learning_curve(folder / "learning_curve.png", losses, scores, result.best_epoch)


def _show_best(folder: Path, config: ExperimentConfig, data: PreparedData, result: "TrainResult") -> None:
    names = class_names(config.data.num_classes)
    draw_confusion_matrix(folder / "confusion_matrix.png", result.best_confusion, names)
    images, masks = data.validation
    chosen = _choose_samples(masks, config.data.num_classes)
    predictions = result.evaluator.predict_labels(images[chosen])
    draw_samples(folder / "samples.png", images[chosen, ..., 0], masks[chosen], predictions, names)


def _keep_weights(path: Path, model: "keras.Model") -> None:
    from safetensors.numpy import save

    # Written here: if the disk is full, `save_file` raises an error that does not say so by its errno.
    path.write_bytes(save({weight.path: weight.numpy() for weight in model.weights}))


def _save_portable_model(path: Path, config: ExperimentConfig, data: PreparedData, result: "TrainResult") -> None:
    """Saves the best weights in a portable copy of the network, which loads without this package."""
    import tensorflow as tf

    from marsseg.training.network import build_network

    # Training may have left no free memory on the GPU.
    with tf.device("CPU"):
        model = build_network(config, data.images.shape[1:3], portable=True)
        weights = {weight.path: weight for weight in result.model.weights}
        model.set_weights([weights[weight.path] for weight in model.weights])
    # Keras accepts no other suffix.
    fresh = path.with_stem(f"{path.stem}.new")
    model.save(fresh)
    write_durably(path, lambda file: file.write(fresh.read_bytes()))
    fresh.unlink()


def _choose_samples(masks: NDArray[np.uint8], num_classes: int) -> list[int]:
    """The first image of each class, rare classes first, then the first images."""
    by_class = [np.flatnonzero((masks == label).any(axis=(1, 2))) for label in range(num_classes)]
    by_class.sort(key=len)
    firsts = [int(indices[0]) for indices in by_class if len(indices)]
    return list(dict.fromkeys([*firsts, *range(len(masks))]))[:_MAX_SAMPLES]


def _writer(path: Path) -> Callable[..., None]:
    def write(text: str, line_break: bool = True) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(text + ("\n" if line_break else ""))

    return write
