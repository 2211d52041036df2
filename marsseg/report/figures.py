"""Figures of one training run, drawn from plain values and written as PNG files.

Every segment of every trial draws them. Margins are fixed, in inches: a layout engine that computes them would draw
everything twice.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from marsseg.data.tiles import class_palette

_DPI = 110
_NAMES_PER_ROW = 8


def draw_learning_curve(
    path: Path, losses: Sequence[float], scores: Mapping[str, Sequence[float]], best_epoch: int
) -> None:
    """Loss and validation scores by epoch, with the best epoch marked.

    Args:
        path: The PNG file.
        losses: Training loss of each epoch.
        scores: Validation scores in [0, 1] of each epoch, by name; the first one gets the thickest line.
        best_epoch: Number of the best epoch, counted from 1.
    """
    figure = _figure_around(8.25, 2.75, left=0.6, bottom=0.5, right=0.15, top=0.35)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(losses) + 1)
    left.plot(epochs, losses, color="#444444", marker="o", markersize=3)
    left.set(title="Training loss", xlabel="epoch")
    left.ticklabel_format(axis="y", scilimits=(-2, 4))
    for index, (name, values) in enumerate(scores.items()):
        right.plot(epochs, values, label=name, linewidth=2.2 if index == 0 else 1.2, marker="o", markersize=3)
    right.axvline(best_epoch, color="#d62f2f", linestyle=":", label=f"best epoch: {best_epoch}")
    right.set(title="Validation", xlabel="epoch", ylim=(0, 1))
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=_DPI)


def draw_confusion_matrix(path: Path, confusion: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Confusion matrix: pixels by true and predicted class, as shares of the true class.

    Args:
        path: The PNG file.
        confusion: Counts of shape (num_classes, num_classes); row: true class, column: predicted class.
        class_names: One name per class.
    """
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    longest = 0.075 * max(map(len, class_names))
    width, height = 0.95 * len(class_names), 0.75 * len(class_names)
    figure = _figure_around(width, height, left=0.5 + longest, bottom=0.55 + longest / 2, right=0.15, top=0.35)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.1%}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(class_names)), class_names, rotation=30, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(xlabel="predicted", ylabel="true", title="Share of each true class")
    figure.savefig(path, dpi=_DPI)


def draw_samples(
    path: Path,
    images: NDArray[np.float32],
    truth: NDArray[np.uint8],
    predictions: NDArray[np.uint8],
    class_names: Sequence[str],
) -> None:
    """Images beside their true and predicted masks.

    Args:
        path: The PNG file.
        images: Values in [0, 1], shape (n, height, width).
        truth: Labels, shape (n, height, width).
        predictions: Labels, shape (n, height, width).
        class_names: One name per class.
    """
    height, width = images.shape[1:]
    palette = class_palette(len(class_names))
    brightest = np.maximum(images.max(axis=(1, 2), keepdims=True), 1e-3)
    grays = np.repeat((255 * np.clip(images / brightest, 0, 1)).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    # One mosaic of all images takes a third of the time of one subplot per image.
    gap = max(1, width // 32)
    columns = np.stack([grays, palette[truth], palette[predictions]], axis=1)
    framed = np.pad(columns, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    mosaic = framed.swapaxes(1, 2).reshape(len(images) * (height + gap), 3 * (width + gap), 3)[:-gap, :-gap]
    names_per_row = min(len(class_names), _NAMES_PER_ROW)
    below = 0.25 + 0.2 * math.ceil(len(class_names) / names_per_row)
    figure = _figure_around(9.6, 9.6 * mosaic.shape[0] / mosaic.shape[1], left=0.1, bottom=below, right=0.1, top=0.35)
    axes = figure.subplots()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_axis_off()
    for column, title in enumerate(("image", "truth", "prediction")):
        axes.text(column * (width + gap) + width / 2, -gap, title, ha="center", fontsize=12)
    patches = [Patch(color=palette[index] / 255, label=name) for index, name in enumerate(class_names)]
    figure.legend(handles=patches, loc="lower center", ncols=names_per_row, fontsize=9)
    figure.savefig(path, dpi=_DPI)


def _figure_around(width: float, height: float, left: float, bottom: float, right: float, top: float) -> Figure:
    """A figure whose axes fill width × height inches between these margins."""
    whole_width, whole_height = left + width + right, bottom + height + top
    figure = Figure(figsize=(whole_width, whole_height))
    figure.subplots_adjust(left / whole_width, bottom / whole_height, 1 - right / whole_width, 1 - top / whole_height)
    return figure
