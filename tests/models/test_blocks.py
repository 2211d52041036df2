"""Laws of every block, and convolutions against NumPy; attention has a test file of its own."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import UNetConfig
from marsseg.models.attention import attention_gate, convolutional_block_attention, squeeze_and_excitation
from marsseg.models.blocks import BlockStyle, conv_block, dropout, normalize, upsample

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

Block = Callable[[keras.KerasTensor], keras.KerasTensor]
CHANNELS = 4


def style(portable: bool = False, **values: object) -> BlockStyle:
    return BlockStyle(UNetConfig.model_validate(values), seed=3, portable=portable)


# Each block with the factor by which it changes height and width, and its number of output channels.
BLOCKS: dict[str, tuple[Block, int, int]] = {
    "conv_block": (lambda x: conv_block(x, 6, style(), "b"), 1, 6),
    "conv_block_portable": (lambda x: conv_block(x, 6, style(portable=True), "b"), 1, 6),
    "conv_block_without_normalization": (lambda x: conv_block(x, 6, style(normalization="none"), "b"), 1, 6),
    "normalize": (lambda x: normalize(x, style(), "b"), 1, CHANNELS),
    "upsampling2d": (lambda x: upsample(x, 3, style(upsampling="upsampling2d"), "b"), 2, 3),
    "conv2d_transpose": (lambda x: upsample(x, 3, style(upsampling="conv2d_transpose"), "b"), 2, 3),
    "dropout": (lambda x: dropout(x, style(dropout=0.5), 1, "b"), 1, CHANNELS),
    "conv_block_dilated": (lambda x: conv_block(x, 6, style(), "b", (1, 2, 4)), 1, 6),
    "conv_block_residual": (lambda x: conv_block(x, 6, style(residual=True), "b"), 1, 6),
    "conv_block_residual_of_as_many_channels": (lambda x: conv_block(x, CHANNELS, style(residual=True), "b"), 1, 4),
    "squeeze_and_excitation": (lambda x: squeeze_and_excitation(x, 2, "b"), 1, CHANNELS),
    "convolutional_block_attention": (lambda x: convolutional_block_attention(x, 2, "b"), 1, CHANNELS),
    "attention_gate": (lambda x: attention_gate(x, keras.layers.AveragePooling2D(2)(x), "b"), 1, CHANNELS),
}


def build(name: str, height: int = 8, width: int = 12) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((height, width, CHANNELS), name="image")
    return keras.Model(inputs, BLOCKS[name][0](inputs))


def batch(height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, CHANNELS)).astype(np.float32)


@pytest.mark.parametrize("name", BLOCKS)
class TestBlock:
    @pytest.mark.parametrize(("height", "width"), [(8, 12), (5, 7), (1, 1)])
    def test_shape_also_for_odd_sides(self, name: str, height: int, width: int) -> None:
        _, factor, channels = BLOCKS[name]
        if name == "attention_gate" and (height % 2 or width % 2):
            pytest.skip("above a pooling sides are even")
        outputs = build(name, height, width)(batch(height, width), training=True)
        assert outputs.shape == (2, factor * height, factor * width, channels)
        assert outputs.dtype == tf.float32
        assert np.isfinite(outputs).all()

    def test_gradient_reaches_every_weight_and_the_input(self, name: str) -> None:
        model, inputs = build(name), tf.constant(batch())
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            direction = np.random.default_rng(1).normal(size=outputs.shape).astype(np.float32)
            value = tf.reduce_sum(outputs * direction)
        gradients = tape.gradient(value, [inputs, *[weight.value for weight in model.trainable_weights]])
        assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in gradients)

    def test_gradient_is_the_slope_of_what_it_computes(self, name: str) -> None:
        """Checked along a random direction of input and weights together, against a central difference."""
        keras.config.set_dtype_policy("float64")
        model, noise, in_training = build(name), np.random.default_rng(1), name != "dropout"
        places = [tf.Variable(batch().astype(np.float64)), *(weight.value for weight in model.trainable_weights)]
        starts, steps = [place.numpy() for place in places], [noise.normal(size=place.shape) for place in places]
        pick = noise.normal(size=model(places[0]).shape)

        def value(distance: float) -> tf.Tensor:
            for place, start, step in zip(places, starts, steps, strict=True):
                place.assign(start + distance * step)
            return tf.reduce_sum(model(places[0], training=in_training) * pick)

        slope = (value(1e-5) - value(-1e-5)) / 2e-5
        with tf.GradientTape() as tape:
            now = value(0.0)
        gradients = tape.gradient(now, places)
        along = sum(float(tf.reduce_sum(gradient * step)) for gradient, step in zip(gradients, steps, strict=True))
        # Normalisation and channel gates compute in float32 whatever the policy.
        assert along == pytest.approx(float(slope), rel=1e-2, abs=0.1)

    def test_saved_and_loaded_computes_the_same(self, name: str, tmp_path: Path) -> None:
        model = build(name)
        model(batch(), training=True)  # moves the normalisation statistics off their initial values
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(batch()), model(batch()))
        assert [weight.path for weight in loaded.weights] == [weight.path for weight in model.weights]

    @pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.04), ("float16", 0.005)])
    def test_mixed_precision_computes_in_half_the_bits_near_float32_with_float32_weights(
        self, name: str, precision: str, tolerance: float
    ) -> None:
        expected = build(name)(batch()).numpy()
        keras.config.set_dtype_policy(f"mixed_{precision}")
        model = build(name)
        outputs = model(batch())
        assert outputs.dtype == precision
        assert {weight.dtype for weight in model.weights} <= {"float32"}
        np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", BLOCKS)
def test_saved_in_mixed_precision_it_loads_where_the_policy_is_float32(name: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(name)
    model.save(tmp_path / "model.keras")
    expected = model(batch())
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(tf.cast(loaded(batch()), tf.bfloat16), expected)


def dilated_convolution(x: np.ndarray, kernel: np.ndarray, rate: int) -> np.ndarray:
    """Σ over s of x[p + rate·s]·kernel[s], s from -1 to 1 both ways, zeros around the image, pixel by pixel."""
    outputs = np.zeros((*x.shape[:3], kernel.shape[3]))
    for row, column in np.ndindex(x.shape[1], x.shape[2]):
        for down, right in np.ndindex(3, 3):
            r, c = row + rate * (down - 1), column + rate * (right - 1)
            if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                outputs[:, row, column] += x[:, r, c] @ kernel[down, right]
    return outputs


@pytest.mark.parametrize("rates", [(1, 1), (2,), (1, 2, 4), (9,)])
def test_conv_block_dilates_as_the_papers_formula_says(rates: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(0)
    tensor = keras.Input((8, 12, CHANNELS))
    model = keras.Model(tensor, conv_block(tensor, 3, style(normalization="none"), "b", rates))
    weights = [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(model.get_weights())]
    model.set_weights(weights)
    expected = batch().astype(np.float64)
    for rate, kernel, bias in zip(rates, weights[::2], weights[1::2], strict=True):
        expected = np.maximum(dilated_convolution(expected, kernel, rate) + bias, 0)
    assert (expected > 0).mean() > 0.2
    np.testing.assert_allclose(model(batch()), expected, rtol=1e-4, atol=1e-4 * expected.max())


@pytest.mark.parametrize("upsampling", ["upsampling2d", "conv2d_transpose"])
def test_upsampling_doubles_both_sides_as_its_formula_says(upsampling: str) -> None:
    tensor = keras.Input((4, 6, CHANNELS))
    model = keras.Model(tensor, upsample(tensor, 3, style(upsampling=upsampling, normalization="none"), "b"))
    noise = np.random.default_rng(0)
    kernel, bias = weights = [noise.normal(size=weight.shape) for weight in model.get_weights()]
    model.set_weights(weights)
    inputs = batch(4, 6)
    expected = np.zeros((2, 8, 12, 3)) + bias
    for down, right in np.ndindex(2, 2):
        if upsampling == "conv2d_transpose":
            # Each pixel becomes a separate 2×2 square; the kernel's last axis is the input channels.
            expected[:, down::2, right::2] += inputs @ kernel[down, right].T
        else:
            # Each pixel is repeated four times, then a 2×2 convolution with zeros below and at the right.
            larger = np.pad(inputs.repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (0, 1), (0, 1), (0, 0)))
            expected += larger[:, down : down + 8, right : right + 12] @ kernel[down, right]
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("filters", [CHANNELS, 3])
def test_residual_block_adds_its_input_before_the_last_rectifier(filters: int) -> None:
    keras.utils.set_random_seed(0)
    tensor = keras.Input((8, 12, CHANNELS))
    model = keras.Model(tensor, conv_block(tensor, filters, style(normalization="none", residual=True), "b"))
    noise = np.random.default_rng(0)
    model.set_weights([noise.normal(size=weight.shape) for weight in model.get_weights()])
    value = {weight.path.replace("b_", ""): weight.numpy() for weight in model.weights}
    inputs = batch().astype(np.float64)
    hidden = np.maximum(dilated_convolution(inputs, value["conv0/kernel"], 1) + value["conv0/bias"], 0)
    added = inputs if filters == CHANNELS else inputs @ value["shortcut/kernel"] + value["shortcut/bias"]
    expected = np.maximum(dilated_convolution(hidden, value["conv1/kernel"], 1) + value["conv1/bias"] + added, 0)
    np.testing.assert_allclose(model(batch()), expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_conv_block_is_two_rounds_of_convolution_normalisation_and_rectifier() -> None:
    model = build("conv_block")
    assert [type(layer).__name__ for layer in model.layers[1:]] == ["Conv2D", "FusedBatchNormalization", "ReLU"] * 2
    assert [weight.shape for weight in model.weights if "kernel" in weight.path] == [(3, 3, 4, 6), (3, 3, 6, 6)]
    assert not any("bias" in weight.path for weight in model.weights)
    assert model(batch()).numpy().min() == 0


def test_dropout_drops_whole_maps_in_training_alone() -> None:
    model, inputs = build("dropout"), np.ones((64, 8, 12, CHANNELS), np.float32)
    np.testing.assert_array_equal(model(inputs), inputs)
    outputs = model(inputs, training=True).numpy()
    maps = outputs.transpose(0, 3, 1, 2).reshape(64 * CHANNELS, -1)
    assert (maps == maps[:, :1]).all()
    assert set(np.unique(maps)) == {0.0, 2.0}
    assert 0.3 < (maps[:, 0] == 0).mean() < 0.7


def test_dropout_masks_differ_by_position_and_follow_the_seed() -> None:
    inputs = np.ones((32, 2, 2, 8), np.float32)
    masks = []
    for seed, position in [(3, 0), (3, 0), (3, 1), (9, 0)]:
        tensor = keras.Input((2, 2, 8))
        config = UNetConfig(dropout=0.5)
        model = keras.Model(tensor, dropout(tensor, BlockStyle(config, seed), position, "drop"))
        masks.append(model(inputs, training=True).numpy())
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    assert (masks[0] != masks[3]).any()


def test_nothing_is_added_where_normalisation_or_dropout_is_off() -> None:
    tensor = keras.Input((4, 4, 2))
    assert normalize(tensor, style(normalization="none"), "n") is tensor
    assert dropout(tensor, style(dropout=0.0), 0, "d") is tensor
