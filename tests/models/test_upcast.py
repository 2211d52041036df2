"""Upcast convolutions compute what half-precision instructions do, and take Keras' layers' place in every network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.unet import build_unet
from marsseg.models.upcast import UpcastConv2D, UpcastConv2DTranspose, UpcastPolicy

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

CHANNELS, FILTERS = 4, 6
# The largest relative error of rounding to the nearest number with 8 and with 11 significant bits.
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}
CONVOLUTIONS = [
    pytest.param(UpcastConv2D, layers.Conv2D, {"kernel_size": 3, "padding": "same"}, id="3×3"),
    pytest.param(
        UpcastConv2D, layers.Conv2D, {"kernel_size": 3, "padding": "same", "dilation_rate": 2}, id="3×3, dilated"
    ),
    pytest.param(UpcastConv2D, layers.Conv2D, {"kernel_size": 2, "strides": 2}, id="2×2, stride 2"),
    pytest.param(
        UpcastConv2DTranspose, layers.Conv2DTranspose, {"kernel_size": 2, "strides": 2}, id="2×2, stride 2, transposed"
    ),
    pytest.param(
        UpcastConv2DTranspose,
        layers.Conv2DTranspose,
        {"kernel_size": 3, "strides": 2, "padding": "same"},
        id="3×3, stride 2, transposed",
    ),
]


def outputs_and_gradients(
    layer: keras.Layer, inputs: np.ndarray, kernel: np.ndarray, direction: np.ndarray
) -> list[np.ndarray]:
    """Outputs, and the gradients of input and kernel, in float64."""
    if not layer.built:
        layer.build(inputs.shape)
    layer.set_weights([kernel])
    variable = tf.Variable(inputs, dtype=layer.compute_dtype)
    with tf.GradientTape() as tape:
        outputs = layer(variable)
        value = tf.reduce_sum(tf.cast(outputs, tf.float64) * direction)
    found = [outputs, *tape.gradient(value, [variable, layer.kernel.value])]
    return [tf.cast(each, tf.float64).numpy() for each in found]


@pytest.mark.parametrize(("ours", "keras_own", "settings"), CONVOLUTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_only_operands_and_results_are_rounded(
    ours: type[keras.Layer], keras_own: type[keras.Layer], settings: dict[str, object], dtype: str
) -> None:
    noise = np.random.default_rng(0)

    def rounded(shape: tuple[int, ...]) -> np.ndarray:
        return tf.cast(tf.cast(noise.normal(size=shape), dtype), tf.float64).numpy()

    exact = keras_own(FILTERS, use_bias=False, dtype="float64", **settings)
    inputs = rounded((3, 6, 8, CHANNELS))
    exact.build(inputs.shape)
    # The layer itself has to round its kernel.
    kernel = noise.normal(size=exact.kernel.shape)
    direction = rounded(exact.compute_output_shape(inputs.shape))
    rounded_kernel = tf.cast(tf.cast(kernel, dtype), tf.float64).numpy()
    expected = outputs_and_gradients(exact, inputs, rounded_kernel, direction)

    layer = ours(FILTERS, use_bias=False, dtype=UpcastPolicy(f"mixed_{dtype}"), **settings)
    for mine, wanted in zip(outputs_and_gradients(layer, inputs, kernel, direction), expected, strict=True):
        # Beyond the rounding of the result, the error of a float32 sum.
        np.testing.assert_allclose(mine, wanted, rtol=ROUNDING[dtype], atol=1e-5)


@pytest.mark.parametrize(("ours", "keras_own", "settings"), CONVOLUTIONS)
def test_outputs_with_bias_and_weights_are_those_of_kerass_layer(
    ours: type[keras.Layer], keras_own: type[keras.Layer], settings: dict[str, object]
) -> None:
    policies = UpcastPolicy("mixed_bfloat16"), keras.DTypePolicy("mixed_bfloat16")
    pair = [kind(FILTERS, dtype=policy, **settings) for kind, policy in zip((ours, keras_own), policies, strict=True)]
    noise = np.random.default_rng(0)
    inputs = tf.constant(noise.normal(size=(3, 6, 8, CHANNELS)), tf.bfloat16)
    for layer in pair:
        layer.build(inputs.shape)
    assert [(each.name, each.shape, each.dtype) for each in pair[0].weights] == [
        (each.name, each.shape, each.dtype) for each in pair[1].weights
    ]
    pair[0].set_weights([noise.normal(size=weight.shape) for weight in pair[0].weights])
    pair[1].set_weights(pair[0].get_weights())
    mine, theirs = (layer(inputs) for layer in pair)
    assert mine.dtype == theirs.dtype == tf.bfloat16
    # Some CPUs round the sums of Keras' transposed layer too.
    largest = float(tf.reduce_max(tf.abs(theirs)))
    np.testing.assert_allclose(tf.cast(mine, tf.float32), tf.cast(theirs, tf.float32), rtol=0, atol=0.03 * largest)


def test_a_networks_convolutions_are_upcast_whatever_the_number_of_pixels() -> None:
    keras.config.set_dtype_policy(UpcastPolicy("mixed_bfloat16"))
    values = {"num_blocks": 4, "base_filters": 4, "cbam": "encoder", "cbam_reduction_ratio": 2, "attention_gates": True}
    model = build_unet(UNetConfig.model_validate(values), (32, 64, 1), 5)
    found = {type(layer) for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Conv2DTranspose)}
    assert found == {UpcastConv2D, UpcastConv2DTranspose}
