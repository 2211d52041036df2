"""A network's weights as two vectors: the same network, with its weights kept elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.data.prepare import PreparedData
from marsseg.training.network import build_network
from marsseg.training.weights import FlatWeights
from tests.training.conftest import tiny_config


@pytest.fixture
def model(tensorflow_runtime: int) -> keras.Model:
    return build_network(tiny_config(model={"dropout": 0.5, "se": "encoder", "se_reduction_ratio": 2}), (16, 32))


def test_arrays_are_the_networks_own_and_come_back(model: keras.Model) -> None:
    start = [np.random.default_rng(0).normal(size=each.shape).astype(np.float32) for each in model.get_weights()]
    model.set_weights(start)
    weights = FlatWeights(model)
    for array, expected in zip(weights.arrays(), start, strict=True):
        np.testing.assert_array_equal(array, expected)
    others = [array + 1 for array in start]
    weights.assign(others)
    for array, expected in zip(weights.arrays(), others, strict=True):
        np.testing.assert_array_equal(array, expected)
    # The network itself does not see them until they are written back to it.
    for array, expected in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_outputs_gradients_statistics_and_generators_are_the_networks_own(
    model: keras.Model, data: PreparedData
) -> None:
    images = tf.constant(data.train.images[:4])
    weights = FlatWeights(model)
    start = [state.numpy().tolist() for state in weights.generators]
    before = [variable.numpy().tolist() for variable in model.variables]
    with tf.GradientTape() as tape:
        tape.watch(weights.trainable)
        outputs = weights.outputs_in_training(images)
    gradient = tape.gradient(outputs, weights.trainable)
    assert len(start) == 3
    assert not any(state.numpy().tolist() == old for state, old in zip(weights.generators, start, strict=True))
    assert [variable.numpy().tolist() for variable in model.variables] == before

    with tf.GradientTape() as tape:
        expected = model(images, training=True)
    expected_gradient = tape.gradient(expected, [variable.value for variable in model.trainable_variables])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        gradient, np.concatenate([each.numpy().ravel() for each in expected_gradient]), rtol=1e-3, atol=1e-4
    )
    for array, expected in zip(weights.arrays(), model.get_weights(), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7)


def test_a_network_without_statistics_has_an_empty_second_vector(tensorflow_runtime: int) -> None:
    weights = FlatWeights(build_network(tiny_config(model={"normalization": "none"}), (16, 32)))
    assert weights.vectors[1].shape == (0,)
    weights.assign(weights.arrays())
