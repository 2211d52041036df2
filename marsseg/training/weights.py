"""A network's weights as two vectors, so that a step needs one operation instead of one per weight."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.training.network import with_auxiliary_outputs

# 2³² divided by the golden ratio: multiples of it stay far from each other.
_SEED_DISTANCE = 0x9E3779B9


class FlatWeights:
    """The weights that training changes; the network's own variables keep the values they were last given.

    Args:
        model: The network, whose weights it starts from.
        replica: Replica number; makes its random generators differ from those of other replicas.

    Attributes:
        vectors: The trainable weights one after the other, then the others (moving means and variances) likewise.
        generators: The states of the network's random generators: all its state besides weights.
    """

    def __init__(self, model: keras.Model, replica: int = 0) -> None:
        self._model = model
        self._trained = with_auxiliary_outputs(model)
        # A generator's state is its seed and a counter; seeds of layers are neighbours, so replicas' lie far apart.
        self._offset = np.array([replica * _SEED_DISTANCE % 2**32, 0], np.uint32)
        self._groups = (list(model.trainable_variables), list(model.non_trainable_weights))
        self._random = _random_generators(model)
        self.vectors = [tf.Variable(vector, trainable=False) for vector in self._vectors_of(model.get_weights())]
        self.generators = [tf.Variable(variable.numpy() + self._offset, trainable=False) for variable in self._random]

    @property
    def trainable(self) -> tf.Variable:
        """The weights that gradients are taken for."""
        return self.vectors[0]

    def outputs_in_training(self, images: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        """The network's outputs in training mode; advances moving statistics and random generators. Can be traced.

        Args:
            images: Shape (batch, height, width, channels).

        Returns:
            Logits; a list, if the loss sees more outputs than the network's own.
        """
        mapping = [
            pair for group, vector in zip(self._groups, self.vectors, strict=True) for pair in _parts(vector, group)
        ]
        mapping += [
            (variable, tf.convert_to_tensor(state))
            for variable, state in zip(self._random, self.generators, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self._trained(images, training=True)
        statistics = [_shaped(scope.get_current_value(variable), [-1]) for variable in self._groups[1]]
        if statistics:
            self.vectors[1].assign(tf.concat(statistics, 0))
        for variable, state in zip(self._random, self.generators, strict=True):
            state.assign(scope.get_current_value(variable))
        return outputs

    def arrays(self, vectors: Sequence[tf.Variable] | None = None) -> list[NDArray[np.float32]]:
        """Its own vectors, or others made like them, as one array per weight, in the model's order."""
        arrays: dict[int, NDArray[np.float32]] = {}
        for group, vector in zip(self._groups, vectors or self.vectors, strict=True):
            ends = np.cumsum([_size(variable) for variable in group], dtype=int)
            for variable, part in zip(group, np.split(vector.numpy(), ends), strict=False):
                arrays[id(variable)] = part.reshape(variable.shape)
        return [arrays[id(variable)] for variable in self._model.weights]

    def assign(self, arrays: Sequence[NDArray[np.float32]], vectors: Sequence[tf.Variable] | None = None) -> None:
        """Sets its own vectors, or others made like them, to these weights in the model's order."""
        for vector, values in zip(vectors or self.vectors, self._vectors_of(arrays), strict=True):
            vector.assign(values)

    def assign_generators(self, states: Sequence[NDArray[np.uint32]]) -> None:
        """Sets its generators from the states of replica 0's generators."""
        for generator, state in zip(self.generators, states, strict=True):
            generator.assign(state + self._offset)

    def _vectors_of(self, arrays: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        flat = {id(variable): array.ravel() for variable, array in zip(self._model.weights, arrays, strict=True)}
        empty = np.zeros(0, np.float32)
        return [np.concatenate([empty, *(flat[id(variable)] for variable in group)]) for group in self._groups]


def _random_generators(model: keras.Model) -> list[keras.Variable]:
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _size(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape))


def _parts(vector: tf.Variable, variables: Sequence[keras.Variable]) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Each variable with its part of the vector."""
    if not variables:
        return []
    parts = tf.split(vector, [_size(variable) for variable in variables])
    return [(variable, _shaped(part, variable.shape)) for variable, part in zip(variables, parts, strict=True)]


def _shaped(part: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Most weights are vectors; an unneeded reshape would have to be traced, and so would its gradient."""
    return part if len(part.shape) == len(shape) == 1 else tf.reshape(part, shape)
