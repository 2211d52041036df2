"""The exponential average of a network's weights, which is what is validated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.training.optimizers import concatenate

_MAX_DECAY = 0.99


class WeightAverage:
    """An exponential moving average of all weights, normalisation statistics included.

    After step t (counted from 0) it is multiplied by min(0.99, (1 + t) / (10 + t)) and the rest is filled up with the
    weights, so that the first steps are soon forgotten (Polyak & Juditsky, 1992; decay as in TensorFlow's
    `ExponentialMovingAverage`).

    Args:
        model: The network to follow; the average starts at its weights.
    """

    def __init__(self, model: keras.Model) -> None:
        self._weights = [weight.value for weight in model.weights]
        # One vector, which is updated by a handful of operations however many weights there are.
        self._average = tf.Variable(concatenate(self._weights), trainable=False)

    def update(self, step: tf.Tensor) -> None:
        """Takes the weights after a step in; can be traced.

        Args:
            step: Steps finished before this one, a scalar.
        """
        count = tf.cast(step, tf.float32)
        decay = tf.minimum(_MAX_DECAY, (1.0 + count) / (10.0 + count))
        self._average.assign(self._average * decay + concatenate(self._weights) * (1.0 - decay))

    def values(self) -> list[NDArray[np.float32]]:
        """The average, one array a weight, in the model's order."""
        sizes = [weight.shape.num_elements() for weight in self._weights]
        parts = np.split(self._average.numpy(), np.cumsum(sizes)[:-1])
        return [part.reshape(weight.shape) for part, weight in zip(parts, self._weights, strict=True)]

    def assign(self, values: list[NDArray[np.float32]]) -> None:
        """Replaces the average, in the model's order."""
        self._average.assign(np.concatenate([value.ravel() for value in values]))

    @contextmanager
    def applied_to(self, model: keras.Model) -> Iterator[None]:
        """Gives the model the averaged weights for a while."""
        own = model.get_weights()
        model.set_weights(self.values())
        try:
            yield
        finally:
            model.set_weights(own)
