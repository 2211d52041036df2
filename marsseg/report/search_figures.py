"""Figures of a whole search, drawn from plain values and written as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

_DPI = 110
_SIZE_AXES = {"params": "params: number of parameters", "flops": "flops: operations in one image's forward pass"}


def draw_budget(path: Path, epochs: Sequence[int], rungs: Sequence[int]) -> None:
    """Number of epochs that each trial of a search got, compared with full training.

    Args:
        path: The PNG file.
        epochs: Epochs of each trial, in the order of their numbers.
        rungs: Epochs at which trials are compared; the last one is full training.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(epochs)), epochs, color="#6f79a8")
    for rung in rungs:
        axes.axhline(rung, color="#d62f2f", linestyle=":", linewidth=1)
    full = len(epochs) * rungs[-1]
    axes.set(
        title=f"{sum(epochs)} epochs; full training of these {len(epochs)} configurations would be {full}",
        xlabel="trial",
        ylabel="epochs",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=_DPI)


def draw_scores(path: Path, histories: Mapping[int, Sequence[float]], rungs: Sequence[int]) -> None:
    """The score of every trial by epoch.

    Args:
        path: The PNG file.
        histories: `val_mean_iou` of each epoch, by trial number.
        rungs: Epochs at which trials are compared.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    longest = max((len(scores) for scores in histories.values()), default=1)
    for number, scores in histories.items():
        finalist = len(scores) == longest
        axes.plot(
            range(1, len(scores) + 1),
            scores,
            linewidth=1.8 if finalist else 0.8,
            alpha=1.0 if finalist else 0.5,
            label=f"trial {number}" if finalist else None,
        )
    for rung in rungs:
        axes.axvline(rung, color="#999999", linestyle=":", linewidth=1)
    axes.set(title="val_mean_iou of every trial", xlabel="epoch", ylabel="val_mean_iou")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    if 0 < sum(len(scores) == longest for scores in histories.values()) <= 12:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def draw_importances(path: Path, importances: Mapping[str, float]) -> None:
    """How much of the score's variation each hyperparameter explains.

    Args:
        path: The PNG file.
        importances: Shares in [0, 1], by dotted path.
    """
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in ordered], [share for _, share in ordered], color="#6f79a8")
    axes.set(title="Importance for the score (PED-ANOVA)", xlabel="share", xlim=(0, 1))
    axes.grid(alpha=0.25, axis="x")
    figure.savefig(path, dpi=_DPI)


def draw_parallel_coordinates(path: Path, trials: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> None:
    """Parallel coordinates: each trial's hyperparameters as one line, coloured by its score.

    Args:
        path: The PNG file.
        trials: Each with `values` by dotted path and `best_val_mean_iou`, not None.
        paths: The hyperparameters, from left to right; a trial in which one is inactive is drawn at its bottom.
    """
    figure = Figure(figsize=(max(9.0, 1.25 * len(paths) + 2), 5), layout="constrained")
    axes = figure.subplots()
    columns = [_positions([trial["values"].get(name) for trial in trials]) for name in paths]
    scores = np.array([trial["best_val_mean_iou"] for trial in trials])
    span = max(float(np.ptp(scores)), 1e-9)
    colors = colormaps["viridis"]((scores - scores.min()) / span)
    for index in np.argsort(scores):
        heights = [positions[index] for positions, _ in columns]
        axes.plot(range(len(paths)), heights, color=colors[index], alpha=0.75, linewidth=1.3)
    for column, (_, labels) in enumerate(columns):
        axes.axvline(column, color="#bbbbbb", linewidth=0.8)
        for height, label in labels.items():
            axes.text(column + 0.03, height, label, fontsize=7, va="center")
    axes.set_xticks(range(len(paths)), [name.split(".", 1)[-1] for name in paths], rotation=25, ha="right")
    axes.set_yticks([])
    axes.set(title="Hyperparameters of every trial, coloured by best_val_mean_iou", xlim=(-0.2, len(paths) - 0.3))
    scale = ScalarMappable(Normalize(float(scores.min()), float(scores.min()) + span), "viridis")
    figure.colorbar(scale, ax=axes, label="best_val_mean_iou")
    figure.savefig(path, dpi=_DPI)


def draw_pareto(path: Path, trials: Sequence[Mapping[str, Any]], sizes: Sequence[str]) -> None:
    """Every trial's score vs. its size, one panel per size measure, with the Pareto front as a staircase.

    Args:
        path: The PNG file.
        trials: At least one; each with `trial`, `state`, `best_val_mean_iou`, not None, the sizes and `on_front`.
        sizes: The objectives besides the score, such as `params`.
    """
    figure = Figure(figsize=(1 + 6 * len(sizes), 4.6), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    front = [trial for trial in trials if trial["on_front"]]
    completed = [trial for trial in trials if trial["state"] == "completed" and not trial["on_front"]]
    others = [trial for trial in trials if trial["state"] != "completed"]
    for axes, size in zip(panels, sizes, strict=True):
        for chosen, label, style in (
            (others, "not fully trained", {"color": "#b9bfd6", "s": 18}),
            (completed, "other completed", {"color": "#6f79a8", "s": 34}),
            (front, "on the Pareto front, by trial number", {"color": "#d62f2f", "s": 46, "zorder": 3}),
        ):
            scores = [trial["best_val_mean_iou"] for trial in chosen]
            axes.scatter([trial[size] for trial in chosen], scores, label=f"{label} ({len(chosen)})", **style)
        stairs = _stairs([(trial[size], trial["best_val_mean_iou"]) for trial in front])
        axes.step([x for x, _ in stairs], [y for _, y in stairs], where="post", color="#d62f2f", linewidth=1.2)
        for trial in front:
            # No stair is drawn to the upper left of a point.
            axes.annotate(
                f"{trial['trial']}",
                (trial[size], trial["best_val_mean_iou"]),
                xytext=(-5, 4),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
        axes.set(xscale="log", xlabel=_SIZE_AXES[size])
        axes.margins(0.07)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("best_val_mean_iou: mean IoU of the best epoch")
    panels[0].legend(fontsize=8, loc="lower right")
    figure.suptitle(
        "Score vs. size: no completed trial is better and smaller than one on the Pareto front", fontsize=11
    )
    figure.savefig(path, dpi=_DPI)


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that are higher than all points to the left of them, from left to right."""
    stairs: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not stairs or point[1] > stairs[-1][1]:
            stairs.append(point)
    return stairs


def _positions(values: Sequence[Any]) -> tuple[list[float], dict[float, str]]:
    """The position of each value between 0 and 1, and the labels beside the axis by position."""
    present = [value for value in values if value is not None]
    is_range = all(isinstance(value, float) for value in present) and len(set(present)) > 6
    levels = sorted(set(present), key=lambda value: (str(type(value)), value))
    if is_range:
        # A range over more than one order of magnitude gets a logarithmic scale.
        scale = np.log10 if levels[0] > 0 and levels[-1] / levels[0] > 10 else float
        low, high = scale(levels[0]), scale(levels[-1])
        heights = [-0.08 if value is None else float((scale(value) - low) / (high - low)) for value in values]
        labels = {0.0: f"{levels[0]:.2g}", 1.0: f"{levels[-1]:.2g}"}
    else:
        steps = {value: index / max(len(levels) - 1, 1) for index, value in enumerate(levels)}
        heights = [-0.08 if value is None else steps[value] for value in values]
        labels = {
            height: str(value).lower() if isinstance(value, bool) else str(value) for value, height in steps.items()
        }
    if len(present) < len(values):
        labels[-0.08] = "none"
    return heights, labels
