"""Layers in half precision round what instructions for it round, sum in float32, and are in every network."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from marsseg.config import ExperimentConfig, UNetConfig
from marsseg.models.few_pixels import MatmulConv2D, MatmulConv2DTranspose
from marsseg.models.half_precision import HalfConv2D, HalfConv2DTranspose, HalfDense, UpcastPolicy
from marsseg.models.unet import build_unet
from marsseg.training import network
from marsseg.training.precision import Machine

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

CHANNELS, FILTERS = 4, 6
# The largest relative error of rounding to the nearest number with 8 and with 11 significant bits.
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}
SAME = {"kernel_size": 3, "padding": "same"}
LAYERS = [
    pytest.param(HalfConv2D, layers.Conv2D, SAME, id="3×3"),
    pytest.param(HalfConv2D, layers.Conv2D, {**SAME, "dilation_rate": 2}, id="3×3, dilated"),
    pytest.param(HalfConv2D, layers.Conv2D, {"kernel_size": 2, "strides": 2, "activation": "relu"}, id="2×2, stride 2"),
    pytest.param(HalfConv2DTranspose, layers.Conv2DTranspose, {"kernel_size": 2, "strides": 2}, id="transposed"),
    pytest.param(
        HalfConv2DTranspose,
        layers.Conv2DTranspose,
        {**SAME, "strides": 2, "output_padding": 1, "activation": "relu"},
        id="transposed, 3×3",
    ),
    pytest.param(HalfDense, layers.Dense, {"activation": "relu"}, id="dense"),
]


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    return tf.cast(tf.cast(values, dtype), tf.float64).numpy()


def outputs_and_gradients(
    layer: keras.Layer, inputs: np.ndarray, weights: list[np.ndarray], direction: np.ndarray
) -> list[np.ndarray]:
    """Outputs, and the gradients of input and weights, in float64."""
    layer.set_weights(weights)
    variable = tf.Variable(inputs, dtype=layer.compute_dtype)
    with tf.GradientTape() as tape:
        outputs = layer(variable)
        value = tf.reduce_sum(tf.cast(outputs, tf.float64) * direction)
    found = [outputs, *tape.gradient(value, [variable, *(weight.value for weight in layer.weights)])]
    return [tf.cast(each, tf.float64).numpy() for each in found]


@pytest.mark.parametrize(("half", "keras_own", "settings"), LAYERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_upcast_only_operands_and_results_are_rounded(
    half: type[keras.Layer], keras_own: type[keras.Layer], settings: dict[str, object], dtype: str
) -> None:
    noise = np.random.default_rng(0)
    inputs = rounded(noise.normal(size=(3, 6, 8, CHANNELS)), dtype)
    exact = keras_own(FILTERS, use_bias=False, dtype="float64", **settings)
    ours = half(FILTERS, use_bias=False, dtype=UpcastPolicy(f"mixed_{dtype}"), **settings)
    for layer in (exact, ours):
        layer.build(inputs.shape)
    kernel = noise.normal(size=exact.kernel.shape)
    direction = rounded(noise.normal(size=exact.compute_output_shape(inputs.shape)), dtype)
    expected = outputs_and_gradients(exact, inputs, [rounded(kernel, dtype)], direction)
    # Our layer rounds its kernel itself.
    found = outputs_and_gradients(ours, inputs, [kernel], direction)
    for mine, wanted in zip(found, expected, strict=True):
        # Beyond the rounding of the result, the error of a float32 sum.
        np.testing.assert_allclose(mine, wanted, rtol=ROUNDING[dtype], atol=1e-5)


@pytest.mark.parametrize(("half", "keras_own", "settings"), LAYERS)
@pytest.mark.parametrize("policy", [keras.DTypePolicy, UpcastPolicy])
def test_outputs_with_bias_and_weights_are_those_of_kerass_layer(
    half: type[keras.Layer],
    keras_own: type[keras.Layer],
    settings: dict[str, object],
    policy: type[keras.DTypePolicy],
) -> None:
    pair = [half(FILTERS, dtype=policy("mixed_bfloat16"), **settings), keras_own(FILTERS, **settings)]
    noise = np.random.default_rng(0)
    inputs = rounded(noise.normal(size=(3, 6, 8, CHANNELS)), "bfloat16")
    for layer in pair:
        layer.build(inputs.shape)
    ours, theirs = ([(each.name, each.shape, each.dtype) for each in layer.weights] for layer in pair)
    assert ours == theirs
    weights = [noise.normal(size=weight.shape) for weight in pair[0].weights]
    for layer in pair:
        layer.set_weights(weights)
    mine, wanted = (tf.cast(layer(tf.cast(inputs, layer.compute_dtype)), tf.float32).numpy() for layer in pair)
    assert pair[0](tf.cast(inputs, tf.bfloat16)).dtype == tf.bfloat16
    assert mine.shape == wanted.shape
    np.testing.assert_allclose(mine, wanted, rtol=0, atol=0.03 * np.abs(wanted).max())


@pytest.mark.parametrize("policy", [keras.DTypePolicy, UpcastPolicy])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(lambda policy: HalfConv2D(FILTERS, 1, dtype=policy), id="convolution"),
        pytest.param(lambda policy: HalfConv2DTranspose(FILTERS, 1, dtype=policy), id="transposed"),
        pytest.param(lambda policy: HalfDense(FILTERS, dtype=policy), id="dense"),
        pytest.param(lambda policy: MatmulConv2D(FILTERS, 1, padding="same", dtype=policy), id="few pixels"),
        pytest.param(lambda policy: MatmulConv2DTranspose(FILTERS, 2, strides=2, dtype=policy), id="few, transposed"),
    ],
)
def test_the_gradient_of_a_bias_is_summed_in_float32(
    layer: Callable[[keras.DTypePolicy], keras.Layer], dtype: str, policy: type[keras.DTypePolicy]
) -> None:
    built = layer(policy(f"mixed_{dtype}"))
    inputs = tf.ones((4, 64, 128, CHANNELS), dtype)
    with tf.GradientTape() as tape:
        outputs = built(inputs)
        value = 0.01 * tf.reduce_sum(tf.cast(outputs, tf.float32))
    # In half precision a sum stops growing as soon as its last bit is worth more than a summand.
    expected = np.full(FILTERS, 0.01 * np.prod(outputs.shape[:3]))
    np.testing.assert_allclose(tape.gradient(value, built.bias.value), expected, rtol=0.005)


def kinds(model: keras.Model) -> set[type]:
    convolutions = layers.Conv2D | layers.Conv2DTranspose
    return {type(each) for each in model.layers if isinstance(each, convolutions) or "shortcut" in each.name}


def test_a_networks_layers_are_upcast_whatever_the_number_of_pixels() -> None:
    keras.config.set_dtype_policy(UpcastPolicy("mixed_bfloat16"))
    values = {"num_blocks": 4, "base_filters": 4, "cbam": "encoder", "cbam_reduction_ratio": 2}
    config = UNetConfig.model_validate({**values, "attention_gates": True, "residual": True, "normalization": "none"})
    assert kinds(build_unet(config, (32, 64, 1), 5)) == {HalfConv2D, HalfConv2DTranspose, HalfDense}


def test_an_upcast_network_is_saved_and_loads_where_the_policy_is_float32(tmp_path: Path) -> None:
    keras.config.set_dtype_policy(UpcastPolicy("mixed_bfloat16"))
    model = build_unet(UNetConfig(num_blocks=2, base_filters=4, residual=True), (16, 32, 1), 5)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, 16, 32, 1), np.float32)
    wanted = model(images).numpy()
    np.testing.assert_allclose(loaded(images), wanted, rtol=0, atol=0.03 * np.abs(wanted).max())


@pytest.mark.parametrize(("flags", "upcast"), [({"avx2"}, True), ({"avx2", "avx512f"}, False)])
def test_a_runs_network_follows_the_machine(flags: set[str], upcast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "this_machine", lambda: Machine(frozenset(flags)))
    config = ExperimentConfig().with_values(
        {"training.precision": "bfloat16", "model.num_blocks": 2, "model.base_filters": 4}
    )
    policies = [layer.dtype_policy for layer in network.build_network(config, (32, 64)).layers]
    assert any(isinstance(policy, UpcastPolicy) for policy in policies) == upcast
    assert HalfConv2D in kinds(network.build_network(config, (32, 64)))
    assert kinds(network.build_network(config, (32, 64), portable=True)) == {layers.Conv2D, layers.Conv2DTranspose}
