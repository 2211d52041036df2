"""Convolutions as matrix multiplications compute what Keras' own layers compute."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.few_pixels import MatmulConv2D, MatmulConv2DTranspose
from marsseg.models.half_precision import HalfConv2D, HalfConv2DTranspose
from marsseg.models.unet import build_unet

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

CHANNELS, FILTERS = 4, 6
Pair = tuple[keras.Layer, keras.Layer]


def convolutions(kernel_size: int, dilation_rate: int = 1, use_bias: bool = True) -> Pair:
    settings = {"padding": "same", "dilation_rate": dilation_rate, "use_bias": use_bias}
    return MatmulConv2D(FILTERS, kernel_size, **settings), layers.Conv2D(FILTERS, kernel_size, **settings)


def enlargements(use_bias: bool) -> Pair:
    settings = {"strides": 2, "use_bias": use_bias}
    return MatmulConv2DTranspose(FILTERS, 2, **settings), layers.Conv2DTranspose(FILTERS, 2, **settings)


def values_and_gradients(pair: Pair, height: int, width: int) -> list[list[np.ndarray]]:
    """Outputs, gradients of the input and gradients of the weights, of both layers with the same weights."""
    noise = np.random.default_rng(0)
    inputs = tf.Variable(noise.normal(size=(3, height, width, CHANNELS)), dtype=pair[0].compute_dtype)
    for layer in pair:
        layer.build(inputs.shape)
    weights = [noise.normal(size=weight.shape) for weight in pair[0].weights]
    direction: np.ndarray | None = None
    found = []
    for layer in pair:
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            direction = noise.normal(size=outputs.shape) if direction is None else direction
            value = tf.reduce_sum(outputs * tf.cast(direction, outputs.dtype))
        places = [inputs, *[weight.value for weight in layer.trainable_weights]]
        arrays = [outputs, *tape.gradient(value, places)]
        found.append([tf.cast(array, tf.float64).numpy() for array in arrays])
    return found


@pytest.mark.parametrize(
    ("pair", "sides"),
    [
        pytest.param(lambda: convolutions(3), (1, 2), id="higher than the image"),
        pytest.param(lambda: convolutions(3), (1, 1), id="one pixel"),
        pytest.param(lambda: convolutions(3, use_bias=False), (4, 8), id="no bias"),
        pytest.param(lambda: convolutions(3, dilation_rate=2), (3, 5), id="dilated"),
        pytest.param(lambda: convolutions(3, dilation_rate=3), (2, 4), id="dilated beyond the border"),
        pytest.param(lambda: convolutions(2), (2, 4), id="an even kernel"),
        pytest.param(lambda: convolutions(2, dilation_rate=3), (5, 4), id="an even kernel, dilated"),
        pytest.param(lambda: enlargements(use_bias=True), (2, 4), id="transposed"),
        pytest.param(lambda: enlargements(use_bias=False), (3, 1), id="transposed, no bias"),
    ],
)
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 1e-5), ("mixed_bfloat16", 0.03)])
def test_outputs_and_gradients_are_those_of_kerass_layer(
    pair: Callable[[], Pair], sides: tuple[int, int], precision: str, tolerance: float
) -> None:
    keras.config.set_dtype_policy(precision)
    ours, theirs = values_and_gradients(pair(), *sides)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine.shape == expected.shape
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(mine, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("pair", [convolutions(3), enlargements(use_bias=True)])
def test_weights_are_those_of_kerass_layer(pair: Pair) -> None:
    for layer in pair:
        layer.build((1, 2, 4, CHANNELS))
    ours, theirs = ([(weight.name, weight.shape, weight.dtype) for weight in layer.weights] for layer in pair)
    assert ours == theirs


def deepest(portable: bool) -> keras.Model:
    return build_unet(UNetConfig(num_blocks=4, base_filters=4), (32, 64, 1), 5, portable=portable)


def test_a_network_has_them_where_pixels_are_few_and_a_portable_one_nowhere() -> None:
    kinds = {layer.name: type(layer) for layer in deepest(portable=False).layers}
    assert kinds["bottleneck_conv0"] is MatmulConv2D
    assert kinds["decoder3_up_transpose"] is MatmulConv2DTranspose
    assert kinds["encoder0_conv0"] is layers.Conv2D
    assert kinds["decoder0_up_transpose"] is layers.Conv2DTranspose
    assert not {MatmulConv2D, MatmulConv2DTranspose} & {type(layer) for layer in deepest(portable=True).layers}


@pytest.mark.parametrize("upsampling", ["upsampling2d", "conv2d_transpose"])
def test_more_pixels_are_few_in_bfloat16_and_a_step_is_traced_for_any_batch(upsampling: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_unet(UNetConfig(num_blocks=4, base_filters=4, upsampling=upsampling), (64, 128, 1), 5)
    kinds = {layer.name: type(layer) for layer in model.layers}
    assert kinds["bottleneck_conv1"] is MatmulConv2D
    assert kinds["encoder3_conv0"] is HalfConv2D
    if upsampling == "conv2d_transpose":
        assert kinds["decoder2_up_transpose"] is MatmulConv2DTranspose
        assert kinds["decoder1_up_transpose"] is HalfConv2DTranspose
    images = tf.TensorSpec((None, 64, 128, 1))
    traced = tf.function(lambda batch: model(batch, training=True), input_signature=[images]).get_concrete_function()
    assert traced.output_shapes.as_list() == [None, 64, 128, 5]


@pytest.mark.parametrize("settings", [{"padding": "valid"}, {"strides": 2}, {"activation": "relu"}, {"groups": 2}])
def test_what_they_do_not_compute_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="MatmulConv2D: expected"):
        MatmulConv2D(FILTERS, 3, **{"padding": "same", **settings})
    with pytest.raises(ValueError, match="MatmulConv2DTranspose: expected"):
        MatmulConv2DTranspose(FILTERS, 3, strides=2)


def test_they_are_saved_and_loaded(tmp_path: Path) -> None:
    model, images = deepest(portable=False), np.random.default_rng(0).random((2, 32, 64, 1), np.float32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))
