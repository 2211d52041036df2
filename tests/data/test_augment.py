"""Flips: the same for image and mask, decided by the seed alone."""

import numpy as np
import pytest
import tensorflow as tf

from marsseg.data.augment import random_flips

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")


def tiles(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images without any symmetry, and masks that are their images' labels."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 5, (count, 4, 6)).astype(np.int32)
    return (masks[..., None] / 4).astype(np.float32), masks


def flip(count: int, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    images, masks = random_flips(*map(tf.constant, tiles(count)), tf.constant(seed, tf.int64))
    return images.numpy(), masks.numpy()


def test_each_tile_is_one_of_its_four_flips_each_as_often_and_its_mask_goes_along() -> None:
    originals, _ = tiles(800)
    images, masks = flip(800, (1, 2))
    assert images.dtype == np.float32
    assert masks.dtype == np.int32
    np.testing.assert_array_equal(np.round(images[..., 0] * 4).astype(int), masks)
    variants = [originals, originals[:, :, ::-1], originals[:, ::-1], originals[:, ::-1, ::-1]]
    chosen = np.array([(images == variant).all((1, 2, 3)) for variant in variants])
    assert (chosen.sum(axis=0) == 1).all()
    # 200 ± 5 standard deviations of a binomial.
    assert (np.abs(chosen.sum(axis=1) - 200) < 62).all()


def test_seed_alone_decides() -> None:
    tf.random.set_seed(1)
    first = flip(40, (1, 2))
    tf.random.set_seed(2)
    tf.random.uniform([3])
    again = flip(40, (1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for other in ((1, 3), (2, 2)):
        assert (flip(40, other)[0] != first[0]).any()
