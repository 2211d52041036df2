"""`marsexp data`: inspects a data set, cleans it, imports one from images, generates a synthetic one."""

import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marsseg.config import SYNTHETIC
from marsseg.data.clean import clean_file
from marsseg.data.frames import FoundFrames, Frame, find_ai4mars_frames, find_folder_frames
from marsseg.data.importers import AI4MARS_LABELS, Cutting, cut_frames
from marsseg.data.inspect import inspect_tiles, render_group
from marsseg.data.sources import load_tiles
from marsseg.data.synthetic import generate_terrain
from marsseg.data.tiles import class_names
from marsseg.errors import UsageError
from marsseg.files import check_new_file, write_new_file
from marsseg.jobs.inputs import DATA_VARIABLE, resolve_source
from marsseg.jobs.progress import notify

# Reading this many takes about half a minute.
_FRAMES_BETWEEN_NOTICES = 1000


def inspect_data(data: str | None, num_classes: int, pictures: Path | None) -> dict[str, Any]:
    """Reports what a data set holds, and what looks wrong in it.

    Args:
        data: A data set file (`.npz`), `synthetic`, or None for the default.
        num_classes: Number of classes.
        pictures: A folder for one figure of each suspected group, or None.

    Returns:
        The document that `--json` prints.

    Raises:
        MarsexpError: If the data cannot be read.
    """
    if pictures is not None:
        if pictures.exists() and not pictures.is_dir():
            raise UsageError(f"--pictures: expected a folder, found the file {pictures}; name another")
        pictures.mkdir(parents=True, exist_ok=True)
    tiles = load_tiles(resolve_source(data), num_classes)
    inspection = inspect_tiles(tiles)
    if pictures is not None:
        for number, group in enumerate(inspection.outlier_groups):
            render_group(tiles, group.indices).save(pictures / f"outlier-group-{number}.png")
    return inspection.to_dict()


def clean_data(data: str | None, num_classes: int, out: Path) -> str:
    """Writes a copy of a data set without its outliers, or the list of them.

    Returns:
        What was done, in one line.

    Raises:
        MarsexpError: If the data cannot be read or the file cannot be written.
    """
    if (data or os.environ.get(DATA_VARIABLE) or SYNTHETIC) == SYNTHETIC:
        raise UsageError("expected --data FILE to clean; the synthetic terrain has no outliers unless asked for")
    source = resolve_source(data)
    result = clean_file(Path(source), out, num_classes)
    return f"{out}: kept {result.kept} images, left out {len(result.removed)}"


def import_ai4mars(
    folder: Path, out: Path, cutting: Cutting, labels: str | None, skip_missing: bool, max_frames: int | None
) -> str:
    """Cuts the frames of an AI4Mars tree into a data set file (`.npz`); notices tell what was left out.

    Args:
        folder: The unpacked release, a rover's folder or a camera's.
        out: A new `.npz` file.
        cutting: How frames become tiles.
        labels: A folder below `labels` in place of the training labels, or None.
        skip_missing: Whether images without a label are left out.
        max_frames: Import at most this many frames, evenly spaced; None imports all.

    Returns:
        What was done, in one line.

    Raises:
        MarsexpError: If a file cannot be used, or `out` cannot be written.
    """
    _check_target(out)
    found = find_ai4mars_frames(folder.expanduser(), labels, skip_missing)
    frames = found.frames
    if max_frames is not None and max_frames < len(frames):
        frames = tuple(frames[index * len(frames) // max_frames] for index in range(max_frames))
    return _write_tiles(out, found, frames, AI4MARS_LABELS, cutting)


def import_folder(folder: Path, out: Path, cutting: Cutting, num_classes: int) -> str:
    """Cuts the images and masks of a plain folder into a data set file (`.npz`).

    Args:
        folder: Holds `images` and `masks`.
        out: A new `.npz` file.
        cutting: How images become tiles.
        num_classes: Number of classes: masks hold 0 to one less.

    Returns:
        What was done, in one line.

    Raises:
        MarsexpError: If a file cannot be used, or `out` cannot be written.
    """
    _check_target(out)
    found = find_folder_frames(folder.expanduser())
    return _write_tiles(out, found, found.frames, {label: label for label in range(num_classes)}, cutting)


def _check_target(out: Path) -> None:
    if out.suffix != ".npz":
        raise UsageError(f"{out}: expected a file name that ends in .npz")
    check_new_file(out)


def _write_tiles(
    out: Path, found: FoundFrames, frames: Sequence[Frame], labels: Mapping[int, int], cutting: Cutting
) -> str:
    for notice in found.notices:
        notify(notice)

    def on_frame(done: int) -> None:
        if done % _FRAMES_BETWEEN_NOTICES == 0:
            notify(f"{done:,} of {len(frames):,} frames")

    tiles = cut_frames(frames, labels, cutting, on_frame)
    write_new_file(out, lambda file: np.savez_compressed(file, training_set=tiles.pairs, frames=tiles.frames))
    if tiles.uncovered_pixels:
        notify(f"{tiles.uncovered_pixels / tiles.pixels:.1%} of the pixels lie in no tile: at edges, or between tiles")
    line = f"{out}: {len(tiles.pairs)} tiles of {cutting.height}x{cutting.width} from {len(frames)} frames"
    return f"{line}, left out {tiles.unlabelled} without a label" if tiles.unlabelled else line


def write_synthetic(out: Path, images: int, height: int, width: int, seed: int, outliers: int) -> str:
    """Writes synthetic Mars terrain as a data set file (`.npz`).

    Returns:
        What was done, in one line.

    Raises:
        MarsexpError: If `out` cannot be written, or an argument does not make sense.
    """
    _check_target(out)
    if outliers > images:
        raise UsageError(f"--outliers: expected at most {images}, the number of images, found {outliers}")
    terrain = generate_terrain(images, height, width, seed, outliers)
    pairs = np.stack([terrain.images, terrain.masks], axis=1)
    write_new_file(out, lambda file: np.savez_compressed(file, training_set=pairs))
    planted = f", {outliers} of them outliers: {list(terrain.outlier_indices)}" if outliers else ""
    return f"{out}: {images} tiles of {height}x{width}{planted}"


def render_inspection(document: Mapping[str, Any]) -> str:
    """An inspection as text for people."""
    names = class_names(document["num_classes"])
    total = sum(document["pixels_per_class"])
    text = io.StringIO()
    height, width = document["shape"]
    origin = "" if document["frames"] is None else f" from {document['frames']} frames"
    counted = f"{document['images']} images of {height}x{width}{origin}"
    print(f"{counted}, {document['uniform_masks']} uniform masks", file=text)
    least, most, mean = (document["image_range"][name] for name in ("min", "max", "mean"))
    print(f"pixels from {least:.3f} to {most:.3f}, mean {mean:.3f} (0 is black, 1 is white)", file=text)
    print(f"{'class':<12} {'images':>8} {'pixels':>12} {'share':>8} {'clean pixels':>14}", file=text)
    rows = zip(
        names,
        document["images_per_class"],
        document["pixels_per_class"],
        document["clean"]["pixels_per_class"],
        strict=True,
    )
    for name, images, pixels, clean in rows:
        print(f"{name:<12} {images:>8,} {pixels:>12,} {pixels / total:>8.2%} {clean:>14,}", file=text)
    for group in document["outlier_groups"]:
        shown = ", ".join(str(index) for index in group["indices"][:8])
        more = ", …" if len(group["indices"]) > 8 else ""
        print(f"suspected outliers: {len(group['indices'])} images ({shown}{more}): {group['reason']}", file=text)
    kinds = Counter(document["duplicate_kinds"])
    print(f"groups of duplicate images: {kinds['exact']} exact, {kinds['near']} near", file=text)
    print(f"clean: {document['clean']['images']} images", file=text)
    return text.getvalue()
