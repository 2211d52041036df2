"""Batches depend on (seed, epoch, step) only, wherever a segment begins."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.config import AugmentationConfig
from marsseg.data.pipeline import TrainingSet, as_levels, steps_per_epoch

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")

NUM_IMAGES = 11
Batches = list[tuple[np.ndarray, np.ndarray]]

PLAIN = AugmentationConfig(flips=False)
FLIPS = AugmentationConfig(flips=True)
EVERYTHING = AugmentationConfig(
    flips=True,
    translation=0.2,
    rotation=20.0,
    contrast=0.3,
    brightness=0.2,
    cutmix=0.5,
    cutout=0.5,
    repeat_rare=2,
    paste_rare=0.5,
)


def tiles() -> tuple[np.ndarray, np.ndarray]:
    """Tiles whose pixels encode the image's number and its mask."""
    masks = np.random.default_rng(0).integers(0, 5, (NUM_IMAGES, 4, 6)).astype(np.uint8)
    images = (np.arange(NUM_IMAGES)[:, None, None] + masks / 10).astype(np.float32)
    return images[..., None], masks


def batches(
    first: int, last: int, augmentation: AugmentationConfig = FLIPS, seed: int = 0, batch_size: int = 4
) -> Batches:
    dataset = TrainingSet.of(*tiles(), augmentation).batches(batch_size, seed, first, last)
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def tiles_with_a_rock() -> tuple[np.ndarray, np.ndarray]:
    """Eight tiles of soil, one of which has a rock."""
    masks = np.ones((8, 16, 24), np.uint8)
    masks[5, 4:8, 6:12] = 4
    return np.random.default_rng(0).random((8, 16, 24, 1)).astype(np.float32), masks


def numbers(of: Batches) -> list[int]:
    return [int(number) for images, _ in of for number in images[:, 0, 0, 0]]


def assert_equal(found: Batches, expected: Batches) -> None:
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


@given(st.integers(1, 500), st.integers(1, 70))
def test_steps_of_an_epoch_are_as_few_as_hold_every_image(num_images: int, batch_size: int) -> None:
    steps = steps_per_epoch(num_images, batch_size)
    assert (steps - 1) * batch_size < num_images <= steps * batch_size


@given(batch_size=st.integers(1, 13), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=8, deadline=None)
def test_every_epoch_has_every_image_with_its_own_mask_and_fills_its_last_batch_with_its_first(
    batch_size: int, seed: int
) -> None:
    found = batches(1, 2, FLIPS, seed, batch_size)
    size, steps = min(batch_size, NUM_IMAGES), steps_per_epoch(NUM_IMAGES, batch_size)
    assert [len(images) for images, _ in found] == 2 * steps * [size]
    for epoch in (found[:steps], found[steps:]):
        order = numbers(epoch)
        assert sorted(order[:NUM_IMAGES]) == list(range(NUM_IMAGES))
        assert order[NUM_IMAGES:] == order[: steps * size - NUM_IMAGES]
    for images, labels in found:
        np.testing.assert_array_equal(np.round((images[..., 0] % 1) * 10), labels)


def test_types_and_untouched_tiles_without_augmentation() -> None:
    images, masks = tiles()
    found = batches(1, 1, PLAIN)
    assert {(one.dtype, two.dtype) for one, two in found} == {(np.dtype("f4"), np.dtype("i4"))}
    order = numbers(found)
    assert order != sorted(order)
    np.testing.assert_array_equal(np.concatenate([one for one, _ in found]), images[order])
    np.testing.assert_array_equal(np.concatenate([two for _, two in found]), masks[order])


@pytest.mark.parametrize("augmentation", [PLAIN, FLIPS])
def test_a_segment_sees_what_an_uninterrupted_training_sees(augmentation: AugmentationConfig) -> None:
    whole = batches(1, 5, augmentation)
    tf.random.set_seed(99)
    assert_equal([*batches(1, 1, augmentation), *batches(2, 4, augmentation), *batches(5, 5, augmentation)], whole)


def test_with_every_change_a_segment_sees_what_an_uninterrupted_training_sees() -> None:
    training_set = TrainingSet.of(*tiles_with_a_rock(), EVERYTHING)

    def batches_of(first: int, last: int) -> Batches:
        return [(images.numpy(), labels.numpy()) for images, labels in training_set.batches(4, 7, first, last)]

    whole = batches_of(1, 4)
    tf.random.set_seed(99)
    assert_equal([*batches_of(1, 1), *batches_of(2, 4)], whole)
    assert sum((labels == 4).any() for _, masks in whole for labels in masks) > 4 * 3, "pasted into others, too"
    assert {int(label) for _, masks in whole for label in np.unique(masks)} == {1, 4}


def test_rare_images_come_again_in_every_epoch_and_nothing_given_is_touched() -> None:
    images, masks = tiles_with_a_rock()
    before = images.copy(), masks.copy()
    training_set = TrainingSet.of(images, masks, EVERYTHING.model_copy(update={"paste_rare": 0.0}))
    assert len(training_set) == 10
    plain = TrainingSet.of(images, masks, AugmentationConfig(repeat_rare=2))
    for epoch in (1, 2):
        found = np.concatenate([batch for batch, _ in plain.batches(4, 0, epoch, epoch)])
        np.testing.assert_array_equal(found[10:], found[:2], "what fills the last batch up")
        found = found[:10]
        shown = [int((found == image).all(axis=(1, 2, 3)).sum()) for image in images]
        assert shown == [1, 1, 1, 1, 1, 3, 1, 1]
    list(training_set.batches(4, 0, 1, 2))
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])


def test_order_differs_by_epoch_and_by_seed_and_ignores_augmentation() -> None:
    epochs = [numbers(batches(epoch, epoch, PLAIN)) for epoch in range(1, 6)]
    assert len({tuple(order) for order in epochs}) == 5
    assert numbers(batches(1, 1, PLAIN, seed=1)) != epochs[0]
    assert sorted(numbers(batches(3, 3, FLIPS))) == sorted(epochs[2])
    assert [int(images[0].max()) for images, _ in batches(3, 3, FLIPS)] == [
        int(images[0].max()) for images, _ in batches(3, 3, PLAIN)
    ]


def test_changes_differ_by_step_and_by_epoch() -> None:
    grey = np.full((8, 4, 6, 1), 0.5, np.float32), np.zeros((8, 4, 6), np.uint8)
    training_set = TrainingSet.of(*grey, AugmentationConfig(brightness=0.2))
    shifts = [
        tuple(batch.numpy()[:, 0, 0, 0]) for epoch in (1, 2) for batch, _ in training_set.batches(4, 0, epoch, epoch)
    ]
    assert len(shifts) == len(set(shifts)) == 4


def test_grey_levels_give_the_batches_that_their_shares_of_white_give() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 4, 6, 1)).astype(np.uint8)
    images, masks = levels.astype(np.float32) / np.float32(255), tiles()[1]
    np.testing.assert_array_equal(as_levels(images), levels)
    order = tf.random.experimental.stateless_shuffle(tf.range(NUM_IMAGES), seed=tf.constant([0, 1], tf.int64)).numpy()
    found = [batch for batch, _ in TrainingSet.of(images, masks, PLAIN).batches(4, 0, 1, 1)]
    np.testing.assert_array_equal(np.concatenate(found)[:NUM_IMAGES], images[order])


def test_images_between_grey_levels_stay_as_they_are() -> None:
    images = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6, 1)
    assert as_levels(images) is images
    ((batch, _),) = TrainingSet.of(images, np.zeros((1, 4, 6), np.uint8), PLAIN).batches(4, 0, 1, 1)
    np.testing.assert_array_equal(batch, images)


def test_no_tuner_runs_that_would_hold_up_who_gives_an_iterator_up() -> None:
    dataset = TrainingSet.of(*tiles(), PLAIN).batches(4, 0, 1, 1)
    assert not dataset.options().autotune.enabled
