"""The exponential moving average of a network's weights, which is validated and kept."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.training.weights import FlatWeights

_MAX_DECAY = 0.99


class WeightAverage:
    """An exponential moving average of all weights, normalisation statistics included.

    After step t (counted from 0), average ← d·average + (1 − d)·weights with d = min(0.99, (1 + t) / (10 + t)), so that
    the first steps are soon forgotten (Polyak & Juditsky, 1992; decay as in TensorFlow's `ExponentialMovingAverage`).

    Args:
        weights: The weights that it follows, and starts from.
    """

    def __init__(self, weights: FlatWeights) -> None:
        self._weights = weights
        self._vectors = [tf.Variable(vector, trainable=False) for vector in weights.vectors]

    def update(self, step: tf.Tensor) -> None:
        """Updates the average with the weights after a step; can be traced.

        Args:
            step: Steps finished before this one, a scalar.
        """
        count = tf.cast(step, tf.float32)
        decay = tf.minimum(_MAX_DECAY, (1.0 + count) / (10.0 + count))
        for average, vector in zip(self._vectors, self._weights.vectors, strict=True):
            # average -= (1 - decay) · (average - vector), without an array in between.
            tf.raw_ops.ResourceApplyGradientDescent(var=average.handle, alpha=1.0 - decay, delta=average - vector)

    def arrays(self) -> list[NDArray[np.float32]]:
        """The average, one array per weight, in the model's order."""
        return self._weights.arrays(self._vectors)

    def assign(self, arrays: list[NDArray[np.float32]]) -> None:
        """Replaces the average, in the model's order."""
        self._weights.assign(arrays, self._vectors)
