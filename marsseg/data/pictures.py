"""Reads one image or one mask from disk; any problem with it is an error that names the file."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marsseg.errors import DataError

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def read_image(path: Path, to_grey: bool = False) -> NDArray[np.uint8]:
    """Reads a greyscale image.

    Args:
        path: An image of 8 bits per channel; one with colour channels counts as greyscale if these are equal.
        to_grey: Whether to convert colours to their brightness (ITU-R 601) instead of raising an error.

    Returns:
        `(height, width)` grey levels.

    Raises:
        DataError: If it cannot be read, is in colour, or has more than 8 bits per channel.
    """
    picture = _load(path)
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{path}: expected 8 bits per pixel, found mode {picture.mode}; save it as 8-bit greyscale")
    colours = picture.convert("RGB")
    grey = _equal_channel(np.asarray(colours))
    if grey is not None:
        return grey
    if to_grey:
        return np.asarray(colours.convert("L"))
    raise DataError(f"{path}: expected a greyscale image, found a colour one; --grey converts it")


def read_mask(path: Path, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Reads a mask.

    Args:
        path: An image with one integer per pixel; if it has a palette, the indices are read, not the colours.
        labels: The label that each allowed value becomes.

    Returns:
        `(height, width)` labels.

    Raises:
        DataError: If it cannot be read, is in colour, or holds another value.
    """
    picture = _load(path)
    values: NDArray[np.integer[Any]] | None
    if picture.mode in ("1", "L", "P") or picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
    else:
        values = _equal_channel(np.asarray(picture.convert("RGB")))
    if values is None or picture.mode == "F":
        raise DataError(f"{path}: expected one label per pixel, found colours or fractions; save it as 8-bit greyscale")
    unknown = ~np.isin(values, list(labels))
    if unknown.any():
        row, column = (int(part) for part in np.unravel_index(int(unknown.argmax()), unknown.shape))
        raise DataError(
            f"{path}: expected labels {_shown(labels)}, found {values[row, column]} at row {row}, column {column}; "
            f"correct that mask"
        )
    table = np.zeros(max(labels) + 1, np.uint8)
    for stored, label in labels.items():
        table[stored] = label
    return table[values]


def _load(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); copy or save it again") from None


def _equal_channel(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The first channel if all three channels are equal, otherwise None."""
    first = colours[..., 0]
    return first.copy() if (colours[..., 1:] == first[..., None]).all() else None


def _shown(labels: Mapping[int, int]) -> str:
    numbers = sorted(labels)
    if numbers == list(range(len(numbers))):
        return f"0 to {numbers[-1]}"
    return f"{', '.join(str(number) for number in numbers[:-1])} or {numbers[-1]}"
