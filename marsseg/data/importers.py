"""Cuts frames into the tiles of a data set file (`.npz`).

Finding the frames lives in `frames.py`, reading them in `pictures.py`; nothing is written here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsseg.data.frames import Frame
from marsseg.data.pictures import read_image, read_mask
from marsseg.errors import DataError

# Soil, bedrock, sand, big rock; unlabelled pixels (255) become background.
AI4MARS_LABELS: Mapping[int, int] = {0: 1, 1: 2, 2: 3, 3: 4, 255: 0}


@dataclass(frozen=True)
class Cutting:
    """How frames become tiles.

    Args:
        height: rows of a tile.
        width: columns of a tile.
        stride: distance between neighbouring tiles, down and across; None puts them side by side.
        reduce: each frame is first downsampled by this factor: images by the mean of each square of pixels, masks by
            the nearest pixel. Pixels left over at the right and at the bottom are ignored.
        keep_unlabelled: whether to keep tiles that are entirely background.
        to_grey: whether to convert colour images to greyscale instead of rejecting them.
    """

    height: int = 64
    width: int = 128
    stride: int | None = None
    reduce: int = 1
    keep_unlabelled: bool = True
    to_grey: bool = False


@dataclass(frozen=True)
class CutTiles:
    """Tiles in the order of their frames, then from top left to bottom right.

    Args:
        pairs: image and mask, `(n, 2, height, width)`.
        frames: the name of each tile's frame, `(n,)` strings.
        unlabelled: how many tiles were left out because they have no labelled pixel.
        uncovered_pixels: how many pixels of the downsampled frames lie in no tile.
        pixels: how many pixels the downsampled frames have in all.
    """

    pairs: NDArray[np.uint8]
    frames: NDArray[np.str_]
    unlabelled: int
    uncovered_pixels: int
    pixels: int


def cut_frames(
    frames: Sequence[Frame],
    labels: Mapping[int, int],
    cutting: Cutting,
    on_frame: Callable[[int], None] = lambda _: None,
) -> CutTiles:
    """Reads frames one by one and cuts them into tiles; windows that extend beyond an edge are left out.

    Args:
        frames: at least one.
        labels: the label that each value in a mask becomes.
        cutting: tile size, stride and conversions.
        on_frame: called after each frame with the number of frames done.

    Returns:
        The tiles.

    Raises:
        DataError: If a file cannot be used, or no tile is left.
    """
    kept: list[NDArray[np.uint8]] = []
    names: list[str] = []
    unlabelled = uncovered = pixels = 0
    for number, frame in enumerate(frames, start=1):
        pair = _read_frame(frame, labels, cutting)
        tiles = _windows(pair, cutting)
        if not cutting.keep_unlabelled:
            is_labelled = tiles[:, 1].any(axis=(1, 2))
            unlabelled += int((~is_labelled).sum())
            tiles = tiles[is_labelled]
        kept.append(tiles)
        names += [frame.name] * len(tiles)
        height, width = pair.shape[1:]
        pixels += height * width
        uncovered += height * width - _covered(height, cutting.height, cutting) * _covered(
            width, cutting.width, cutting
        )
        on_frame(number)
    if not names:
        raise DataError(
            f"expected at least one tile with a label in it, found none in {len(frames)} frames, "
            f"the first {frames[0].image}; --keep-unlabelled keeps tiles without labels"
        )
    return CutTiles(np.concatenate(kept), np.array(names, np.str_), unlabelled, uncovered, pixels)


def _read_frame(frame: Frame, labels: Mapping[int, int], cutting: Cutting) -> NDArray[np.uint8]:
    """Image and mask, downsampled, `(2, height, width)`."""
    image = read_image(frame.image, cutting.to_grey)
    masks = [read_mask(path, labels) for path in frame.masks]
    for path, mask in zip(frame.masks, masks, strict=True):
        if mask.shape != image.shape:
            raise DataError(
                f"{path}: expected {_size(*image.shape)} pixels like its image {frame.image}, found "
                f"{_size(*mask.shape)}; both must show the same frame"
            )
    mask = max(masks, key=lambda mask: int(np.count_nonzero(mask)))
    factor = cutting.reduce
    height, width = (side // factor for side in image.shape)
    if height < cutting.height or width < cutting.width:
        after = f" after downsampling by {factor}" if factor > 1 else ""
        raise DataError(
            f"{frame.image}: expected at least {_size(cutting.height, cutting.width)} pixels{after}, found "
            f"{_size(height, width)}; use smaller tiles{', or a lower --reduce' if factor > 1 else ''}"
        )
    if factor > 1:
        rows, columns = height * factor, width * factor
        image = _means(image[:rows, :columns], factor)
        mask = mask[factor // 2 : rows : factor, factor // 2 : columns : factor]
    return np.stack([image, mask])


def _means(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The mean of each square of pixels, halves rounded up; Pillow's reduction is one level off for some factors."""
    height, width = image.shape
    rows = image.reshape(height // factor, factor, width).sum(axis=1, dtype=np.uint32)
    squares = rows.reshape(height // factor, width // factor, factor).sum(axis=2)
    return np.asarray((squares + factor**2 // 2) // factor**2, np.uint8)


def _windows(pair: NDArray[np.uint8], cutting: Cutting) -> NDArray[np.uint8]:
    """All tiles of a frame, `(n, 2, height, width)`."""
    shape = (cutting.height, cutting.width)
    down, across = cutting.stride or cutting.height, cutting.stride or cutting.width
    views = np.lib.stride_tricks.sliding_window_view(pair, shape, axis=(1, 2))[:, ::down, ::across]
    return views.transpose(1, 2, 0, 3, 4).reshape(-1, 2, *shape)


def _covered(side: int, tile: int, cutting: Cutting) -> int:
    """How many rows or columns of a frame lie in a tile."""
    stride = cutting.stride or tile
    count = (side - tile) // stride + 1
    return (count - 1) * min(stride, tile) + tile


def _size(height: int, width: int) -> str:
    return f"{height}x{width}"
