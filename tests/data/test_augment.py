"""Random changes of a batch: image and mask stay aligned, no label is invented, and only the seed decides."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.config import AugmentationConfig
from marsseg.data.augment import (
    augment,
    cutmix,
    cutout,
    random_contrast_and_brightness,
    random_flips,
    random_shift_and_rotation,
    scaled_about,
    warp,
)

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")

SHAPE = (16, 24)
EVERY_MOVE = AugmentationConfig(flips=True, translation=0.3, rotation=40.0, cutmix=0.7)
EVERYTHING = EVERY_MOVE.model_copy(update={"contrast": 0.4, "brightness": 0.3, "cutout": 0.6})


def terrain(count: int, labels: tuple[int, ...] = (0, 1, 2, 3, 4)) -> np.ndarray:
    """Masks of patches, large enough that most pixels have neighbours of their own class."""
    coarse = np.random.default_rng(0).choice(labels, (count, SHAPE[0] // 4, SHAPE[1] // 4))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.int32)


def one_hot(masks: np.ndarray) -> np.ndarray:
    """Images of five channels that one-hot encode each pixel's class."""
    return np.eye(5, dtype=np.float32)[masks]


def seeds(first: int, second: int) -> tf.Tensor:
    return tf.constant((first, second), tf.int64)


def changed(masks: np.ndarray, config: AugmentationConfig, seed: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    images, labels = augment(tf.constant(one_hot(masks)), tf.constant(masks), config, seed)
    return images.numpy(), labels.numpy()


@given(
    st.builds(
        AugmentationConfig,
        flips=st.booleans(),
        translation=st.floats(0, 0.5),
        rotation=st.floats(0, 180),
        cutmix=st.floats(0, 1),
    ),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=40, deadline=None)
def test_image_and_mask_stay_aligned_and_no_label_is_made_up(config: AugmentationConfig, seed: int) -> None:
    masks = terrain(6, labels=(0, 2, 4))
    images, labels = changed(masks, config, seeds(seed, 3))
    assert images.shape == (*masks.shape, 5)
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) <= {0, 2, 4}
    # Where interpolation saw a single class, the mask has that class.
    sure = images.max(axis=-1) > 0.999
    assert sure.mean() > 0.3
    np.testing.assert_array_equal(images.argmax(axis=-1)[sure], labels[sure])


@pytest.mark.parametrize("config", [EVERY_MOVE, EVERYTHING], ids=["moves", "everything"])
def test_seed_alone_decides(config: AugmentationConfig) -> None:
    tf.random.set_seed(1)
    first = changed(terrain(12), config, seeds(1, 2))
    tf.random.set_seed(2)
    tf.random.uniform([3])
    again = changed(terrain(12), config, seeds(1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for other in (seeds(1, 3), seeds(2, 2)):
        assert (changed(terrain(12), config, other)[0] != first[0]).any()


def test_one_change_leaves_what_the_others_do_as_it_was() -> None:
    masks = terrain(12)
    _, moved = changed(masks, EVERY_MOVE, seeds(1, 2))
    _, everything = changed(masks, EVERYTHING, seeds(1, 2))
    np.testing.assert_array_equal(moved, everything)
    assert (moved != masks).any()


def test_nothing_is_changed_where_nothing_is_wanted() -> None:
    images, labels = changed(terrain(4), AugmentationConfig(), seeds(1, 2))
    np.testing.assert_array_equal(images, one_hot(terrain(4)))
    np.testing.assert_array_equal(labels, terrain(4))


def test_each_tile_is_one_of_its_four_flips_each_as_often() -> None:
    originals = np.random.default_rng(0).random((800, 4, 6, 1)).astype(np.float32)
    images, _ = random_flips(tf.constant(originals), tf.zeros((800, 4, 6), tf.int32), seeds(1, 2))
    variants = [originals, originals[:, :, ::-1], originals[:, ::-1], originals[:, ::-1, ::-1]]
    chosen = np.array([(images.numpy() == variant).all((1, 2, 3)) for variant in variants])
    assert (chosen.sum(axis=0) == 1).all()
    # 200 ± 5 standard deviations of a binomial.
    assert (np.abs(chosen.sum(axis=1) - 200) < 62).all()


def dot(row: int, column: int, sides: tuple[int, int] = (33, 65)) -> tf.Tensor:
    image = np.zeros((1, *sides, 1), np.float32)
    image[0, row, column, 0] = 1
    return tf.constant(image)


def centre_of_mass(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def test_shifts_fill_the_range_that_is_allowed_and_no_more() -> None:
    count = 400
    images, _ = random_shift_and_rotation(
        tf.repeat(dot(16, 32), count, 0), tf.zeros((count, 33, 65), tf.int32), 0.25, 0.0, seeds(0, 0)
    )
    shifts = np.array([centre_of_mass(image[..., 0]) for image in images.numpy()]) - [16, 32]
    limits = np.array([0.25 * 33, 0.25 * 65])
    assert (np.abs(shifts) <= limits + 1e-3).all()
    assert (np.abs(shifts).max(axis=0) > 0.95 * limits).all()
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=1.5)


def test_turns_keep_the_distance_from_the_centre_and_fill_the_range_that_is_allowed() -> None:
    count = 400
    images, _ = random_shift_and_rotation(
        tf.repeat(dot(16, 44), count, 0), tf.zeros((count, 33, 65), tf.int32), 0.0, 30.0, seeds(0, 0)
    )
    offsets = np.array([centre_of_mass(image[..., 0]) for image in images.numpy()]) - [16, 32]
    np.testing.assert_allclose(np.hypot(*offsets.T), 12, atol=0.1)
    angles = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 1]))
    assert np.abs(angles).max() < 31
    assert angles.min() < -28 < 28 < angles.max()


def test_what_a_shift_leaves_empty_is_the_mirrored_border() -> None:
    image = tf.reshape(tf.range(5.0), (1, 1, 5, 1))
    matrices = scaled_about(tf.constant([1.0]), tf.constant([[0.0, 0.0]]), tf.constant([[0.0, 2.0]]))
    np.testing.assert_array_equal(warp(image, matrices, "NEAREST").numpy().ravel(), [1, 0, 0, 1, 2])


def test_twice_as_large_about_a_pixel() -> None:
    image = tf.reshape(tf.range(8.0), (1, 1, 8, 1))
    matrices = scaled_about(tf.constant([2.0]), tf.constant([[0.0, 3.0]]), tf.constant([[0.0, 4.0]]))
    found = warp(image, matrices, "BILINEAR").numpy().ravel()
    np.testing.assert_allclose(found, [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5])


def test_cutmix_takes_a_rectangle_of_one_other_image_with_its_mask() -> None:
    count, (height, width) = 200, SHAPE
    numbers = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None, None], (count, height, width))
    images, masks = cutmix(tf.constant(numbers[..., None].astype(np.float32)), tf.constant(numbers), 0.5, seeds(4, 4))
    np.testing.assert_array_equal(images.numpy()[..., 0], masks.numpy())
    shares, partners = [], []
    for own, mask in enumerate(masks.numpy()):
        foreign = mask != own
        if not foreign.any():
            continue
        rows, columns = np.flatnonzero(foreign.any(axis=1)), np.flatnonzero(foreign.any(axis=0))
        assert foreign.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a full rectangle"
        partners.append(np.unique(mask[foreign]))
        shares.append(foreign.mean())
    assert all(len(partner) == 1 for partner in partners)
    assert len({int(partner[0]) for partner in partners}) == len(partners), "each image gives to one"
    # About half of the images, less those whose patch is empty.
    assert 70 < len(shares) < 125
    assert max(shares) > 0.6


@pytest.mark.parametrize("count", [2, 3, 16])
def test_no_image_gives_a_patch_to_itself(count: int) -> None:
    numbers = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None, None], (count, *SHAPE))
    has_patch = []
    for seed in range(20):
        _, masks = cutmix(tf.constant(numbers[..., None].astype(np.float32)), tf.constant(numbers), 1.0, seeds(seed, 4))
        has_patch.append((masks.numpy() != numbers).any(axis=(1, 2)))
    # Very small patches are empty.
    assert np.mean(has_patch) > 0.95


def test_light_changes_contrast_about_the_mean_then_brightness_within_bounds() -> None:
    images = np.random.default_rng(0).uniform(0.4, 0.6, (300, 4, 6, 1)).astype(np.float32)
    found = random_contrast_and_brightness(tf.constant(images), 0.5, 0.2, seeds(0, 1)).numpy()
    shifts = found.mean((1, 2, 3)) - images.mean((1, 2, 3))
    factors = found.std((1, 2, 3)) / images.std((1, 2, 3))
    for values, middle, reach in ((shifts, 0.0, 0.2), (factors, 1.0, 0.5)):
        assert np.abs(values - middle).max() <= reach + 1e-4
        assert values.min() < middle - 0.9 * reach
        assert values.max() > middle + 0.9 * reach
    assert abs(np.corrcoef(shifts, factors)[0, 1]) < 0.2, "each has luck of its own"


def test_light_stays_between_black_and_white() -> None:
    images = np.random.default_rng(0).random((50, 4, 6, 1)).astype(np.float32)
    found = random_contrast_and_brightness(tf.constant(images), 1.0, 1.0, seeds(0, 1)).numpy()
    assert found.min() >= 0
    assert found.max() <= 1


def test_cutout_fills_a_square_with_the_mean() -> None:
    images = np.random.default_rng(0).random((200, *SHAPE, 1)).astype(np.float32)
    found = cutout(tf.constant(images), 0.5, seeds(0, 1)).numpy()
    cut = [
        (before, after, before != after) for before, after in zip(images, found, strict=True) if (before != after).any()
    ]
    assert 70 < len(cut) < 130
    sides = []
    for before, after, lost in cut:
        np.testing.assert_allclose(after[lost], before.mean(), rtol=1e-5)
        rows, columns = np.flatnonzero(lost.any(axis=(1, 2))), np.flatnonzero(lost.any(axis=(0, 2)))
        assert lost.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        sides.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    assert max(sides) == (8, 8), "half of the shorter side, whole where it does not reach over the border"
