"""The value that the modules of the data package pass on: checked images with their masks.

Reading files lives in `sources.py`; nothing here touches disk.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("background", "soil", "bedrock", "sand", "big_rock")
# Background, soil, bedrock, sand, big rock; further classes take the colours that follow.
_COLORS = ("1f1f1f", "c98d4f", "6f79a8", "e8d27a", "d62f2f", "4fa36b", "9a5fb0", "5cc3d6")
# The shallowest network has two pooling steps, which leave 4 by 4 pixels of it.
MIN_SIDE = 16


@dataclass(frozen=True)
class Tiles:
    """Images and masks that passed every check.

    Args:
        images: `(n, height, width)`, pixels in [0, 1].
        masks: `(n, height, width)`, labels 0 to `num_classes` - 1; 0 is background.
        num_classes: how many classes there are, background included.
        source: where they come from, as the user named it.
        frames: which frame each tile was cut from, `(n,)`: equal numbers mean the same frame; None if not known.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    num_classes: int
    source: str
    frames: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


def class_palette(num_classes: int) -> NDArray[np.uint8]:
    """One colour per class, the same in every figure: red, green and blue, `(num_classes, 3)`."""
    return np.array([list(bytes.fromhex(_COLORS[index % len(_COLORS)])) for index in range(num_classes)], np.uint8)


def class_names(num_classes: int) -> tuple[str, ...]:
    """Names of the classes by label: those of Mars terrain if there are five, otherwise `class_0` and so on.

    Args:
        num_classes: how many classes there are, background included.

    Returns:
        `num_classes` names.
    """
    if num_classes == len(CLASS_NAMES):
        return CLASS_NAMES
    return tuple(f"class_{label}" for label in range(num_classes))


def pixels_per_class(masks: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Counts pixels by label.

    Args:
        masks: labels, any shape.
        num_classes: how many classes there are.

    Returns:
        `(num_classes,)` counts.
    """
    return np.bincount(masks.ravel(), minlength=num_classes).astype(np.int64)


def classes_present(masks: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
    """Which classes have at least one pixel in each image.

    Args:
        masks: labels, `(n, height, width)`.
        num_classes: how many classes there are.

    Returns:
        `(n, num_classes)`.
    """
    flat = masks.reshape(len(masks), -1)
    return np.stack([(flat == label).any(axis=1) for label in range(num_classes)], axis=1)
