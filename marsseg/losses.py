"""Segmentation losses as pure functions of integer labels and logits, and their weighted sum.

Every loss takes `y_true` of shape (batch, height, width), `logits` of shape (batch, height, width, num_classes) and
one weight a class; class 0 carries the background weight. A class of weight 0 has no pixels: its true pixels have no
influence on value or gradient.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import LossConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_EPSILON = 1e-10


def cross_entropy(y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """Sparse categorical cross-entropy, Σ w(y)·(−log p(y)) / Σ w(y) over all pixels of the batch.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,).

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    pixel_weights = tf.gather(class_weights, y_true)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y_true, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(pixel_weights * values), tf.reduce_sum(pixel_weights))


def focal(y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor, gamma: float) -> tf.Tensor:
    """Focal loss (Lin et al., 2017, arXiv 1708.02002), Σ w(y)·(1 − p(y))^γ·(−log p(y)) / Σ w(y) over all pixels.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,); the paper's α.
        gamma: How much less a pixel counts the surer it is; 0 gives cross-entropy.

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    pixel_weights = tf.gather(class_weights, y_true)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y_true, logits=logits)
    # 1 − p without cancellation; a root has no slope at 0.
    doubt = tf.maximum(-tf.math.expm1(-values), _EPSILON)
    total = tf.reduce_sum(pixel_weights * doubt**gamma * values)
    return tf.math.divide_no_nan(total, tf.reduce_sum(pixel_weights))


def dice(y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """Soft Dice loss (Milletari et al., 2016, arXiv 1606.04797), Σ w(c)·(1 − D(c)) / Σ w(c).

    D(c) = 2 Σ p(c) y(c) / (Σ p(c) + Σ y(c)), summed over all pixels of the batch: Tversky's index with α = β = ½.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,); true pixels of a class of weight 0 leave every class's sums.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    return tversky(y_true, logits, class_weights, alpha=0.5, beta=0.5)


def tversky(y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor, alpha: float, beta: float) -> tf.Tensor:
    """Tversky loss (Salehi et al., 2017, arXiv 1706.05721), Σ w(c)·(1 − T(c)) / Σ w(c).

    T(c) = TP / (TP + α FN + β FP) with TP = Σ p(c) y(c), FN = Σ (1 − p(c)) y(c), FP = Σ p(c) (1 − y(c)), summed over
    all pixels of the batch. A class without a true pixel in the batch is left out of the mean: its T would be 0 or 1 by
    rounding. The paper has α and β the other way round; here α weighs what was missed, as in arXiv 1810.07842.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,); true pixels of a class of weight 0 leave every class's sums.
        alpha: Weight ≥ 0 of false negatives.
        beta: Weight ≥ 0 of false positives.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    return focal_tversky(y_true, logits, class_weights, alpha, beta, exponent=1.0)


def focal_tversky(
    y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor, alpha: float, beta: float, exponent: float
) -> tf.Tensor:
    """Focal Tversky loss (Abraham & Khan, 2018, arXiv 1810.07842), Σ w(c)·(1 − T(c))^exponent / Σ w(c).

    T(c) as in `tversky`. The paper's exponent is 1/γ with γ = 4/3.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,); true pixels of a class of weight 0 leave every class's sums.
        alpha: Weight ≥ 0 of false negatives.
        beta: Weight ≥ 0 of false positives.
        exponent: Above 0; below 1 it keeps the slope where a class is nearly right.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    included = tf.cast(tf.gather(class_weights, y_true) > 0, logits.dtype)[..., tf.newaxis]
    truth = tf.one_hot(y_true, logits.shape[-1], dtype=logits.dtype) * included
    probability = tf.nn.softmax(logits) * included
    pixel_axes = [0, 1, 2]
    true_pixels = tf.reduce_sum(truth, pixel_axes)
    hits = tf.reduce_sum(truth * probability, pixel_axes)
    misses = alpha * tf.reduce_sum(truth * (1 - probability), pixel_axes)
    false_alarms = beta * tf.reduce_sum((included - truth) * probability, pixel_axes)
    # 1 − T without cancellation; a root has no slope at 0.
    terms = tf.maximum((misses + false_alarms) / (hits + misses + false_alarms + _EPSILON), _EPSILON) ** exponent
    weights = tf.where(true_pixels > 0, class_weights, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * terms), tf.reduce_sum(weights))


def _by_name(config: LossConfig) -> dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Every loss with the config's parameters in it."""
    errors = {"alpha": config.tversky_alpha, "beta": config.tversky_beta}
    return {
        "cross_entropy": cross_entropy,
        "focal": partial(focal, gamma=config.focal_gamma),
        "dice": dice,
        "tversky": partial(tversky, **errors),
        "focal_tversky": partial(focal_tversky, **errors, exponent=config.focal_tversky_exponent),
    }


def class_weights(config: LossConfig, pixels_per_class: NDArray[np.int64]) -> NDArray[np.float32]:
    """One weight a class from the training part's pixel counts; class 0's is multiplied by the background weight.

    `frequency`: 1 / f(c); `log`: ln(1 + 1 / f(c)), f(c) the share of pixels; both divided by their mean over the
    classes present. A class without a pixel has weight 0.

    Args:
        config: Says which weights.
        pixels_per_class: Counts, shape (num_classes,).

    Returns:
        Weights ≥ 0, shape (num_classes,).
    """
    present = pixels_per_class > 0
    weights = present.astype(np.float64)
    if config.class_weights != "none":
        inverse = pixels_per_class.sum() / np.maximum(pixels_per_class, 1)
        raw = inverse if config.class_weights == "frequency" else np.log1p(inverse)
        weights = np.where(present, raw / raw[present].mean(), 0.0)
    weights[0] *= config.background_weight
    return weights.astype(np.float32)


def build_loss(config: LossConfig, pixels_per_class: NDArray[np.int64]) -> Loss:
    """The weighted sum of a config's losses, as a function of labels and logits.

    Args:
        config: Losses, their weights and the weights of classes.
        pixels_per_class: Counts of the training part, shape (num_classes,).

    Returns:
        A function (y_true, logits) → scalar in float32.
    """
    weights = tf.constant(class_weights(config, pixels_per_class))
    losses = _by_name(config)

    def total(y_true: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        # Whatever a pixel that is left out holds, even infinity, must not reach a sum or a gradient.
        included = tf.gather(weights, y_true)[..., tf.newaxis] > 0
        logits = tf.where(included, logits, 0.0)
        return tf.add_n([factor * losses[name](y_true, logits, weights) for name, factor in config.terms])

    return total
