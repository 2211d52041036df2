"""Reads images and masks: data set files (`.npz`) and the built-in synthetic terrain.

All checks of a file's contents live here, so that other modules can rely on them. Nothing is unpickled, cleaned or
split here.
"""

import struct
import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsseg.config import SYNTHETIC
from marsseg.data.tiles import MIN_SIDE, Tiles
from marsseg.errors import DataError, NotFoundError

TRAINING_SET, TEST_SET, FRAMES = "training_set", "test_set", "frames"
# Half-precision rounding is at most 0.06 grey levels; unless all pixels are 8-bit levels, some lie farther off.
_LEVEL_TOLERANCE = 0.1
# Rounding may push white in a float image slightly above 1.
_UNIT_MAX = 1.0 + 1e-6
_UNREADABLE = (
    ValueError,
    TypeError,
    SyntaxError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_tiles(
    source: str | Path, num_classes: int = 5, *, synthetic_images: int = 600, synthetic_seed: int = 0
) -> Tiles:
    """Loads images with their masks.

    Args:
        source: `synthetic`, or a `.npz` file whose `training_set` is `(n, 2, height, width)`: image and mask. If it
            has `frames`, `(n,)` integers or strings, these say which frame each tile was cut from.
        num_classes: how many classes there are, background included.
        synthetic_images: how many tiles of synthetic terrain to generate.
        synthetic_seed: seed of the synthetic terrain.

    Returns:
        Tiles with images `(n, height, width)` in [0, 1] and masks of the same shape. The same content stored in
        another dtype or range gives the same bits.

    Raises:
        DataError: If the content cannot be trained on.
        NotFoundError: If the file does not exist.
    """
    if str(source) == SYNTHETIC:
        from marsseg.data.synthetic import generate_terrain

        terrain = generate_terrain(num_images=synthetic_images, seed=synthetic_seed)
        pairs = np.stack([terrain.images, terrain.masks], axis=1)
        return tiles_from_pairs(pairs, num_classes, SYNTHETIC)
    raw = _read_members(Path(source), [TRAINING_SET, FRAMES])
    tiles = tiles_from_pairs(raw[TRAINING_SET], num_classes, str(source))
    if FRAMES not in raw:
        return tiles
    return replace(tiles, frames=np.unique(raw[FRAMES], return_inverse=True)[1].astype(np.int64))


def load_raw(path: Path) -> dict[str, NDArray[Any]]:
    """Loads the arrays of a data set file (`.npz`) as they are stored, checked for type and shape.

    Args:
        path: a `.npz` file.

    Returns:
        `training_set` `(n, 2, height, width)` and, if the file has them, `test_set` `(m, height, width)` and
        `frames` `(n,)`.

    Raises:
        DataError: If the file is damaged, would need unpickling, or holds arrays of another type or shape.
        NotFoundError: If the file does not exist.
    """
    raw = _read_members(path, [TRAINING_SET, TEST_SET, FRAMES])
    sides = raw[TRAINING_SET].shape[2:]
    if TEST_SET in raw and (raw[TEST_SET].ndim != 3 or raw[TEST_SET].shape[1:] != sides):
        raise DataError(
            f"{path}: expected {TEST_SET} of shape (m, {sides[0]}, {sides[1]}) like the training images, "
            f"found {raw[TEST_SET].shape}"
        )
    return raw


def tiles_from_pairs(pairs: NDArray[Any], num_classes: int, source: str) -> Tiles:
    """Checks and normalises pairs of image and mask.

    Args:
        pairs: `(n, 2, height, width)`, any real numeric dtype: image and mask.
        num_classes: how many classes there are, background included.
        source: where they come from, for error messages.

    Returns:
        Tiles with images in [0, 1].

    Raises:
        DataError: If a pixel or a label is out of range.
    """
    _check_training_set(pairs, source)
    images = normalise_images(pairs[:, 0], source)
    return Tiles(images, _read_labels(pairs[:, 1], num_classes, source), num_classes, source)


def normalise_images(images: NDArray[Any], source: str) -> NDArray[np.float32]:
    """Brings pixels to [0, 1]: integers and floats up to 255 are divided by 255, floats up to 1 are kept as they are.

    The range is determined on the whole array, so a dark image keeps its brightness relative to the others.

    Args:
        images: `(n, height, width)`, any real numeric dtype.
        source: where they come from, for error messages.

    Returns:
        `(n, height, width)`.

    Raises:
        DataError: If a pixel is NaN, infinite, below 0 or above 255, or the range is neither 0-1 nor 0-255.
    """
    _check_finite(images, "image", source)
    outside = (images < 0) | (images > 255)
    if outside.any():
        raise DataError(
            f"{source}: expected pixels from 0 to 255, found {_first(images, outside)}; rescale or drop that image"
        )
    if images.dtype.kind in "iu":
        return _levels_to_unit(images)
    brightest = float(images.max(initial=0))
    if _UNIT_MAX < brightest < 2:
        where = _first(images, images == images.max())
        raise DataError(f"{source}: expected pixels from 0 to 1 or from 0 to 255, found at most {where}; rescale them")
    scale = 255.0 if brightest <= _UNIT_MAX else 1.0
    levels = _nearest_levels(images, scale)
    if levels is not None:
        return _levels_to_unit(levels)
    unit = images.astype(np.float64) * (scale / 255.0)
    return np.minimum(unit, 1.0).astype(np.float32)


def _levels_to_unit(levels: NDArray[Any]) -> NDArray[np.float32]:
    """The only place that divides, so that 8-bit content gives the same bits whatever dtype it was stored in."""
    return levels.astype(np.float32) / np.float32(255)


def _nearest_levels(images: NDArray[Any], scale: float) -> NDArray[np.uint8] | None:
    """The 8-bit levels that float images were made from, or None if they were not made from any."""
    levels = np.empty(images.shape, np.uint8)
    for index, image in enumerate(images):
        scaled = image.astype(np.float64) * scale
        nearest = np.rint(scaled)
        if (np.abs(scaled - nearest) > _LEVEL_TOLERANCE).any():
            return None
        levels[index] = nearest
    return levels


def _read_labels(masks: NDArray[Any], num_classes: int, source: str) -> NDArray[np.uint8]:
    _check_finite(masks, "mask", source)
    labels = _without_scaling(masks, num_classes)
    if labels.dtype.kind == "f":
        fractional = labels != np.rint(labels)
        if fractional.any():
            raise DataError(f"{source}: expected whole labels in masks, found {_first(masks, fractional)}")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise DataError(
            f"{source}: expected labels 0 to {num_classes - 1}, found {_first(masks, outside)}; "
            f"correct that mask, or set the number of classes (--num-classes, in a recipe data.num_classes)"
        )
    return labels.astype(np.uint8)


def _without_scaling(masks: NDArray[Any], num_classes: int) -> NDArray[Any]:
    """Restores labels if the whole file, masks included, was divided by 255; returns others unchanged."""
    if masks.dtype.kind != "f" or float(masks.max()) * 255 > num_classes - 0.5 or not masks.any():
        return masks
    levels = _nearest_levels(masks, 255.0) if (masks >= 0).all() else None
    return masks if levels is None else levels


def _check_finite(values: NDArray[Any], kind: str, source: str) -> None:
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{source}: expected finite numbers, found {_first(values, bad)} of the {kind}; drop that pair")


def _first(values: NDArray[Any], chosen: NDArray[np.bool_]) -> str:
    image, row, column = (int(part) for part in np.unravel_index(int(chosen.argmax()), chosen.shape))
    return f"{values[image, row, column].item()} in image {image} at row {row}, column {column}"


def _check_training_set(pairs: NDArray[Any], source: str) -> None:
    _check_numeric(pairs, TRAINING_SET, source)
    if pairs.ndim != 4 or pairs.shape[1] != 2:
        raise DataError(
            f"{source}: expected {TRAINING_SET} of shape (n, 2, height, width), image and mask, found {pairs.shape}"
        )
    if not len(pairs):
        raise DataError(f"{source}: expected at least one image in {TRAINING_SET}, found none")
    if min(pairs.shape[2:]) < MIN_SIDE:
        raise DataError(f"{source}: expected images of at least {MIN_SIDE} by {MIN_SIDE}, found {pairs.shape[2:]}")


def _check_frames(frames: NDArray[Any], count: int, source: str) -> None:
    if frames.dtype.kind not in "iuUS" or frames.shape != (count,):
        raise DataError(
            f"{source}: expected {FRAMES} to be {count} integers or strings, one for each image, found dtype "
            f"{frames.dtype} of shape {frames.shape}; correct the array or leave it out"
        )


def _check_numeric(array: NDArray[Any], key: str, source: str) -> None:
    if array.dtype.kind not in "iuf":
        raise DataError(f"{source}: expected integers or floats in {key}, found dtype {array.dtype}")


def _read_members(path: Path, keys: list[str]) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a `.npz` file that have one of these names; a training set must be among them."""
    if path.is_dir():
        raise DataError(f"{path}: expected a .npz file, found a folder; name the file in it")
    if not path.exists():
        raise NotFoundError(f"{path}: expected a .npz file, found nothing there; check the path")
    if not path.is_file():
        raise DataError(f"{path}: expected a .npz file, found something that is not a file")
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(
                    f"{path}: expected a .npz file, found something else or a damaged one; copy or save it again"
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                if TRAINING_SET not in archive.files:
                    found = ", ".join(archive.files) or "no arrays"
                    raise DataError(f"{path}: expected an array named {TRAINING_SET}, found {found}")
                arrays = {key: _read_member(archive, key, path) for key in keys if key in archive.files}
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({_one_line(error)}); copy or save it again") from None
    _check_training_set(arrays[TRAINING_SET], str(path))
    if FRAMES in arrays:
        _check_frames(arrays[FRAMES], len(arrays[TRAINING_SET]), str(path))
    return arrays


def _read_member(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[key]
    except _UNREADABLE as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: expected numbers in {key}, found Python objects, which are never unpickled; "
                f"save it as a plain array"
            ) from None
        raise DataError(f"{path}: {key} is damaged ({_one_line(error)}); copy or save the file again") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: expected an array in {key}, found something else; save the file again with numpy")
    if key != FRAMES:
        _check_numeric(array, key, str(path))
    return array


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
