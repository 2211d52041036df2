"""Segmentation losses as pure functions of a batch's pixels, and their weighted sum.

A class of weight 0 counts as having no pixels: its true pixels do not influence value or gradient. Class 0 carries the
background weight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import LossConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_EPSILON = 1e-10


@dataclass(frozen=True)
class Pixels:
    """All pixels of a batch, one row per class: sums over a handful of classes in the last axis would be slow on a CPU.

    Args:
        truth: 1 at each pixel's true class and 0 elsewhere, (num_classes, pixels); all 0 where a pixel is left out.
        log_probability: Logarithm of the softmax, (num_classes, pixels).
        class_weights: Weights ≥ 0, (num_classes,).
    """

    truth: tf.Tensor
    log_probability: tf.Tensor
    class_weights: tf.Tensor

    @classmethod
    def of(cls, y_true: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor) -> "Pixels":
        """The pixels of a batch.

        Args:
            y_true: Labels, shape (batch, height, width).
            logits: Scores before softmax, shape (batch, height, width, num_classes).
            class_weights: Weights ≥ 0, shape (num_classes,); pixels of a class of weight 0 are left out.
        """
        num_classes = logits.shape[-1]
        labels = tf.reshape(y_true, [-1])
        included = tf.gather(class_weights > 0, labels)
        # The values of a pixel that is left out, even infinity, must not reach a sum or a gradient.
        scores = tf.where(included, tf.transpose(tf.reshape(logits, [-1, num_classes])), 0.0)
        scores -= tf.stop_gradient(tf.reduce_max(scores, 0))
        log_probability = scores - tf.math.log(tf.reduce_sum(tf.exp(scores), 0))
        # A label that is not a class has a column of zeros.
        truth = tf.one_hot(tf.where(included, labels, -1), num_classes, axis=0)
        return cls(truth, log_probability, class_weights)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """The mean over pixels, each weighted by its true class; 0 where every pixel is left out.

        Args:
            values: Shape (pixels,) or (num_classes, pixels); in the latter, each pixel's true class counts.
        """
        totals, counts = tf.reduce_sum(self.truth * values, 1), tf.reduce_sum(self.truth, 1)
        return tf.math.divide_no_nan(
            tf.reduce_sum(self.class_weights * totals), tf.reduce_sum(self.class_weights * counts)
        )


def cross_entropy(pixels: Pixels) -> tf.Tensor:
    """Sparse categorical cross-entropy, Σ w(y)·(−log p(y)) / Σ w(y) over all pixels of the batch.

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    return -pixels.mean(pixels.log_probability)


def focal(pixels: Pixels, gamma: float) -> tf.Tensor:
    """Focal loss (Lin et al., 2017, arXiv 1708.02002), Σ w(y)·(1 − p(y))^γ·(−log p(y)) / Σ w(y) over all pixels.

    Args:
        pixels: Their class weights are the paper's α.
        gamma: The larger, the less a confident pixel counts; 0 gives cross-entropy.

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    log_probability = tf.reduce_sum(pixels.truth * pixels.log_probability, 0)
    # 1 − p without cancellation; a root's gradient at 0 is infinite.
    doubt = tf.maximum(-tf.math.expm1(log_probability), _EPSILON)
    return -pixels.mean(doubt**gamma * log_probability)


def dice(pixels: Pixels) -> tf.Tensor:
    """Soft Dice loss (Milletari et al., 2016, arXiv 1606.04797), Σ w(c)·(1 − D(c)) / Σ w(c).

    D(c) = 2 Σ p(c) y(c) / (Σ p(c) + Σ y(c)), summed over all pixels of the batch: Tversky's index with α = β = ½, and
    likewise without the classes that have no true pixel. The paper has squares in the denominator.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    return tversky(pixels, alpha=0.5, beta=0.5)


def tversky(pixels: Pixels, alpha: float, beta: float) -> tf.Tensor:
    """Tversky loss (Salehi et al., 2017, arXiv 1706.05721), Σ w(c)·(1 − T(c)) / Σ w(c).

    T(c) = TP / (TP + α FN + β FP) with TP = Σ p(c) y(c), FN = Σ (1 − p(c)) y(c), FP = Σ p(c) (1 − y(c)), summed over
    all pixels of the batch. A class without a true pixel in the batch is left out of the mean: its T would be 0 or 1 by
    rounding. The paper has α and β the other way round; here α weights false negatives, as in arXiv 1810.07842.

    Args:
        pixels: The pixels of one batch.
        alpha: Weight ≥ 0 of false negatives.
        beta: Weight ≥ 0 of false positives.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    return focal_tversky(pixels, alpha, beta, exponent=1.0)


def focal_tversky(pixels: Pixels, alpha: float, beta: float, exponent: float) -> tf.Tensor:
    """Focal Tversky loss (Abraham & Khan, 2018, arXiv 1810.07842), Σ w(c)·(1 − T(c))^exponent / Σ w(c).

    T(c) as in `tversky`. The paper's exponent is 1/γ with γ = 4/3.

    Args:
        pixels: The pixels of one batch.
        alpha: Weight ≥ 0 of false negatives.
        beta: Weight ≥ 0 of false positives.
        exponent: Above 0; below 1 the gradient stays large where a class is nearly right.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    truth, probability = pixels.truth, tf.exp(pixels.log_probability)
    others = tf.reduce_sum(truth, 0) - truth
    hits = tf.reduce_sum(truth * probability, 1)
    misses = alpha * tf.reduce_sum(truth * (1 - probability), 1)
    false_alarms = beta * tf.reduce_sum(others * probability, 1)
    # 1 − T without cancellation; a root's gradient at 0 is infinite.
    terms = tf.maximum((misses + false_alarms) / (hits + misses + false_alarms + _EPSILON), _EPSILON) ** exponent
    return _mean_over_classes(pixels, terms)


def lovasz_softmax(pixels: Pixels) -> tf.Tensor:
    """Lovász-softmax loss (Berman et al., 2017, arXiv 1705.08790), Σ w(c)·J(c) / Σ w(c).

    J(c) is the Lovász extension of a class's Jaccard loss, 1 − IoU, at the errors |y(c) − p(c)| of all pixels of the
    batch: equal to 1 − IoU where every error is 0 or 1, and piecewise linear between. With the errors in descending
    order it is Σ e(i)·(Δ(i) − Δ(i − 1)), where Δ(i) is the loss if only the first i pixels were wrong. A class without
    a true pixel in the batch is left out of the mean.

    With I true pixels still right by then and U pixels in the union, such a difference is 1/U where the pixel is of the
    class, else I/(U·(U − 1)): differences of numbers near 1, as in the authors' code, lose most of their digits.

    Args:
        pixels: The pixels of one batch.

    Returns:
        A scalar in [0, 1]; 0 where every pixel is left out.
    """
    truth, included = pixels.truth, tf.reduce_sum(pixels.truth, 0)
    errors = included * tf.abs(truth - tf.exp(pixels.log_probability))
    order = tf.argsort(errors, direction="DESCENDING")
    is_true = tf.gather(truth, order, batch_dims=1)
    total = tf.reduce_sum(truth, 1, keepdims=True)
    intersection, union = total - tf.cumsum(is_true, 1), total + tf.cumsum(1 - is_true, 1)
    deltas = tf.where(is_true > 0, 1 / union, tf.math.divide_no_nan(intersection, union * (union - 1)))
    # Back in the pixels' order, so that no gradient passes through the sorting.
    num_classes, num_pixels = tf.unstack(tf.shape(errors))
    places = tf.reshape(order + num_pixels * tf.range(num_classes)[:, None], [-1, 1])
    deltas = tf.reshape(tf.scatter_nd(places, tf.reshape(deltas, [-1]), [tf.size(deltas)]), tf.shape(errors))
    return _mean_over_classes(pixels, tf.reduce_sum(errors * tf.stop_gradient(deltas), 1))


def _mean_over_classes(pixels: Pixels, terms: tf.Tensor) -> tf.Tensor:
    """Σ w(c)·t(c) / Σ w(c) over the classes with a true pixel."""
    weights = tf.where(tf.reduce_any(pixels.truth > 0, 1), pixels.class_weights, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * terms), tf.reduce_sum(weights))


def _by_name(config: LossConfig) -> dict[str, Callable[[Pixels], tf.Tensor]]:
    """Every loss by name, with the config's parameters bound."""
    alpha, beta = config.tversky_alpha, config.tversky_beta
    return {
        "cross_entropy": cross_entropy,
        "focal": partial(focal, gamma=config.focal_gamma),
        "dice": dice,
        "tversky": partial(tversky, alpha=alpha, beta=beta),
        "focal_tversky": partial(focal_tversky, alpha=alpha, beta=beta, exponent=config.focal_tversky_exponent),
        "lovasz_softmax": lovasz_softmax,
    }


def class_weights(config: LossConfig, pixels_per_class: NDArray[np.int64]) -> NDArray[np.float32]:
    """One weight per class from the training split's pixel counts; class 0's is multiplied by the background weight.

    `frequency`: 1 / f(c); `log`: ln(1 + 1 / f(c)), f(c) the share of pixels; both divided by their mean over the
    classes present. A class without a pixel has weight 0.

    Args:
        config: Says which class weights.
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
        config: Losses, their weights and the class weights.
        pixels_per_class: Counts over the training split, shape (num_classes,).

    Returns:
        A function (y_true, logits) → scalar in float32.
    """
    weights = tf.constant(class_weights(config, pixels_per_class))
    losses = _by_name(config)

    def total(y_true: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        pixels = Pixels.of(y_true, logits, weights)
        return tf.add_n([factor * losses[name](pixels) for name, factor in config.terms])

    return total
