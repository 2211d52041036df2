"""The training state of one device: weights, the optimizer that changes them, and their average."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import OptimizerConfig, TrainingConfig
from marsseg.losses import Loss
from marsseg.training.averaging import WeightAverage
from marsseg.training.loss_scale import LossScale
from marsseg.training.optimizers import Optimizer
from marsseg.training.weights import FlatWeights

Arrays = dict[str, NDArray[Any]]


class Replica:
    """The state of a training run between two steps.

    Args:
        model: The network; training starts from its weights.
        training: Precision, and whether the weights are averaged.
        optimizer: The first stage's optimizer.
        number: Counted from 0; makes its dropout masks differ from the other replicas'.
    """

    def __init__(
        self, model: keras.Model, training: TrainingConfig, optimizer: OptimizerConfig, number: int = 0
    ) -> None:
        self.model = model
        self.weights = FlatWeights(model, number)
        self.average = WeightAverage(self.weights) if training.weight_averaging else None
        self.loss_scale = LossScale() if training.precision == "float16" else None
        self.steps_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.begin_stage(optimizer)

    def begin_stage(self, optimizer: OptimizerConfig) -> None:
        """Switches to another optimizer, without any memory of gradients."""
        self.optimizer = Optimizer(optimizer, self.weights.trainable)

    def gradient(self, loss: Loss, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch's loss and the gradient for `apply`; advances moving statistics and random generators. Can be traced.

        Args:
            loss: Function of labels and logits.
            images: Shape (batch, height, width, channels).
            labels: Shape (batch, height, width).

        Returns:
            A scalar and a vector; the vector is the gradient, multiplied by the loss scale if there is one.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.weights.trainable)
            value = loss(labels, self.weights.outputs_in_training(images))
            scaled = value if self.loss_scale is None else self.loss_scale.multiply(value)
        return value, tape.gradient(scaled, self.weights.trainable)

    def apply(self, gradient: tf.Tensor) -> None:
        """Changes the weights by one step; can be traced.

        In float16 a gradient that is not finite changes neither weights nor optimizer nor average. Moving statistics
        and random generators have advanced by then, as they do in Keras: the forward pass was sound, or the loss would
        not be finite.

        Args:
            gradient: As `gradient` returns it.
        """
        if self.loss_scale is None:
            self._advance(gradient)
        else:
            self.loss_scale.apply(gradient, self._advance)

    def _advance(self, gradient: tf.Tensor) -> None:
        self.optimizer.apply(gradient)
        if self.average is not None:
            self.average.update(self.steps_done)
        self.steps_done.assign_add(1)

    def scored_weights(self) -> list[NDArray[np.float32]]:
        """The weights that are validated and kept, in the model's order: the average if there is one."""
        return self.average.arrays() if self.average is not None else self.weights.arrays()

    def by_path(self, weights: list[NDArray[np.float32]]) -> Arrays:
        """Weights in the model's order by their path in the network."""
        return {weight.path: value for weight, value in zip(self.model.weights, weights, strict=True)}

    def state(self) -> dict[str, Arrays]:
        """Everything that the next step depends on, in groups."""
        return {
            "weights": self.by_path(self.weights.arrays()),
            "average": self.by_path(self.average.arrays()) if self.average is not None else {},
            "optimizer": _numbered(self.optimizer.variables),
            "loss_scale": _numbered(self.loss_scale.variables) if self.loss_scale is not None else {},
            "dropout": _numbered(self.weights.generators),
            "steps": {"done": np.asarray(self.steps_done.numpy())},
        }

    def restore(self, group: Callable[[str], Arrays], same_stage: bool) -> None:
        """Goes back to a state of replica 0.

        Args:
            group: Returns a group of an earlier `state` by its name.
            same_stage: Whether to restore the optimizer too.
        """
        self.weights.assign(list(group("weights").values()))
        if self.average is not None:
            self.average.assign(list(group("average").values()))
        if same_stage:
            _assign(self.optimizer.variables, group("optimizer"))
        if self.loss_scale is not None:
            _assign(self.loss_scale.variables, group("loss_scale"))
        self.weights.assign_generators(list(group("dropout").values()))
        self.steps_done.assign(group("steps")["done"])


def _numbered(variables: list[tf.Variable]) -> Arrays:
    return {str(index): np.asarray(variable.numpy()) for index, variable in enumerate(variables)}


def _assign(variables: list[tf.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values.values(), strict=True):
        variable.assign(value)
