"""The U-Net: every depth and option, its twin of Keras' own layers, names and seeds."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import UNetConfig
from marsseg.errors import ConfigError
from marsseg.models.unet import build_unet

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

NUM_CLASSES = 5
# A gate of one hidden unit could be dead from the start.
SMALL = {"num_blocks": 2, "base_filters": 4, "max_filters": 8, "se_reduction_ratio": 1, "cbam_reduction_ratio": 1}
OPTIONS: list[dict[str, object]] = [
    {"upsampling": "upsampling2d"},
    {"upsampling": "conv2d_transpose"},
    {"se": "encoder"},
    {"se": "skip"},
    {"se": "bottleneck"},
    {"cbam": "encoder"},
    {"cbam": "skip"},
    {"cbam": "bottleneck"},
    {"attention_gates": True},
    {"stn": True},
    {"dilation": "bottleneck"},
    {"dilation": "skip"},
    {"dilation": "both", "dilation_rates": "1,2,4"},
    {"skip_connections": False},
    {"dropout": 0.3},
    {"normalization": "none"},
    {"predict_background": False},
]


def build(
    height: int = 16, width: int = 32, seed: int = 0, portable: bool = False, **values: object
) -> tuple[keras.Model, np.ndarray]:
    """A small network and two images for it."""
    config = UNetConfig.model_validate({**SMALL, **values})
    model = build_unet(config, (height, width, 1), NUM_CLASSES, seed, portable)
    return model, np.random.default_rng(0).random((2, height, width, 1), dtype=np.float32)


@pytest.mark.parametrize("num_blocks", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("upsampling", ["upsampling2d", "conv2d_transpose"])
def test_every_depth_gives_logits_of_the_images_size(num_blocks: int, upsampling: str) -> None:
    model, images = build(64, 128, num_blocks=num_blocks, upsampling=upsampling)
    logits = model(images)
    assert logits.shape == (2, 64, 128, NUM_CLASSES)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert len(pools) == num_blocks
    divisor = 2**num_blocks
    assert model.get_layer("bottleneck_conv1").output.shape[1:] == (64 // divisor, 128 // divisor, 8)


@pytest.mark.parametrize(("height", "width", "num_blocks", "fits"), [(64, 96, 6, 5), (20, 32, 3, 2), (16, 31, 2, 0)])
def test_depth_that_does_not_fit_is_refused(height: int, width: int, num_blocks: int, fits: int) -> None:
    with pytest.raises(ConfigError, match=rf"num_blocks = {num_blocks} .* {height}x{width}; at most {fits} blocks fit"):
        build(height, width, num_blocks=num_blocks)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
class TestOption:
    def test_gradient_reaches_every_weight(self, options: dict[str, object]) -> None:
        model, images = build(**options)
        # What begins at 0, as the spatial transformer's last layer, hides what stands before it until the first step.
        noise = np.random.default_rng(2)
        model.set_weights([weight + noise.normal(0, 0.01, weight.shape) for weight in model.get_weights()])
        direction = np.random.default_rng(1).normal(size=(2, 16, 32, NUM_CLASSES)).astype(np.float32)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model(images, training=True) * direction)
        gradients = tape.gradient(value, [weight.value for weight in model.trainable_weights])
        dead = [
            weight.path
            for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
            if gradient is None or not np.abs(gradient).max() > 0
        ]
        assert dead == []

    def test_twin_of_kerass_own_layers_gives_the_same_logits(self, options: dict[str, object]) -> None:
        model, images = build(**options)
        for _ in range(3):
            model(images, training=True)
        twin, _ = build(portable=True, seed=9, **options)
        assert [weight.path for weight in twin.weights] == [weight.path for weight in model.weights]
        twin.set_weights(model.get_weights())
        np.testing.assert_allclose(twin(images), model(images), rtol=1e-4, atol=1e-4)
        assert all(type(layer).__module__.startswith("keras.") for layer in twin.layers)

    def test_saved_and_loaded_gives_the_same_logits(self, options: dict[str, object], tmp_path: Path) -> None:
        model, images = build(**options)
        model(images, training=True)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(images), model(images))

    def test_weights_have_the_same_paths_in_a_second_build(self, options: dict[str, object]) -> None:
        paths = [[weight.path for weight in build(**options)[0].weights] for _ in range(2)]
        assert paths[0] == paths[1]
        assert len(set(paths[0])) == len(paths[0])

    def test_mixed_precision_gives_float32_logits_from_float32_weights(self, options: dict[str, object]) -> None:
        expected = build(**options)[0](build()[1]).numpy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        model, images = build(**options)
        logits = model(images)
        assert logits.dtype == tf.float32
        assert model.get_layer("encoder0_conv0").compute_dtype == "bfloat16"
        assert {weight.dtype for weight in model.weights} == {"float32"}
        np.testing.assert_allclose(logits, expected, atol=0.1 * np.abs(expected[..., 1:]).max())


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_background_is_never_predicted_where_the_head_masks_it(precision: str) -> None:
    keras.config.set_dtype_policy(precision)
    model, images = build(predict_background=False)
    head = model.get_layer("logits")
    kernel, _ = head.get_weights()
    head.set_weights([kernel, np.array([1e6, -1e6, -1e6, -1e6, -1e6], np.float32)])
    logits = model(images)
    assert logits.dtype == tf.float32
    assert (np.argmax(logits, -1) > 0).all()
    assert (tf.nn.softmax(logits)[..., 0].numpy() == 0).all()
    unmasked, _ = build(predict_background=True)
    unmasked.set_weights(model.get_weights())
    np.testing.assert_array_equal(unmasked(images)[..., 1:], logits[..., 1:])
    assert (np.argmax(unmasked(images), -1) == 0).all()


def test_seed_decides_the_initial_weights_whatever_ran_before() -> None:
    first = build(seed=1)[0].get_weights()
    np.random.default_rng().random()
    keras.utils.set_random_seed(99)
    build(seed=2, se="encoder")
    again, other = build(seed=1)[0].get_weights(), build(seed=2)[0].get_weights()
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    kernels = [index for index, weight in enumerate(first) if weight.ndim == 4]
    assert all((first[index] != other[index]).any() for index in kernels)


def test_skip_connections_carry_the_encoder_to_the_decoder() -> None:
    assert build()[0].get_layer("decoder0_concat").output.shape[-1] == 4 + 4
    without = build(skip_connections=False)[0]
    assert not any("concat" in layer.name for layer in without.layers)
    # Convolutions have in·out·9 weights, normalisations 4 a channel, the transposed ones in·out·4 and a bias.
    convolutions = [(1, 4), (4, 4), (4, 8), (8, 8), (8, 8), (8, 8), (8, 8), (8, 8), (4, 4), (4, 4)]
    expected = sum(9 * a * b + 4 * b for a, b in convolutions) + (8 * 8 * 4 + 8) + (8 * 4 * 4 + 4) + (4 * 5 + 5)
    assert without.count_params() == expected


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("encoder", {"encoder0_se", "encoder1_se"}),
        ("skip", {"skip0_se", "skip1_se"}),
        ("bottleneck", {"bottleneck_se"}),
    ],
)
def test_squeeze_and_excitation_stands_where_it_should(place: str, names: set[str]) -> None:
    model = build(se=place)[0]
    assert {layer.name.removesuffix("_scale") for layer in model.layers if layer.name.endswith("_scale")} == names
    if place == "skip":
        scaled = model.get_layer("skip0_se_scale").output
        assert any(tensor is scaled for tensor in model.get_layer("decoder0_concat").input)


def test_dropout_changes_logits_in_training_alone_and_repeats_with_the_seed() -> None:
    runs = []
    for seed in (5, 5):
        model, images = build(dropout=0.5, seed=seed, normalization="none")
        np.testing.assert_array_equal(model(images), model(images))
        runs.append([model(images, training=True).numpy() for _ in range(2)])
    assert (runs[0][0] != runs[0][1]).any()
    np.testing.assert_array_equal(runs[0], runs[1])
