"""`marsexp data`: inspects a data set, cleans it, makes a synthetic one."""

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marsseg.config import SYNTHETIC
from marsseg.data.clean import clean_file
from marsseg.data.inspect import inspect_tiles, render_group
from marsseg.data.sources import load_tiles
from marsseg.data.synthetic import generate_terrain
from marsseg.data.tiles import class_names
from marsseg.errors import DataError, UsageError
from marsseg.jobs.inputs import resolve_source


def inspect_data(data: str | None, num_classes: int, pictures: Path | None) -> dict[str, Any]:
    """What a data set holds, and what in it looks wrong.

    Args:
        data: A course file, `synthetic`, or None for the default.
        num_classes: How many classes there are.
        pictures: A folder for one picture of each suspected group, or None.

    Returns:
        The document that `--json` prints.

    Raises:
        MarsexpError: If the data cannot be read.
    """
    tiles = load_tiles(resolve_source(data), num_classes)
    inspection = inspect_tiles(tiles)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
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
    source = resolve_source(data)
    if source == SYNTHETIC:
        raise UsageError("expected --data FILE to clean; the synthetic terrain has no outliers unless asked for")
    result = clean_file(Path(source), out, num_classes)
    return f"{out}: kept {result.kept} images, left out {len(result.removed)}"


def write_synthetic(out: Path, images: int, height: int, width: int, seed: int, outliers: int) -> str:
    """Writes synthetic Mars terrain as a course file.

    Returns:
        What was done, in one line.

    Raises:
        DataError: If the file exists or has another ending, or an argument does not make sense.
    """
    if out.suffix != ".npz":
        raise DataError(f"{out}: expected a file name that ends in .npz")
    if out.exists():
        raise DataError(f"{out}: exists already; take another name or remove it")
    terrain = generate_terrain(images, height, width, seed, outliers)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, training_set=np.stack([terrain.images, terrain.masks], axis=1))
    planted = f", {outliers} of them wrong: {list(terrain.outlier_indices)}" if outliers else ""
    return f"{out}: {images} tiles of {height}x{width}{planted}"


def render_inspection(document: Mapping[str, Any]) -> str:
    """An inspection as text for people."""
    names = class_names(document["num_classes"])
    total = sum(document["pixels_per_class"])
    text = io.StringIO()
    height, width = document["shape"]
    origin = "" if document["frames"] is None else f" from {document['frames']} frames"
    print(f"{document['images']} images of {height}x{width}{origin}, {document['uniform_masks']} uniform masks", file=text)
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
