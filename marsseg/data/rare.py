"""The rarest class: which one it is, which images contain it, and its objects, which can be pasted into others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Smaller objects are specks, which bilinear interpolation nearly erases.
_SMALLEST_PIXELS = 9
# Width of the margin around an object that is pasted with it, in pixels.
_MARGIN = 2


class Objects(NamedTuple):
    """Connected regions of one class, each with its bounding box, one entry per object; all shapes (n,).

    Args:
        image: Index of the image.
        row: The box's centre, from the upper border in pixels.
        column: The box's centre, from the left border in pixels.
        height: The box's height, in pixels.
        width: The box's width, in pixels.
    """

    image: NDArray[np.int32]
    row: NDArray[np.float32]
    column: NDArray[np.float32]
    height: NDArray[np.float32]
    width: NDArray[np.float32]


def rarest_class(masks: NDArray[np.uint8]) -> int:
    """The class with the fewest pixels among the foreground classes that have any; 0 if none has.

    Args:
        masks: Labels, shape (n, height, width).
    """
    pixels = np.bincount(masks.ravel())[1:]
    return 1 + int(np.where(pixels > 0, pixels, masks.size + 1).argmin()) if pixels.any() else 0


def images_with(label: int, masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Indices of the images that contain a class; none for background.

    Args:
        label: The class.
        masks: Labels, shape (n, height, width).
    """
    return np.flatnonzero((masks == label).any(axis=(1, 2))) if label else np.array([], np.int64)


def repeat_rare(masks: NDArray[np.uint8], copies: int) -> NDArray[np.int64]:
    """Indices of all images, followed by `copies` repetitions of those that contain the rarest class.

    Args:
        masks: Labels, shape (n, height, width).
        copies: Number of additional repetitions.
    """
    every = np.arange(len(masks))
    return np.concatenate([every, *[images_with(rarest_class(masks), masks)] * copies]) if copies else every


def find_rare_objects(masks: NDArray[np.uint8]) -> Objects:
    """The objects of the rarest class that are large enough to be pasted elsewhere.

    Args:
        masks: Labels, shape (n, height, width).
    """
    rarest = rarest_class(masks)
    rows = []
    for index in images_with(rarest, masks):
        labelled, _ = ndimage.label(masks[index] == rarest)
        for number, (down, along) in enumerate(ndimage.find_objects(labelled), start=1):
            if (labelled[down, along] == number).sum() >= _SMALLEST_PIXELS:
                rows.append((index, *_box(down), *_box(along)))
    columns = np.array(rows, np.float32).reshape(-1, 5).T
    image, row, height, column, width = columns
    return Objects(image.astype(np.int32), row, column, height, width)


def _box(extent: slice) -> tuple[float, float]:
    """Centre and length of an object's extent with the margin around it."""
    return (extent.start + extent.stop) / 2, extent.stop - extent.start + 2 * _MARGIN
