"""Removes outliers: as indices with reasons, as a new file, or as a list. The input is never changed.

`inspect.py` decides which images are outliers.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marsseg.data.inspect import find_outlier_groups
from marsseg.data.sources import FRAMES, TRAINING_SET, load_raw, tiles_from_pairs
from marsseg.data.tiles import Tiles
from marsseg.errors import UsageError
from marsseg.files import check_new_file, write_new_file


@dataclass(frozen=True)
class CleaningResult:
    """The result of cleaning a data set file.

    Args:
        kept: how many training images remain.
        removed: the removed images, index to reason.
        out: the file written.
    """

    kept: int
    removed: dict[int, str]
    out: Path


def outlier_indices(tiles: Tiles) -> dict[int, str]:
    """The images to leave out.

    Args:
        tiles: images and masks.

    Returns:
        Index to reason, ascending.
    """
    reasons = {index: group.reason for group in find_outlier_groups(tiles) for index in group.indices}
    return dict(sorted(reasons.items()))


def clean_file(source: Path, out: Path, num_classes: int = 5) -> CleaningResult:
    """Writes a copy of a data set file (`.npz`) without its outliers, or the list of outliers.

    Args:
        source: a data set file (`.npz`); it is only read.
        out: a new file. `.npz`: the images and their frames without the outliers, dtype and `test_set` unchanged;
            `.json` or `.csv`: the removed indices, with reasons.
        num_classes: how many classes there are, background included.

    Returns:
        The number kept, the images removed and the file written.

    Raises:
        DataError: If `source` is not valid.
        UsageError: If `out` is the input, exists, has another suffix or cannot be written.
        NotFoundError: If `source` does not exist.
    """
    raw = load_raw(source)
    _check_target(source, out)
    tiles = tiles_from_pairs(raw[TRAINING_SET], num_classes, str(source))
    removed = outlier_indices(tiles)
    kept = np.setdiff1d(np.arange(len(tiles)), list(removed))
    if out.suffix == ".npz":
        arrays = {**raw, **{key: raw[key][kept] for key in (TRAINING_SET, FRAMES) if key in raw}}
        write_new_file(out, lambda file: np.savez_compressed(file, **arrays))
    else:
        text = _as_json(source, len(tiles), removed) if out.suffix == ".json" else _as_csv(removed)
        write_new_file(out, lambda file: file.write(text.encode()))
    return CleaningResult(len(kept), removed, out)


def _check_target(source: Path, out: Path) -> None:
    if out.suffix not in (".npz", ".json", ".csv"):
        raise UsageError(f"{out}: expected a name that ends in .npz, .json or .csv")
    if out.exists() and out.samefile(source):
        raise UsageError(f"{out}: is the input, which is never changed; name another file")
    check_new_file(out)


def _as_json(source: Path, images: int, removed: dict[int, str]) -> str:
    rows = [{"index": index, "reason": reason} for index, reason in removed.items()]
    return json.dumps({"source": source.name, "images": images, "removed": rows}, indent=2) + "\n"


def _as_csv(removed: dict[int, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "reason"])
    writer.writerows(removed.items())
    return text.getvalue()
