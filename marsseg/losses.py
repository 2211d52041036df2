"""Segmentation losses as pure functions of integer labels and logits, and their weighted sum.

Every loss takes `y_true` of shape (batch, height, width), `logits` of shape (batch, height, width, num_classes) and
one weight a class; class 0 carries the background weight. A class of weight 0 has no pixels: its true pixels have no
influence on value or gradient.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import LossConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_EPSILON = 1e-7


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


def dice(y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """Soft Dice loss (Milletari et al., 2016, arXiv 1606.04797), Σ w(c)·(1 − D(c)) / Σ w(c).

    D(c) = 2 Σ p(c) y(c) / (Σ p(c) + Σ y(c)), summed over all pixels of the batch. A class without a true pixel in the
    batch is left out of the mean: its D would be 0 or 1 by rounding.

    Args:
        y_true: Labels, shape (batch, height, width).
        logits: Scores before softmax, shape (batch, height, width, num_classes).
        class_weights: Weights ≥ 0, shape (num_classes,); true pixels of a class of weight 0 leave every class's sums.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    num_classes = logits.shape[-1]
    included = tf.cast(tf.gather(class_weights, y_true) > 0, logits.dtype)[..., tf.newaxis]
    truth = tf.one_hot(y_true, num_classes, dtype=logits.dtype) * included
    probability = tf.nn.softmax(logits) * included
    pixel_axes = [0, 1, 2]
    true_pixels = tf.reduce_sum(truth, pixel_axes)
    intersection = tf.reduce_sum(truth * probability, pixel_axes)
    coefficient = 2 * intersection / (tf.reduce_sum(probability, pixel_axes) + true_pixels + _EPSILON)
    weights = tf.where(true_pixels > 0, class_weights, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * (1 - coefficient)), tf.reduce_sum(weights))


_LOSSES = {"cross_entropy": cross_entropy, "dice": dice}


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

    def total(y_true: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        # Whatever a pixel that is left out holds, even infinity, must not reach a sum or a gradient.
        included = tf.gather(weights, y_true)[..., tf.newaxis] > 0
        logits = tf.where(included, logits, 0.0)
        return tf.add_n([factor * _LOSSES[name](y_true, logits, weights) for name, factor in config.terms])

    return total
