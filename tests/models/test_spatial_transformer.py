"""The spatial transformer against NumPy, its inverse, what it can learn, and its portable copy in Keras layers."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import UNetConfig
from marsseg.models.spatial_transformer import invert, localize, transform
from marsseg.models.unet import build_unet

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

IDENTITY = np.array([1, 0, 0, 0, 1, 0])
# A rotation, a scaling and a shift that differ from the identity in every entry.
ELSEWHERE = np.array([0.9, 0.2, 0.15, -0.15, 1.1, -0.1])
Array = NDArray[np.float64]


def random_thetas(count: int, spread: float = 1.0) -> Array:
    """Transforms from the whole range that `localize` can give, or from a fraction of it."""
    change = np.random.default_rng(5).uniform(-spread, spread, (count, 6))
    return IDENTITY + change * [0.4, 0.4, 1, 0.4, 0.4, 1]


def sample(image: Array, theta: Array) -> Array:
    """Jaderberg et al. (2015), equations 1 and 5, pixel by pixel; outside the image the nearest border pixel.

    V(p) = Σ U(n, m) · max(0, 1 - |x - m|) · max(0, 1 - |y - n|).
    """
    height, width, _ = image.shape
    view = np.zeros(image.shape)
    for row, column in np.ndindex(height, width):
        target = np.array([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1, 1])
        x, y = theta.reshape(2, 3) @ target
        x = min(max((x + 1) * (width - 1) / 2, 0), width - 1)
        y = min(max((y + 1) * (height - 1) / 2, 0), height - 1)
        for n, m in np.ndindex(height, width):
            view[row, column] += image[n, m] * max(0, 1 - abs(x - m)) * max(0, 1 - abs(y - n))
    return view


def sampler(height: int, width: int, channels: int = 1, portable: bool = False) -> keras.Model:
    """A model from [images, θ] to the view."""
    images, theta = keras.Input((height, width, channels), name="images"), keras.Input((6,), name="theta")
    return keras.Model([images, theta], transform(images, theta, "view", portable))


def smooth_images(height: int, width: int) -> NDArray[np.float32]:
    """Two images that change slowly from pixel to pixel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) + np.cos(y / 4), np.cos((x + y) / 6)]
    return np.stack(waves)[..., None].astype(np.float32)


def network(seed: int = 0, portable: bool = False, **values: object) -> tuple[keras.Model, NDArray[np.float32]]:
    config = UNetConfig.model_validate({"num_blocks": 2, "base_filters": 4, "max_filters": 8, **values})
    model = build_unet(config, (16, 32, 1), 5, seed, portable)
    return model, np.random.default_rng(0).random((2, 16, 32, 1), dtype=np.float32)


def turn_to(model: keras.Model, theta: Array) -> None:
    """Sets the network's transform to `theta` for every image."""
    kernel, _ = model.get_layer("stn_change").get_weights()
    change = np.arctanh((theta - IDENTITY) / [0.4, 0.4, 1, 0.4, 0.4, 1])
    model.get_layer("stn_change").set_weights([np.zeros_like(kernel), change])


@pytest.mark.parametrize("portable", [False, True])
def test_view_is_the_papers_formula(portable: bool) -> None:
    thetas = random_thetas(8)
    images = np.random.default_rng(1).normal(size=(8, 6, 9, 2))
    expected = np.stack([sample(image, theta) for image, theta in zip(images, thetas, strict=True)])
    assert np.abs(expected - images).max() > 0.5
    np.testing.assert_allclose(sampler(6, 9, 2, portable)([images, thetas]), expected, atol=1e-4)


def test_gradient_of_the_transform_is_the_finite_difference() -> None:
    thetas, step = random_thetas(3, 0.5), 1e-6
    images, direction = np.random.default_rng(1).normal(size=(2, 3, 6, 9, 2))
    expected = np.zeros((3, 6))
    for index, entry in np.ndindex(3, 6):
        change = step * np.eye(6)[entry]
        above, below = (sample(images[index], thetas[index] + sign * change) for sign in (1, -1))
        expected[index, entry] = ((above - below) * direction[index]).sum() / (2 * step)
    variable = tf.Variable(thetas, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(sampler(6, 9, 2)([tf.constant(images, tf.float32), variable]) * direction)
    assert np.abs(expected).min() > 0.01
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-3, atol=1e-3)


def test_gradient_of_the_images_is_the_adjoint_of_sampling() -> None:
    thetas = random_thetas(3)
    random = np.random.default_rng(1).normal(size=(2, 3, 6, 9, 2))
    (images, direction), thetas = tf.constant(random, tf.float32), tf.constant(thetas, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = tf.reduce_sum(sampler(6, 9, 2)([images, thetas]) * direction)
    # Sampling is linear in the images: ⟨S(I), d⟩ = ⟨I, Sᵀ(d)⟩.
    assert float(tf.reduce_sum(images * tape.gradient(value, images))) == pytest.approx(float(value), rel=1e-4)


def test_points_outside_pull_the_transform_nowhere() -> None:
    # The right half of the view lies outside the image.
    theta = tf.Variable([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    images = np.random.default_rng(0).random((1, 4, 9, 1), dtype=np.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(sampler(4, 9)([tf.constant(images), theta])[:, :, 5:])
    assert float(value) == pytest.approx(4 * images[0, :, -1].sum(), rel=1e-5)
    assert tape.gradient(value, theta).numpy()[0, :3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("predict_background", [False, True])
def test_network_begins_as_the_one_without(predict_background: bool) -> None:
    plain, images = network(predict_background=predict_background)
    model, _ = network(seed=1, stn=True, predict_background=predict_background)
    weights = {weight.path: weight.numpy() for weight in plain.weights}
    own = [weight for weight in model.weights if weight.path not in weights]
    assert {weight.path.split("/")[0] for weight in own} == {"stn_conv0", "stn_conv1", "stn_hidden", "stn_change"}
    model.set_weights([weights.get(weight.path, weight.numpy()) for weight in model.weights])
    np.testing.assert_allclose(model(images), plain(images), rtol=1e-5, atol=1e-5)
    theta = keras.Model(model.input, model.get_layer("stn_theta").output)
    np.testing.assert_array_equal(theta(images), np.stack([IDENTITY] * 2))


def test_inverse_composed_with_the_transform_is_the_identity() -> None:
    thetas = random_thetas(50)
    inverses = keras.ops.convert_to_numpy(invert(keras.ops.convert_to_tensor(thetas, "float32")))
    corner = np.array([[0, 0, 1]])
    for one, other in zip(thetas, inverses, strict=True):
        forth, back = (np.vstack([theta.reshape(2, 3), corner]) for theta in (one, other))
        np.testing.assert_allclose(forth @ back, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(back @ forth, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("portable", [False, True])
def test_view_and_the_way_back_restore_what_the_view_shows(portable: bool) -> None:
    images, theta = smooth_images(24, 40), np.stack([ELSEWHERE] * 2)
    view = sampler(24, 40, portable=portable)
    inverse = invert(keras.ops.convert_to_tensor(theta, "float32")).numpy()
    there = view([images, theta]).numpy()
    back = view([there, inverse]).numpy()
    inside = np.s_[:, 6:18, 10:30]
    assert np.abs(there - images)[inside].max() > 0.5
    np.testing.assert_allclose(back[inside], images[inside], atol=0.05)
    # Using the inverse in place of the transform does not restore the images.
    assert np.abs(view([view([images, inverse]).numpy(), inverse]).numpy() - images)[inside].max() > 0.5


def test_network_answers_in_the_images_own_frame() -> None:
    """A network that outputs a function of each pixel: whatever its view, the output is aligned with the image."""
    images, theta = smooth_images(24, 40), np.stack([ELSEWHERE] * 2)
    inputs, chosen = keras.Input((24, 40, 1)), keras.Input((6,))
    seen = keras.layers.Rescaling(3.0, 1.0)(transform(inputs, chosen, "view", portable=False))
    answer = keras.Model([inputs, chosen], transform(seen, invert(chosen), "back", portable=False))
    inside = np.s_[:, 6:18, 10:30]
    np.testing.assert_allclose(answer([images, theta]).numpy()[inside], 3 * images[inside] + 1, atol=0.15)


@pytest.mark.parametrize("signs", [(1, 1, 1, 1), (-1, 1, 1, -1), (-1, -1, -1, -1), (1, -1, 1, -1)], ids=str)
def test_transform_can_be_inverted_whatever_the_weights_are(signs: tuple[int, ...]) -> None:
    inputs = keras.Input((16, 32, 1))
    model = keras.Model(inputs, localize(inputs, "stn"))
    model.set_weights([1e3 * np.random.default_rng(0).normal(size=weight.shape) for weight in model.get_weights()])
    images = np.random.default_rng(0).normal(size=(8, 16, 32, 1)).astype(np.float32)
    thetas = [model(images)]
    kernel, _ = model.get_layer("stn_change").get_weights()
    a, b, c, d = signs
    model.get_layer("stn_change").set_weights([0 * kernel, 1e6 * np.array([a, b, 1, c, d, -1])])
    thetas.append(model(images))
    for theta in np.concatenate(thetas).astype(np.float64):
        assert np.abs(theta - IDENTITY).max() > 0.3
        assert np.linalg.det(theta.reshape(2, 3)[:, :2]) >= 0.2 - 1e-6
        assert np.isfinite(invert(theta[None])).all()
        assert np.abs(invert(theta[None])).max() < 15


def test_it_learns_to_undo_each_images_own_shift() -> None:
    height, width, rng = 16, 24, np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]

    def blobs(sizes: Array, shifts: Array) -> NDArray[np.float32]:
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        distances = [
            ((x - mx) / sx) ** 2 + ((y - my) / sy) ** 2
            for (mx, my), (sx, sy) in zip(middle + shifts, sizes, strict=True)
        ]
        return np.exp(-np.stack(distances) / 2)[..., None].astype(np.float32)

    def draw(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], Array]:
        sizes, shifts = rng.uniform(2, 4, (count, 2)), rng.uniform([-3, -2], [3, 2], (count, 2))
        return blobs(sizes, shifts), blobs(sizes, np.zeros((count, 2))), shifts

    keras.utils.set_random_seed(0)
    inputs = keras.Input((height, width, 1))
    theta = localize(inputs, "stn")
    model = keras.Model(inputs, [theta, transform(inputs, theta, "view", portable=False)])
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(shifted: tf.Tensor, originals: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((model(shifted)[1] - originals) ** 2)
        optimizer.apply(tape.gradient(error, model.trainable_variables), model.trainable_variables)

    shifted, originals, _ = draw(64)
    for _ in range(150):
        step(shifted, originals)

    # Unseen images; the shifts are never given to the network.
    shifted, originals, shifts = draw(32)
    theta, view = model(shifted)
    found = theta.numpy()[:, [2, 5]] * [(width - 1) / 2, (height - 1) / 2]
    assert np.abs(shifts).mean() > 1.1
    assert np.abs(found - shifts).mean() < 0.25
    for axis in (0, 1):
        slope = (found[:, axis] @ shifts[:, axis]) / (shifts[:, axis] @ shifts[:, axis])
        assert slope == pytest.approx(1, abs=0.1)
    assert np.abs(view - originals).mean() < 0.2 * np.abs(shifted - originals).mean()


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")
def test_twin_of_kerass_own_layers_gives_the_same_logits_of_another_view(tmp_path: Path) -> None:
    import mlflow.keras

    model, images = network(stn=True)
    untouched = model(images).numpy()
    turn_to(model, ELSEWHERE)
    expected = model(images).numpy()
    assert np.abs(expected - untouched).max() > 0.01
    twin, _ = network(stn=True, portable=True, seed=9)
    assert all(type(layer).__module__.startswith("keras.") for layer in twin.layers)
    twin.set_weights(model.get_weights())
    np.testing.assert_allclose(twin(images), expected, rtol=1e-4, atol=1e-4)
    mlflow.keras.save_model(twin, str(tmp_path / "model"), pip_requirements=["keras"])
    loaded = mlflow.keras.load_model(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-4, atol=1e-4)


def test_saved_and_loaded_network_keeps_its_view(tmp_path: Path) -> None:
    model, images = network(stn=True)
    turn_to(model, ELSEWHERE)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))


def test_coordinates_stay_float32_in_mixed_precision() -> None:
    # A ramp shows each pixel's source column; in bfloat16, which has 8 bits, 127 and 127.5 would be the same.
    ramp = np.broadcast_to(np.arange(256, dtype=np.float32)[None, None, :, None], (1, 8, 256, 1))
    theta = np.array([[1, 0, 0.5 / 127.5, 0, 1, 0]])
    expected = np.minimum(np.arange(256) + 0.5, 255)
    keras.config.set_dtype_policy("mixed_bfloat16")
    view = sampler(8, 256)
    assert view.output.dtype == "float32"
    np.testing.assert_allclose(view([ramp, theta])[0, 3, :, 0], expected, atol=1e-3)
    inverse = keras.Model(view.input[1], invert(view.input[1]))
    assert inverse.output.dtype == "float32"
    np.testing.assert_allclose(
        view([ramp, inverse(theta).numpy()])[0, 3, :, 0], np.maximum(np.arange(256) - 0.5, 0), atol=1e-3
    )


def test_transform_is_chosen_in_float32_in_mixed_precision() -> None:
    thetas = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model, images = network(stn=True)
        weights = model.get_layer("stn_change").get_weights()
        noise = np.random.default_rng(2)
        model.get_layer("stn_change").set_weights([noise.normal(size=weight.shape) for weight in weights])
        parts = {name: keras.Model(model.input, model.get_layer(name).output) for name in ("stn_theta", "stn_view")}
        thetas.append([part(images).numpy() for part in parts.values()])
        assert all(part.output.dtype == "float32" for part in parts.values())
    np.testing.assert_array_equal(thetas[0][0], thetas[1][0])
    np.testing.assert_array_equal(thetas[0][1], thetas[1][1])
    assert np.ptp(thetas[0][0], axis=0).max() > 0
