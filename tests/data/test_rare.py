"""Oversampling of the rarest class: images that show it are repeated, its objects are pasted elsewhere, undistorted."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.data.augment import Batch, paste_objects
from marsseg.data.rare import Objects, find_rare_objects, rarest_class, repeat_rare

SHAPE = (32, 48)
ROCK = 4


def masks_with_rocks() -> np.ndarray:
    """Six masks of soil over bedrock; in the second a rock of 6 by 10, in the fifth one of 4 by 4 and a speck."""
    masks = np.full((6, *SHAPE), 1, np.uint8)
    masks[:, 16:] = 2
    masks[1, 8:14, 20:30] = ROCK
    masks[4, 20:24, 40:44] = ROCK
    masks[4, 2:4, 2:4] = ROCK
    return masks


def test_the_rarest_class_has_the_fewest_pixels_of_those_present_and_is_never_background() -> None:
    masks = masks_with_rocks()
    assert rarest_class(masks) == ROCK
    masks[0, 0, 0] = 0
    assert rarest_class(masks) == ROCK
    assert rarest_class(masks[:1]) == 1
    assert rarest_class(np.zeros_like(masks)) == rarest_class(masks[:0]) == 0


def test_images_that_show_it_come_again() -> None:
    masks = masks_with_rocks()
    assert repeat_rare(masks, 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert repeat_rare(masks, 2).tolist() == [0, 1, 2, 3, 4, 5, 1, 4, 1, 4]
    assert repeat_rare(np.zeros_like(masks), 2).tolist() == [0, 1, 2, 3, 4, 5]


def test_objects_are_connected_regions_that_are_no_specks_in_boxes_with_a_margin() -> None:
    objects = find_rare_objects(masks_with_rocks())
    assert objects.image.tolist() == [1, 4]
    assert (objects.row.tolist(), objects.column.tolist()) == ([11, 22], [25, 42])
    assert (objects.height.tolist(), objects.width.tolist()) == ([10, 8], [14, 8])


def test_there_are_none_without_a_class() -> None:
    for masks in (np.zeros((2, *SHAPE), np.uint8), np.zeros((0, *SHAPE), np.uint8)):
        assert len(find_rare_objects(masks).image) == 0


def paste(
    masks: np.ndarray, objects: Objects, probability: float, seed: int, images: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes into images of soil alone; unless given, a donor image is its mask's labels divided by 4."""
    donors = (masks / 4)[..., None].astype(np.float32) if images is None else images

    def load(index: tf.Tensor) -> Batch:
        return tf.gather(tf.constant(donors), index), tf.gather(tf.constant(masks.astype(np.int32)), index)

    soil = tf.ones((100, *SHAPE), tf.int32)
    found = paste_objects(
        tf.cast(soil, tf.float32)[..., None] / 4, soil, load, objects, probability, tf.constant((seed, 7), tf.int64)
    )
    return found[0].numpy(), found[1].numpy()


@given(st.floats(0, 1), st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None)
def test_image_and_mask_stay_aligned_and_no_label_is_made_up(
    tensorflow_runtime: int, probability: float, seed: int
) -> None:
    masks = masks_with_rocks()
    images, labels = paste(masks, find_rare_objects(masks), probability, seed)
    assert set(np.unique(labels)) <= {1, 2, ROCK}
    # Between two classes bilinear pixels may show a third; half a step from a label they show that one.
    sure = np.abs(images[..., 0] * 4 - labels) < 1e-4
    assert sure.mean() > 0.97


def test_as_many_images_get_one_as_the_probability_says(tensorflow_runtime: int) -> None:
    masks = masks_with_rocks()
    _, labels = paste(masks, find_rare_objects(masks), 0.4, 0)
    assert 15 < ((labels == ROCK).any(axis=(1, 2))).sum() <= 55
    assert not (paste(masks, find_rare_objects(masks), 0.0, 0)[1] != 1).any()


def test_crops_keep_their_aspect_ratio_whatever_their_scale(tensorflow_runtime: int) -> None:
    masks = masks_with_rocks()
    objects = Objects(*(column[:1] for column in find_rare_objects(masks)))
    # A white donor shows where the crop lies.
    images, labels = paste(masks, objects, 1.0, 3, images=np.ones((6, *SHAPE, 1), np.float32))
    sizes = []
    for image, label in zip(images[..., 0], labels, strict=True):
        rows, columns = np.flatnonzero((image > 0.9).any(axis=1)), np.flatnonzero((image > 0.9).any(axis=0))
        inside = len(rows) and rows[0] > 0 and rows[-1] < SHAPE[0] - 1 and columns[0] > 0
        if inside and columns[-1] < SHAPE[1] - 1:
            sizes.append((len(rows), len(columns)))
            assert abs((label == ROCK).sum() / (len(rows) * len(columns)) - 6 * 10 / (10 * 14)) < 0.15
    assert len(sizes) > 20
    scales = np.array(sizes) / [10, 14]
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], atol=0.13)
    assert scales.min() < 0.9
    assert 1.3 < scales.max() <= 1.6
