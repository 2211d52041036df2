"""Optimizers by config."""

import tensorflow as tf

from marsseg.config import OptimizerConfig

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-7


class Optimizer:
    """Updates a vector of weights by gradients: Keras' optimizers, on TensorFlow's fused operations where they exist.

    A fused operation reads and writes each number once, where Keras' own updates create a dozen arrays on the way.
    Weight decay is decoupled (Loshchilov & Hutter, 2017, arXiv 1711.05101).

    Args:
        config: Its name, learning rate and weight decay.
        weights: The vector that it will change.
    """

    def __init__(self, config: OptimizerConfig, weights: tf.Variable) -> None:
        self._config = config
        self._weights = weights
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.learning_rate = tf.Variable(config.learning_rate, dtype=tf.float32, trainable=False)
        slots = 1 if config.name == "sgd" else 2
        self._slots = [tf.Variable(tf.zeros_like(weights), trainable=False) for _ in range(slots)]
        # Nadam's product of all momenta so far.
        self._momenta = tf.Variable(1.0, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that a checkpoint has to hold."""
        return [self._steps, self.learning_rate, self._momenta, *self._slots]

    def apply(self, gradient: tf.Tensor) -> None:
        """Changes the weights by one step; can be traced.

        Args:
            gradient: A vector of the weights' shape.
        """
        self._steps.assign_add(1)
        if self._config.weight_decay:
            self._weights.assign_sub(self._weights * (self.learning_rate * self._config.weight_decay))
        match self._config.name:
            case "adam" | "adamw":
                self._apply_adam(gradient)
            case "nadam":
                self._apply_nadam(gradient)
            case "sgd":
                self._apply_sgd(gradient)

    def _apply_adam(self, gradient: tf.Tensor) -> None:
        """Kingma & Ba (2014), arXiv 1412.6980."""
        step = tf.cast(self._steps, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=self._weights.handle,
            m=self._slots[0].handle,
            v=self._slots[1].handle,
            beta1_power=_BETA_1**step,
            beta2_power=_BETA_2**step,
            lr=self.learning_rate,
            beta1=_BETA_1,
            beta2=_BETA_2,
            epsilon=_EPSILON,
            grad=gradient,
        )

    def _apply_nadam(self, gradient: tf.Tensor) -> None:
        """Dozat (2016), "Incorporating Nesterov momentum into Adam", with Keras' momentum schedule."""
        step = tf.cast(self._steps, tf.float32)
        now, following = (_BETA_1 * (1.0 - 0.5 * 0.96**count) for count in (step, step + 1.0))
        self._momenta.assign(self._momenta * now)
        m, v = self._slots
        m.assign_add((gradient - m) * (1 - _BETA_1))
        v.assign_add((tf.square(gradient) - v) * (1 - _BETA_2))
        m_share = following / (1.0 - self._momenta * following)
        gradient_share = (1.0 - now) / (1.0 - self._momenta)
        change = (m * m_share + gradient * gradient_share) / (tf.sqrt(v / (1.0 - _BETA_2**step)) + _EPSILON)
        self._weights.assign_sub(change * self.learning_rate)

    def _apply_sgd(self, gradient: tf.Tensor) -> None:
        """Gradient descent with a heavy ball (Polyak, 1964)."""
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=self._weights.handle,
            accum=self._slots[0].handle,
            lr=self.learning_rate,
            grad=gradient,
            momentum=self._config.momentum,
        )
