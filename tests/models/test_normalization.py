"""Fused batch normalisation computes what Keras' own layer computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.models.normalization import FusedBatchNormalization

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

SHAPE = (3, 6, 10, 4)


def batches(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(rng.normal(0, 3, 4), rng.uniform(0.5, 4, 4), SHAPE).astype(np.float32) for _ in range(count)]


def layer_pair() -> tuple[FusedBatchNormalization, keras.layers.BatchNormalization]:
    settings = {"momentum": 0.9, "epsilon": 1e-3}
    pair = FusedBatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
    start = [np.random.default_rng(1).uniform(0.5, 2, 4) for _ in range(4)]
    for layer in pair:
        layer.build(SHAPE)
        layer.set_weights(start)
    return pair


def test_weights_have_the_names_and_the_order_of_kerass_own() -> None:
    ours, theirs = layer_pair()
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    assert [weight.trainable for weight in ours.weights] == [weight.trainable for weight in theirs.weights]


def test_outputs_and_moving_statistics_are_equal_over_several_steps() -> None:
    ours, theirs = layer_pair()
    for batch in batches(5):
        np.testing.assert_allclose(ours(batch, training=True), theirs(batch, training=True), rtol=1e-4, atol=1e-5)
        for weight, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)
    before = ours.get_weights()
    for batch in batches(2):
        np.testing.assert_allclose(ours(batch, training=False), theirs(batch, training=False), rtol=1e-4, atol=1e-5)
    for weight, expected in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_one_training_step_by_hand() -> None:
    layer = FusedBatchNormalization(momentum=0.9, epsilon=0.5)
    batch = batches(1)[0]
    outputs = layer(batch, training=True)
    mean, variance = batch.mean((0, 1, 2)), batch.var((0, 1, 2))
    np.testing.assert_allclose(outputs, (batch - mean) / np.sqrt(variance + 0.5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_equal(training: bool) -> None:
    batch = tf.constant(batches(1)[0])
    direction = tf.constant(np.random.default_rng(2).normal(size=SHAPE).astype(np.float32))
    gradients = []
    for layer in layer_pair():
        with tf.GradientTape() as tape:
            tape.watch(batch)
            value = tf.reduce_sum(layer(batch, training=training) * direction)
        gradients.append(tape.gradient(value, [batch, *[weight.value for weight in layer.trainable_weights]]))
    for ours, theirs in zip(*gradients, strict=True):
        assert np.abs(ours).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_one_pixel_of_one_image_is_normalised_without_nan() -> None:
    layer = FusedBatchNormalization(momentum=0.5)
    outputs = layer(np.full((1, 1, 1, 2), 3.0, np.float32), training=True)
    np.testing.assert_allclose(outputs, 0, atol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, 1.5)
    np.testing.assert_allclose(layer.moving_variance, 0.5)


# 16 channels use another kernel than 4.
@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("precision", [tf.bfloat16, tf.float16])
def test_mixed_precision_keeps_weights_and_statistics_in_float32(precision: tf.DType, repeats: int) -> None:
    layer = FusedBatchNormalization(momentum=0.9, dtype=f"mixed_{precision.name}")
    batch = np.tile(batches(1)[0] + 100, repeats)
    outputs = layer(batch, training=True)
    assert outputs.dtype == precision
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    # Rounded first, like the layer's input; a mean summed in that precision would be off by far more.
    rounded = tf.cast(tf.cast(batch, precision), tf.float32).numpy()
    np.testing.assert_allclose(layer.moving_mean, 0.1 * rounded.mean((0, 1, 2)), rtol=1e-5)


def test_config_gives_the_same_layer_back() -> None:
    layer = FusedBatchNormalization(momentum=0.8, epsilon=0.01, name="norm", dtype="mixed_bfloat16")
    again = FusedBatchNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.momentum, again.epsilon, again.name, again.compute_dtype) == (0.8, 0.01, "norm", "bfloat16")
