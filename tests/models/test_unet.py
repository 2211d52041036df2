"""The U-Net: every depth and option, its portable copy in Keras' own layers, names and seeds."""

from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import UNetConfig
from marsseg.errors import ConfigError
from marsseg.models.dual_unet import build_dual_unet
from marsseg.models.unet import build_unet

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

NUM_CLASSES = 5
# A gate with one hidden unit could be dead from the start.
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
    {"residual": True},
    {"residual": True, "normalization": "none", "dilation": "both"},
    {"family": "dual_unet", "global_blocks": 1},
    {"family": "dual_unet", "upsampling": "upsampling2d", "predict_background": False},
]
EVERYTHING: dict[str, object] = {
    "se": "encoder",
    "cbam": "skip",
    "attention_gates": True,
    "stn": True,
    "dilation": "both",
    "dilation_rates": "1,2,4",
    "dropout": 0.1,
    "predict_background": False,
}
OPTIONS += [{**EVERYTHING, "num_blocks": num_blocks} for num_blocks in (3, 6)]
OPTIONS += [{**EVERYTHING, "stn": False, "residual": True, "family": "dual_unet", "num_blocks": 3}]
BUILDERS = {"unet": build_unet, "dual_unet": build_dual_unet}


def build(
    height: int | None = None, width: int | None = None, seed: int = 0, portable: bool = False, **values: object
) -> tuple[keras.Model, np.ndarray]:
    """A small network and two images for it, 16x32 where its depth allows."""
    config = UNetConfig.model_validate({**SMALL, **values})
    height = height or max(16, 2**config.num_blocks)
    width = width or 2 * height
    model = BUILDERS[config.family](config, (height, width, 1), NUM_CLASSES, seed, portable)
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


@pytest.mark.parametrize(("height", "width", "num_blocks", "fits"), [(64, 96, 6, 5), (20, 32, 3, 2)])
def test_depth_that_does_not_fit_is_refused(height: int, width: int, num_blocks: int, fits: int) -> None:
    with pytest.raises(ConfigError, match=rf"num_blocks = {num_blocks} .* {height}x{width}; at most {fits} blocks fit"):
        build(height, width, num_blocks=num_blocks)


def name_options(options: dict[str, object]) -> str:
    if EVERYTHING.keys() <= options.keys():
        return f"everything-{options.get('family', 'unet')}-{options['num_blocks']}-blocks"
    return ",".join(f"{option}={value}" for option, value in options.items())


@cache
def built_once(name: str) -> tuple[keras.Model, np.ndarray, list[np.ndarray]]:
    """The float32 network of these options, its images and its initial weights; building one takes seconds."""
    (options,) = [options for options in OPTIONS if name_options(options) == name]
    model, images = build(**options)
    return model, images, model.get_weights()


def initial(options: dict[str, object]) -> tuple[keras.Model, np.ndarray]:
    """The network of `built_once`, reset to its initial weights."""
    model, images, weights = built_once(name_options(options))
    model.set_weights(weights)
    return model, images


@pytest.mark.parametrize("options", OPTIONS, ids=name_options)
class TestOption:
    def test_gradient_reaches_every_weight(self, options: dict[str, object]) -> None:
        model, images = initial(options)
        # A layer that starts at 0, such as the spatial transformer's last, blocks the gradient of the layers before it.
        noise = np.random.default_rng(2)
        model.set_weights([weight + noise.normal(0, 0.01, weight.shape) for weight in model.get_weights()])
        direction = np.random.default_rng(1).normal(size=(2, *model.output_shape[1:])).astype(np.float32)
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
        model, images = initial(options)
        for _ in range(3):
            model(images, training=True)
        twin, _ = build(portable=True, seed=9, **options)
        assert [weight.path for weight in twin.weights] == [weight.path for weight in model.weights]
        twin.set_weights(model.get_weights())
        np.testing.assert_allclose(twin(images), model(images), rtol=1e-4, atol=1e-4)
        assert all(type(layer).__module__.startswith("keras.") for layer in twin.layers)

    def test_saved_and_loaded_gives_the_same_logits(self, options: dict[str, object], tmp_path: Path) -> None:
        model, images = initial(options)
        model(images, training=True)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(images), model(images))

    @pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
    def test_mixed_precision_gives_float32_logits_from_float32_weights(
        self, options: dict[str, object], precision: str, tolerance: float
    ) -> None:
        model, images = initial(options)
        expected, paths = model(images).numpy(), [weight.path for weight in model.weights]
        assert len(set(paths)) == len(paths)
        keras.config.set_dtype_policy(f"mixed_{precision}")
        model, images = build(**options)
        assert [weight.path for weight in model.weights] == paths, "the same in a second build"
        logits = model(images)
        assert logits.dtype == tf.float32
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert {layer.compute_dtype for layer in convolutions if "stn" not in layer.name} == {precision}
        assert {weight.dtype for weight in model.weights} == {"float32"}
        np.testing.assert_allclose(logits, expected, atol=tolerance * np.abs(expected[..., 1:]).max())


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
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
    # Convolutions have in·out·9 weights, transposed ones in·out·4, normalisations 4 per channel.
    convolutions = [(1, 4), (4, 4), (4, 8), (8, 8), (8, 8), (8, 8), (8, 8), (8, 8), (4, 4), (4, 4)]
    expected = sum(9 * a * b + 4 * b for a, b in convolutions) + 8 * 8 * 4 + 8 * 4 * 4 + (4 * 5 + 5)
    assert without.count_params() == expected


def layers_within(model: keras.Model, suffix: str) -> set[str]:
    """The names of the layers that end with the suffix, without it."""
    return {layer.name.removesuffix(suffix) for layer in model.layers if layer.name.endswith(suffix)}


@pytest.mark.parametrize("num_blocks", [2, 6])
@pytest.mark.parametrize("place", ["none", "encoder", "skip", "bottleneck"])
@pytest.mark.parametrize(("block", "first", "last"), [("se", "squeeze", "scale"), ("cbam", "mean", "scale_pixels")])
def test_channel_attention_stands_where_it_should(
    block: str, first: str, last: str, place: str, num_blocks: int
) -> None:
    model, _ = build(num_blocks=num_blocks, **{block: place})
    levels = {f"{place}{level}" for level in range(num_blocks)}
    expected = {"none": set(), "bottleneck": {"bottleneck"}}.get(place, levels)
    assert layers_within(model, f"_{block}_{last}") == expected
    for name in expected:
        source = name.replace("skip", "encoder")
        normalized = model.get_layer("bottleneck_relu1" if name == "bottleneck" else f"{source}_relu1").output
        assert model.get_layer(f"{name}_{block}_{first}").input is normalized
        scaled = model.get_layer(f"{name}_{block}_{last}").output
        if place == "bottleneck":
            assert model.get_layer(f"decoder{num_blocks - 1}_up_transpose").input is scaled
            continue
        assert model.get_layer(f"decoder{name[-1]}_concat").input[1] is scaled
        if place == "encoder":
            assert model.get_layer(f"{name}_pool").input is scaled


@pytest.mark.parametrize("num_blocks", range(2, 7))
def test_attention_gates_weigh_each_skip_by_what_the_decoder_knows_one_level_below(num_blocks: int) -> None:
    model, _ = build(num_blocks=num_blocks, attention_gates=True)
    assert layers_within(model, "_gate_psi") == {f"skip{level}" for level in range(num_blocks)}
    for level in range(num_blocks):
        below = "bottleneck" if level == num_blocks - 1 else f"decoder{level + 1}"
        assert model.get_layer(f"skip{level}_gate_x").input is model.get_layer(f"encoder{level}_relu1").output
        assert model.get_layer(f"skip{level}_gate_g").input is model.get_layer(f"{below}_relu1").output
        gated = model.get_layer(f"skip{level}_gate_scale").output
        assert model.get_layer(f"decoder{level}_concat").input[1] is gated


@pytest.mark.parametrize("num_blocks", [2, 6])
@pytest.mark.parametrize("place", ["none", "bottleneck", "skip", "both"])
def test_dilation_stands_where_it_should(place: str, num_blocks: int) -> None:
    model, _ = build(num_blocks=num_blocks, dilation=place, dilation_rates="2,3,5")
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate != (1, 1)
    }
    names = ["bottleneck"] if place in ("bottleneck", "both") else []
    names += [f"skip{level}_dilated" for level in range(num_blocks)] if place in ("skip", "both") else []
    expected = {}
    for name in names:
        for index, rate in enumerate((2, 3, 5)):
            # Rates are capped, since beyond that all of the kernel but its centre would see only padding.
            _, height, width, _ = model.get_layer(f"{name}_conv{index}").input.shape
            expected[f"{name}_conv{index}"] = min(rate, max(height, width) - 1)
    assert rates == {name: rate for name, rate in expected.items() if rate > 1}
    for level in range(num_blocks):
        skip = model.get_layer(f"decoder{level}_concat").input[1]
        source = f"skip{level}_dilated_relu2" if place in ("skip", "both") else f"encoder{level}_relu1"
        assert skip is model.get_layer(source).output


def test_with_everything_a_skip_is_dilated_then_attended_then_gated() -> None:
    model, images = build(**EVERYTHING)
    for level in range(2):
        assert model.get_layer(f"skip{level}_dilated_conv0").input is model.get_layer(f"encoder{level}_se_scale").output
        assert model.get_layer(f"skip{level}_cbam_mean").input is model.get_layer(f"skip{level}_dilated_relu2").output
        assert model.get_layer(f"skip{level}_gate_x").input is model.get_layer(f"skip{level}_cbam_scale_pixels").output
    assert model.get_layer("encoder0_conv0").input is model.get_layer("stn_view").output
    assert model.get_layer("stn_back").input[0] is model.get_layer("logits").output
    assert (np.argmax(model(images), -1) > 0).all()


def test_dropout_changes_logits_in_training_alone_and_repeats_with_the_seed() -> None:
    runs = []
    for seed in (5, 5):
        model, images = build(dropout=0.5, seed=seed, normalization="none")
        np.testing.assert_array_equal(model(images), model(images))
        runs.append([model(images, training=True).numpy() for _ in range(2)])
    assert (runs[0][0] != runs[0][1]).any()
    np.testing.assert_array_equal(runs[0], runs[1])
