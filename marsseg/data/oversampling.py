"""More of the rarest class: images that show it again, and its objects pasted into other images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import ndimage

from marsseg.data.augment import Batch, rectangles, scaled_about, warp

# Smaller ones are specks, of which bilinear interpolation leaves little.
_SMALLEST_PIXELS = 9
# Pixels around an object that go with it.
_MARGIN = 2
_SCALES = (0.75, 1.5)


class Objects(NamedTuple):
    """Connected regions of one class, each in a box, one row an object; all shapes (n,).

    Args:
        image: Index of the image.
        row: The box's centre, from the upper border in pixels.
        column: The box's centre, from the left border in pixels.
        height: The box's, in pixels.
        width: The box's, in pixels.
    """

    image: NDArray[np.int32]
    row: NDArray[np.float32]
    column: NDArray[np.float32]
    height: NDArray[np.float32]
    width: NDArray[np.float32]


def rarest_class(masks: NDArray[np.uint8]) -> int:
    """The class with the fewest pixels of those that have any, background apart; 0 where there is none.

    Args:
        masks: Labels, shape (n, height, width).
    """
    pixels = np.bincount(masks.ravel())[1:]
    return 1 + int(np.where(pixels > 0, pixels, masks.size + 1).argmin()) if pixels.any() else 0


def repeat_rare(masks: NDArray[np.uint8], copies: int) -> NDArray[np.int64]:
    """Indices of all images, and of those that show the rarest class so many times more.

    Args:
        masks: Labels, shape (n, height, width).
        copies: How many times more.
    """
    rarest = rarest_class(masks)
    shows_it = np.flatnonzero((masks == rarest).any(axis=(1, 2))) if rarest else np.array([], np.int64)
    return np.concatenate([np.arange(len(masks)), *[shows_it] * copies])


def find_rare_objects(masks: NDArray[np.uint8]) -> Objects:
    """The objects of the rarest class that are large enough to be pasted elsewhere.

    Args:
        masks: Labels, shape (n, height, width).
    """
    rarest = rarest_class(masks)
    rows = []
    for index in np.flatnonzero((masks == rarest).any(axis=(1, 2))) if rarest else []:
        labelled, _ = ndimage.label(masks[index] == rarest)
        for number, (down, along) in enumerate(ndimage.find_objects(labelled), start=1):
            if (labelled[down, along] == number).sum() >= _SMALLEST_PIXELS:
                rows.append((index, *_box(down), *_box(along)))
    columns = np.array(rows, np.float32).reshape(-1, 5).T
    image, row, height, column, width = columns
    return Objects(image.astype(np.int32), row, column, height, width)


def paste_objects(
    images: tf.Tensor,
    masks: tf.Tensor,
    load: Callable[[tf.Tensor], Batch],
    objects: Objects,
    probability: float,
    seed: tf.Tensor,
) -> Batch:
    """Pastes a crop around an object into images, with its part of the mask.

    The crop keeps its aspect ratio; its scale is uniform from 0.75 to 1.5, its place uniform, and what would stand out
    over the border is cut off.

    Args:
        images: Values in [0, 1], shape (batch, height, width, channels).
        masks: Labels, shape (batch, height, width).
        load: Gives the images and masks of indices, types as those above.
        objects: What may be pasted; at least one.
        probability: That an image gets one.
        seed: Two integers that decide which, from where and to where.

    Returns:
        Images and masks of the same shapes; pixels interpolated bilinearly, labels taken from the nearest pixel.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    luck = tf.random.stateless_uniform([5, count], seed)
    chosen = tf.cast(luck[0] * len(objects.image), tf.int32)
    index, from_row, from_column, box_height, box_width = (tf.gather(column, chosen) for column in objects)
    scale = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * luck[1]
    row, column = luck[2] * height, luck[3] * width
    # Pixels are numbered by their centres.
    matrices = scaled_about(scale, tf.stack([from_row, from_column], -1) - 0.5, tf.stack([row, column], -1) - 0.5)
    donors, donor_masks = load(index)
    crops = warp(donors, matrices, "BILINEAR")
    crop_masks = warp(donor_masks[..., None], matrices, "NEAREST")[..., 0]
    inside = rectangles((height, width), row, column, scale * box_height, scale * box_width)
    inside &= (luck[4] < probability)[:, None, None]
    return tf.where(inside[..., None], crops, images), tf.where(inside, crop_masks, masks)


def _box(extent: slice) -> tuple[float, float]:
    """Centre and length of an object's extent with the margin around it."""
    return (extent.start + extent.stop) / 2, extent.stop - extent.start + 2 * _MARGIN
