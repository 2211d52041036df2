"""The dual U-Net: what each branch sees, and that the loss sees each branch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import ExperimentConfig, LossConfig, UNetConfig
from marsseg.errors import ConfigError
from marsseg.losses import build_loss
from marsseg.training.network import build_network, build_network_loss, with_auxiliary_outputs

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

HEIGHT, WIDTH = 16, 32
PIXELS = np.array([500, 300, 150, 49, 1])


def config_of(**values: object) -> ExperimentConfig:
    model = {"family": "dual_unet", "num_blocks": 2, "base_filters": 4, **values}
    return ExperimentConfig.model_validate({"model": model, "training": {"precision": "float32"}})


@pytest.fixture(scope="module")
def model(tensorflow_runtime: int) -> keras.Model:
    return build_network(config_of(), (HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((3, HEIGHT, WIDTH, 1), np.float32)


def outputs(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    return [output.numpy() for output in with_auxiliary_outputs(model)(images, training=False)]


def test_its_own_output_comes_first_and_each_branch_is_of_full_size(model: keras.Model, images: np.ndarray) -> None:
    final, fine, coarse = outputs(model, images)
    np.testing.assert_array_equal(final, model(images, training=False))
    assert final.shape == fine.shape == coarse.shape == (3, HEIGHT, WIDTH, 5)
    assert final.dtype == fine.dtype == coarse.dtype == np.float32


def test_the_global_branch_sees_the_image_at_half_its_size_and_the_fine_one_all_of_it(
    model: keras.Model, images: np.ndarray
) -> None:
    # Each square of four pixels is rotated by 180°, which leaves its mean unchanged.
    squares = images.reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2, 1)
    turned = squares[:, :, ::-1, :, ::-1].reshape(images.shape)
    (final, fine, coarse), (other_final, other_fine, other_coarse) = outputs(model, images), outputs(model, turned)
    np.testing.assert_allclose(other_coarse, coarse, atol=1e-5)
    np.testing.assert_array_equal(coarse, coarse[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    assert np.abs(other_fine - fine).max() > 1e-2
    assert np.abs(other_final - final).max() > 1e-3


def test_the_final_output_is_made_of_both_branches(model: keras.Model) -> None:
    refine = keras.Model(model.get_layer("refine_concat").output, model.output)
    logits = np.random.default_rng(1).normal(size=(1, HEIGHT, WIDTH, 10)).astype(np.float32)
    for branch in (slice(0, 5), slice(5, 10)):
        changed = logits.copy()
        changed[..., branch] += 1
        assert np.abs(np.subtract(refine(changed), refine(logits))).max() > 1e-3


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 2.0), (1.5, 0.0)])
def test_loss_is_of_all_outputs_with_cross_entropy_on_the_global_branch(
    model: keras.Model, images: np.ndarray, weights: tuple[float, float]
) -> None:
    loss = LossConfig.model_validate(
        {
            "terms": "dice",
            "class_weights": "log",
            "background_weight": 0.0,
            "fine_output_weight": weights[0],
            "global_output_weight": weights[1],
        }
    )
    labels = tf.constant(np.random.default_rng(2).integers(0, 5, (3, HEIGHT, WIDTH)), tf.int32)
    found = build_network_loss(config_of(), loss, PIXELS)(labels, with_auxiliary_outputs(model)(images))
    dice = build_loss(loss, PIXELS)
    cross_entropy = build_loss(LossConfig.model_validate({**loss.model_dump(), "terms": "cross_entropy"}), PIXELS)
    final, fine, coarse = outputs(model, images)
    expected = dice(labels, final) + weights[0] * dice(labels, fine) + weights[1] * cross_entropy(labels, coarse)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_plain_network_has_no_more_outputs_and_its_loss_is_the_configs() -> None:
    config = config_of(family="unet")
    model = build_network(config, (HEIGHT, WIDTH))
    assert with_auxiliary_outputs(model) is model
    labels, logits = tf.zeros((1, 2, 2), tf.int32), tf.ones((1, 2, 2, 5))
    assert float(build_network_loss(config, config.loss, PIXELS)(labels, logits)) == float(
        build_loss(config.loss, PIXELS)(labels, logits)
    )


def test_depth_of_the_global_branch_that_does_not_fit_is_refused() -> None:
    config = UNetConfig(family="dual_unet", num_blocks=2, global_blocks=4)
    config.check_image_fits(32, 64)
    with pytest.raises(ConfigError, match=r"global_blocks = 4 needs image sides divisible by 32.*at most 3 blocks fit"):
        config.check_image_fits(16, 32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "dual_unet", "stn": True}, "stn = true needs family = 'unet'"),
        ({"family": "unet", "global_blocks": 3}, "global_blocks needs family = 'dual_unet'"),
    ],
)
def test_options_of_the_other_family_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig.model_validate(values)
