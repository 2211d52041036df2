"""Inspects images and masks without changing them: counts, ranges, duplicates, and masks that cannot be right.

`clean.py` writes a file without the outliers.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marsseg.data.duplicates import near_duplicate_groups
from marsseg.data.tiles import Tiles, class_palette, classes_present, pixels_per_class

# At least this many different images must share one mask before it is suspected. On real terrain the only masks that
# naturally recur are straight bands, such as sky over soil (five tiles of 2,505 share the most common one).
MIN_GROUP, MIN_GROUP_SHARE = 4, 0.002
MIN_BAND_GROUP, MIN_BAND_GROUP_SHARE = 6, 0.005
# A layout that most images share is a property of the data set, not a labelling error.
MAX_OUTLIER_SHARE = 0.5

_GAP = 4
_MAX_TILES = 24


@dataclass(frozen=True)
class OutlierGroup:
    """Images whose masks are wrong for one common reason.

    Args:
        indices: positions in the tiles, ascending.
        reason: one line to show to the user.
    """

    indices: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What `marsexp data inspect` reports.

    Args:
        images: how many images there are.
        shape: height and width of an image.
        num_classes: how many classes there are, background included.
        pixels_per_class: pixel counts by label.
        images_per_class: by label, how many images contain the class.
        uniform_masks: how many masks are all one class; these are not outliers.
        image_range: smallest, largest and mean pixel, in [0, 1].
        outlier_groups: images whose masks cannot be right.
        duplicate_groups: images that show the same scene.
        duplicate_kinds: for each of these groups, `exact` if its images are identical in every pixel, otherwise
            `near`.
        frames: how many frames the images were cut from, or None if that is not known.
        clean_images: how many images remain without the outliers.
        clean_pixels_per_class: pixel counts by label of the remaining images.
    """

    images: int
    shape: tuple[int, int]
    num_classes: int
    pixels_per_class: tuple[int, ...]
    images_per_class: tuple[int, ...]
    uniform_masks: int
    image_range: tuple[float, float, float]
    outlier_groups: tuple[OutlierGroup, ...]
    duplicate_groups: tuple[tuple[int, ...], ...]
    duplicate_kinds: tuple[str, ...]
    frames: int | None
    clean_images: int
    clean_pixels_per_class: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `marsexp data inspect --json`."""
        return {
            "images": self.images,
            "shape": list(self.shape),
            "num_classes": self.num_classes,
            "pixels_per_class": list(self.pixels_per_class),
            "images_per_class": list(self.images_per_class),
            "uniform_masks": self.uniform_masks,
            "image_range": dict(zip(("min", "max", "mean"), self.image_range, strict=True)),
            "outlier_groups": [
                {"indices": list(group.indices), "reason": group.reason} for group in self.outlier_groups
            ],
            "duplicate_groups": [list(group) for group in self.duplicate_groups],
            "duplicate_kinds": list(self.duplicate_kinds),
            "frames": self.frames,
            "clean": {"images": self.clean_images, "pixels_per_class": list(self.clean_pixels_per_class)},
        }


def find_outlier_groups(tiles: Tiles) -> list[OutlierGroup]:
    """Finds groups of different images that share one identical mask, which then cannot be right for all of them.

    Masks of a single class are never suspected, nor are copies of one image together with its mask.

    Args:
        tiles: images and masks.

    Returns:
        The groups, ordered by their first index; none if more than half of the images would be in a group.
    """
    suspects = [group for group in _equal_mask_groups(tiles.masks) if _is_suspect(tiles, group)]
    if sum(len(group) for group in suspects) > MAX_OUTLIER_SHARE * len(tiles):
        return []
    return [OutlierGroup(tuple(group), f"{len(group)} images share one identical mask") for group in suspects]


def inspect_tiles(tiles: Tiles) -> Inspection:
    """Counts, ranges, outliers and duplicates of images and masks.

    Args:
        tiles: images and masks.

    Returns:
        The inspection; duplicates are searched among all images, outliers included.
    """
    present = classes_present(tiles.masks, tiles.num_classes)
    groups = find_outlier_groups(tiles)
    kept = np.ones(len(tiles), np.bool_)
    for group in groups:
        kept[list(group.indices)] = False
    height, width = tiles.images.shape[1:]
    duplicates = near_duplicate_groups(tiles.images)
    return Inspection(
        images=len(tiles),
        shape=(height, width),
        num_classes=tiles.num_classes,
        pixels_per_class=tuple(pixels_per_class(tiles.masks, tiles.num_classes).tolist()),
        images_per_class=tuple(present.sum(axis=0).tolist()),
        uniform_masks=int((present.sum(axis=1) == 1).sum()),
        image_range=(
            float(tiles.images.min()),
            float(tiles.images.max()),
            float(tiles.images.mean(dtype=np.float64)),
        ),
        outlier_groups=tuple(groups),
        duplicate_groups=tuple(tuple(group) for group in duplicates),
        duplicate_kinds=tuple(_duplicate_kind(tiles.images[group]) for group in duplicates),
        frames=None if tiles.frames is None else len(np.unique(tiles.frames)),
        clean_images=int(kept.sum()),
        clean_pixels_per_class=tuple(pixels_per_class(tiles.masks[kept], tiles.num_classes).tolist()),
    )


def render_group(tiles: Tiles, indices: tuple[int, ...]) -> Image.Image:
    """Draws a contact sheet of some tiles: each image above its mask in colours.

    Args:
        tiles: images and masks.
        indices: which tiles to draw; only the first 24.

    Returns:
        An RGB image, up to six tiles per row.
    """
    chosen, palette = indices[:_MAX_TILES], class_palette(tiles.num_classes)
    height, width = tiles.images.shape[1:]
    columns = max(1, min(6, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    row_height, column_width = 2 * height + 2 * _GAP, width + _GAP
    sheet = np.full((rows * row_height, columns * column_width, 3), 255, np.uint8)
    for position, index in enumerate(chosen):
        top, left = position // columns * row_height, position % columns * column_width
        grey = np.rint(tiles.images[index] * 255).astype(np.uint8)
        sheet[top : top + height, left : left + width] = grey[..., None]
        sheet[top + height + 1 : top + 2 * height + 1, left : left + width] = palette[tiles.masks[index]]
    return Image.fromarray(sheet)


def _duplicate_kind(images: NDArray[np.float32]) -> str:
    return "exact" if (images == images[0]).all() else "near"


def _equal_mask_groups(masks: NDArray[np.uint8]) -> list[list[int]]:
    members: dict[bytes, list[int]] = {}
    for index, mask in enumerate(np.ascontiguousarray(masks)):
        members.setdefault(hashlib.sha256(mask.data).digest(), []).append(index)
    return [group for group in members.values() if len(group) > 1]


def _is_suspect(tiles: Tiles, group: list[int]) -> bool:
    """Whether more different images share this mask than would occur naturally."""
    mask = tiles.masks[group[0]]
    if (mask == mask[0, 0]).all():
        return False
    smallest, share = (MIN_BAND_GROUP, MIN_BAND_GROUP_SHARE) if _is_banded(mask) else (MIN_GROUP, MIN_GROUP_SHARE)
    needed = max(smallest, math.ceil(share * len(tiles)))
    if len(group) < needed:
        return False
    copies = near_duplicate_groups(tiles.images[group])
    distinct = len(group) - sum(len(group_of_copies) - 1 for group_of_copies in copies)
    return distinct >= needed


def _is_banded(mask: NDArray[np.uint8]) -> bool:
    """Whether all columns or all rows are alike: straight bands over the full width or height."""
    return bool((mask == mask[:, :1]).all() or (mask == mask[:1]).all())
