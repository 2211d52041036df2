"""The loss scale, which keeps small gradients from becoming 0 in float16."""

from collections.abc import Callable

import tensorflow as tf

_INITIAL = 2.0**15
# Without a limit it would become infinite one day; Apex has the same limit.
_LARGEST = 2.0**24
_GROWTH_STEPS = 2000


class LossScale:
    """Multiplies the loss, and divides the gradient by the same factor, as large as float16 allows (arXiv 1710.03740).

    Dynamic, as in Micikevicius et al. (2017) and Keras' `LossScaleOptimizer`: where the gradient is not finite, the
    step is skipped and the scale halved; after 2,000 finite steps in a row it is doubled. All scales are powers of two,
    so a gradient that float16 can hold anyway is not changed by a bit.

    Attributes:
        variables: The values that a checkpoint has to hold: the scale, and the finite steps since it last changed.
    """

    def __init__(self) -> None:
        self._scale = tf.Variable(_INITIAL, trainable=False)
        self._finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.variables = [self._scale, self._finite_steps]

    @property
    def is_exhausted(self) -> bool:
        """Whether the gradient was not finite however small the loss was made."""
        return float(self._scale) < 1.0

    def multiply(self, loss: tf.Tensor) -> tf.Tensor:
        """The scaled loss, to take the gradient of; can be traced."""
        return loss * self._scale

    def apply(self, gradient: tf.Tensor, advance: Callable[[tf.Tensor], None]) -> None:
        """Passes on a finite gradient, and adapts the scale; can be traced.

        Args:
            gradient: The gradient of the multiplied loss.
            advance: Takes the unscaled gradient; not called if the gradient is not finite.
        """

        def advance_and_grow() -> None:
            advance(gradient / self._scale)
            count = self._finite_steps + 1
            grows = count >= _GROWTH_STEPS
            self._scale.assign(tf.where(grows, tf.minimum(2.0 * self._scale, _LARGEST), self._scale))
            self._finite_steps.assign(tf.where(grows, tf.zeros_like(count), count))

        def skip() -> None:
            self._scale.assign(self._scale / 2.0)
            self._finite_steps.assign(0)

        tf.cond(tf.reduce_all(tf.math.is_finite(gradient)), advance_and_grow, skip)
