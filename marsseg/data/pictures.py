"""Reads one picture or one mask from disk; whatever is wrong with it is an error that names the file."""

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
    """Reads a grey picture.

    Args:
        path: A picture of 8 bits a channel; one with colour channels counts as grey where these are equal.
        to_grey: Whether colours become their brightness (ITU-R 601) instead of an error.

    Returns:
        `(height, width)` grey levels.

    Raises:
        DataError: If it is torn, in colour, or of more bits.
    """
    picture = _load(path)
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{path}: expected 8 bits a pixel, found mode {picture.mode}; save it as 8-bit grey")
    colours = picture.convert("RGB")
    grey = _equal_channel(np.asarray(colours))
    if grey is not None:
        return grey
    if to_grey:
        return np.asarray(colours.convert("L"))
    raise DataError(f"{path}: expected a grey picture, found colours; --grey turns them into grey")


def read_mask(path: Path, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Reads a mask.

    Args:
        path: A picture with one whole number a pixel; of one with a palette the numbers, not the colours.
        labels: What each number that may stand there becomes.

    Returns:
        `(height, width)` labels.

    Raises:
        DataError: If it is torn, in colour, or holds another number.
    """
    picture = _load(path)
    values: NDArray[np.integer[Any]] | None
    if picture.mode in ("1", "L", "P") or picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
    else:
        values = _equal_channel(np.asarray(picture.convert("RGB")))
    if values is None or picture.mode == "F":
        raise DataError(f"{path}: expected one label a pixel, found colours or fractions; save it as 8-bit grey")
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
    """The one channel that all three are, or None where they differ."""
    first = colours[..., 0]
    return first.copy() if (colours[..., 1:] == first[..., None]).all() else None


def _shown(labels: Mapping[int, int]) -> str:
    numbers = sorted(labels)
    if numbers == list(range(len(numbers))):
        return f"0 to {numbers[-1]}"
    return f"{', '.join(str(number) for number in numbers[:-1])} or {numbers[-1]}"
