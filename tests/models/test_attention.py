"""Attention against NumPy, from the papers' formulas; the laws of every block are in `test_blocks.py`."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from marsseg.models.attention import attention_gate, convolutional_block_attention, squeeze_and_excitation

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

HEIGHT, WIDTH, CHANNELS = 8, 12, 4
Array = NDArray[np.float64]


def build(block: Callable[..., keras.KerasTensor], *input_shapes: tuple[int, ...]) -> tuple[keras.Model, list[Array]]:
    """A block as a model, all its weights random, biases too."""
    tensors = [keras.Input(shape, name=f"input{index}") for index, shape in enumerate(input_shapes)]
    model = keras.Model(tensors if len(tensors) > 1 else tensors[0], block(*tensors))
    weights = [np.random.default_rng(i).normal(size=weight.shape) for i, weight in enumerate(model.weights)]
    model.set_weights(weights)
    return model, weights


def random_batch(*shape: int, seed: int = 9) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def convolve_same(x: Array, kernel: Array) -> Array:
    """Cross-correlation with zeros around, pixel by pixel: (batch, h, w, in) and (k, k, in, out)."""
    size = kernel.shape[0]
    around = size // 2
    padded = np.pad(x, [(0, 0), (around, around), (around, around), (0, 0)])
    outputs = np.zeros((*x.shape[:3], kernel.shape[3]))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = padded[:, row : row + size, column : column + size, :]
            outputs[:, row, column, :] = np.tensordot(window, kernel, axes=3)
    return outputs


def enlarge_bilinearly(x: Array) -> Array:
    """Upsamples by 2: pixel c of the large image lies at (c + 1/2) / 2 - 1/2 in the small one."""
    for axis in (1, 2):
        size = x.shape[axis]
        at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        before = np.floor(at).astype(int)
        after = np.minimum(before + 1, size - 1)
        share = (at - before).reshape([-1 if index == axis else 1 for index in range(4)])
        x = np.take(x, before, axis) * (1 - share) + np.take(x, after, axis) * share
    return x


def test_squeeze_and_excitation_is_the_papers_formula() -> None:
    shape = (HEIGHT, WIDTH, CHANNELS)
    model, (w1, b1, w2, b2) = build(lambda x: squeeze_and_excitation(x, 2, "b"), shape)
    x = random_batch(*shape)
    assert w1.shape == (CHANNELS, CHANNELS // 2)
    gate = sigmoid(relu(x.mean((1, 2)) @ w1 + b1) @ w2 + b2)
    assert gate.std() > 0.1
    np.testing.assert_allclose(model(x), x * gate[:, None, None, :], rtol=1e-4, atol=1e-5)


def test_cbam_is_the_papers_formula() -> None:
    shape = (HEIGHT, WIDTH, CHANNELS)
    model, (w1, b1, w2, b2, kernel) = build(lambda x: convolutional_block_attention(x, 2, "b"), shape)
    # Means over 96 pixels of noise alone would hardly move the gate.
    x = random_batch(*shape) + random_batch(1, 1, CHANNELS, seed=8)
    assert (w1.shape, kernel.shape) == ((CHANNELS, CHANNELS // 2), (7, 7, 2, 1))

    def mlp(summary: Array) -> Array:
        return relu(summary @ w1 + b1) @ w2 + b2

    channel_gate = sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))[:, None, None, :]
    refined = channel_gate * x
    summary = np.stack([refined.mean(-1), refined.max(-1)], -1)
    pixel_gate = sigmoid(convolve_same(summary, kernel))
    assert channel_gate.std() > 0.1
    assert pixel_gate.std() > 0.1
    expected = pixel_gate * refined
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)
    # Applying the pixel gate first would be another function.
    swapped = sigmoid(convolve_same(np.stack([x.mean(-1), x.max(-1)], -1), kernel)) * x
    assert np.abs(swapped * channel_gate - expected).max() > 0.1


def test_attention_gate_is_the_papers_formula() -> None:
    shapes = ((HEIGHT, WIDTH, CHANNELS), (HEIGHT // 2, WIDTH // 2, 6))
    model, _ = build(lambda x, g: attention_gate(x, g, "b"), *shapes)
    weights = {weight.path: weight.numpy().astype(np.float64) for weight in model.weights}
    w_x, w_g, psi = (weights[f"b_{part}/kernel"] for part in ("x", "g", "psi"))
    assert (w_x.shape, w_g.shape, psi.shape) == ((2, 2, 4, 2), (1, 1, 6, 2), (1, 1, 2, 1))
    assert "b_x/bias" not in weights
    x, g = (random_batch(*shape, seed=index) for index, shape in enumerate(shapes))
    hidden = np.zeros((2, HEIGHT // 2, WIDTH // 2, 2))
    for row in range(HEIGHT // 2):
        for column in range(WIDTH // 2):
            window = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, :]
            hidden[:, row, column] = np.tensordot(window, w_x, axes=3)
    hidden = relu(hidden + g @ w_g[0, 0] + weights["b_g/bias"])
    gate = enlarge_bilinearly(sigmoid(hidden @ psi[0, 0] + weights["b_psi/bias"]))
    assert gate.std() > 0.1
    np.testing.assert_allclose(model([x, g]), x * gate, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 512])
def test_attention_gate_of_any_width(channels: int) -> None:
    model, _ = build(lambda x, g: attention_gate(x, g, "b"), (4, 4, channels), (2, 2, 3))
    assert model.get_layer("b_x").filters == max(channels // 2, 1)
    assert np.isfinite(model([random_batch(4, 4, channels), random_batch(2, 2, 3)])).all()


# 1 + 2⁻⁷ is a bfloat16 and 1 + 2⁻¹⁰ a float16; the mean of either and 1 is not.
@pytest.mark.parametrize(("precision", "step"), [("bfloat16", 2**-7), ("float16", 2**-10)])
@pytest.mark.parametrize(
    ("block", "pool"), [(squeeze_and_excitation, "b_squeeze"), (convolutional_block_attention, "b_mean")]
)
def test_channel_gate_is_float32_in_mixed_precision(
    block: Callable[..., keras.KerasTensor], pool: str, precision: str, step: float
) -> None:
    keras.config.set_dtype_policy(f"mixed_{precision}")
    inputs = keras.Input((64, 128, CHANNELS))
    features = keras.layers.ReLU()(inputs)
    model = keras.Model(inputs, block(features, 1, "b"))
    assert features.dtype == precision
    mean = keras.Model(inputs, model.get_layer(pool).output)
    images = np.ones((2, 64, 128, CHANNELS), np.float32)
    images[:, ::2] += step
    np.testing.assert_array_equal(mean(images), np.full((2, CHANNELS), 1 + step / 2))
    assert model.get_layer("b_reduce").output.dtype == "float32"
    assert model.output.dtype == precision
