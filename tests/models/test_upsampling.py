"""Upsampling against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.models.upsampling import NearestUpSampling2D

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

SHAPE = 3, 2, 5, 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pixels_and_gradients_are_those_of_kerass_layer(dtype: str) -> None:
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=SHAPE), dtype)
    # Integers, so that sums of four are exact in any order.
    upstream = tf.constant(rng.integers(-9, 10, (3, 4, 10, 4)), dtype)
    found = []
    for layer in (NearestUpSampling2D(dtype=dtype), keras.layers.UpSampling2D(dtype=dtype)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
        found.append((outputs, tape.gradient(outputs, inputs, upstream)))
    for ours, kerass in zip(*found, strict=True):
        assert ours.dtype == kerass.dtype == dtype
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(kerass, tf.float32))


def test_saved_and_loaded_it_is_the_same() -> None:
    layer = NearestUpSampling2D(name="larger")
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(loaded, NearestUpSampling2D)
    assert loaded.get_config() == layer.get_config()
    assert NearestUpSampling2D()(keras.Input(SHAPE[1:])).shape == (None, 4, 10, 4)


@pytest.mark.parametrize("settings", [{"interpolation": "bilinear"}, {"data_format": "channels_first"}])
def test_what_it_does_not_compute_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="NearestUpSampling2D: expected"):
        NearestUpSampling2D(**settings)
