"""Scores of a segmentation, as pure functions of one integer confusion matrix.

Rows are true classes, columns predicted ones. The matrix covers a whole image set, never a mean over batches.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 0


def confusion_matrix(y_true: NDArray[np.integer], y_pred: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Counts pixels by true and predicted class.

    Args:
        y_true: Labels of any shape, 0 to `num_classes` − 1.
        y_pred: Labels of the same shape.
        num_classes: Number of classes.

    Returns:
        Counts of shape `(num_classes, num_classes)`; row: true class, column: predicted class.
    """
    pairs = y_true.astype(np.int64).ravel() * num_classes + y_pred.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


def iou_per_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class; NaN for a class absent from truth and prediction.

    Args:
        confusion: Counts of shape `(num_classes, num_classes)`.

    Returns:
        Values in [0, 1] or NaN, shape `(num_classes,)`.
    """
    intersection = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    values: NDArray[np.float64] = np.divide(intersection, union, out=np.full(len(confusion), np.nan), where=union > 0)
    return values


def segmentation_scores(confusion: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, float]:
    """The scores that marsexp logs, all in [0, 1].

    Args:
        confusion: Counts of shape `(num_classes, num_classes)`.
        class_names: One name per class, background first.

    Returns:
        `mean_iou`, the primary score: pixels whose true class is 0 are dropped, then the mean over all classes present
        in truth or prediction, so that a foreground pixel predicted as background adds a class with IoU 0 (as
        `keras.metrics.MeanIoU` counts it). `mean_iou_foreground`: on the same pixels, over foreground classes only.
        `mean_iou_all`: over all classes on all pixels. `iou_<class>` of each foreground class present, on the same
        pixels as the primary. A mean over no classes is 0.
    """
    foreground = confusion.copy()
    foreground[BACKGROUND] = 0
    on_foreground = iou_per_class(foreground)
    scores = {
        "mean_iou": _mean_of_present(on_foreground),
        "mean_iou_foreground": _mean_of_present(on_foreground[1:]),
        "mean_iou_all": _mean_of_present(iou_per_class(confusion)),
    }
    for name, value in zip(class_names[1:], on_foreground[1:], strict=True):
        if not np.isnan(value):
            scores[f"iou_{name}"] = float(value)
    return scores


def _mean_of_present(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else 0.0
