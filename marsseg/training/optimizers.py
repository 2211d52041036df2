"""Optimizers by config, and the learning rate of the next epoch."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from marsseg.config import OptimizerConfig, ScheduleConfig


class FlatOptimizer:
    """One of Keras' optimizers, applied to all weights at once as if they were one vector.

    Every update is made of operations on single elements, so the weights come out the same; but a step has a dozen
    operations instead of a dozen for each weight, and is traced in a fraction of the time.

    Args:
        config: Which one, its learning rate and weight decay.
        model: The network whose weights it will change.
    """

    def __init__(self, config: OptimizerConfig, model: keras.Model) -> None:
        self._weights = [weight.value for weight in model.trainable_variables]
        # Holds nothing between two steps.
        self._vector = keras.Variable(concatenate(self._weights), dtype="float32", name="weights")
        self._optimizer = _build(config)
        self._optimizer.build([self._vector])

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint has to hold: iterations, learning rate and slots, the slots as vectors."""
        return list(self._optimizer.variables)

    @property
    def learning_rate(self) -> keras.Variable:
        """The next step's."""
        return self._optimizer.learning_rate

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Changes the weights by one step; can be traced.

        Args:
            gradients: One for each trainable weight, in the model's order.
        """
        self._vector.assign(concatenate(self._weights))
        self._optimizer.apply([concatenate(gradients)], [self._vector])
        assign_parts(self._weights, self._vector.value)


def concatenate(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Tensors of any shapes as one vector."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def assign_parts(variables: Sequence[tf.Variable], vector: tf.Tensor) -> None:
    """Gives each variable its part of a vector: what `concatenate` put together."""
    parts = tf.split(vector, [variable.shape.num_elements() for variable in variables])
    for variable, part in zip(variables, parts, strict=True):
        variable.assign(tf.reshape(part, variable.shape))


def _build(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    # Keras' weight decay is decoupled in all of its optimizers (Loshchilov & Hutter, 2017, arXiv 1711.05101).
    common = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None, "name": "optimizer"}
    match config.name:
        case "adam":
            return keras.optimizers.Adam(**common)
        case "adamw":
            return keras.optimizers.AdamW(**{**common, "weight_decay": config.weight_decay})
        case "nadam":
            return keras.optimizers.Nadam(**common)
        case "sgd":
            return keras.optimizers.SGD(**common, momentum=config.momentum)


def next_learning_rate(schedule: ScheduleConfig, initial: float, scores: Sequence[float]) -> float:
    """The learning rate of the next epoch of a stage, a pure function of the scores so far.

    `plateau`: multiplied by `factor` each time `patience` epochs have passed since the best score or the last
    reduction, down to `min_learning_rate`.

    Args:
        schedule: Which schedule.
        initial: The stage's first learning rate.
        scores: `val_mean_iou` of each finished epoch of the stage, in order.

    Returns:
        A learning rate.
    """
    learning_rate = initial
    if schedule.name == "constant":
        return learning_rate
    best, epochs_without_gain = float("-inf"), 0
    for score in scores:
        if score > best:
            best, epochs_without_gain = score, 0
            continue
        epochs_without_gain += 1
        if epochs_without_gain >= schedule.patience:
            learning_rate = max(learning_rate * schedule.factor, min(schedule.min_learning_rate, learning_rate))
            epochs_without_gain = 0
    return learning_rate
