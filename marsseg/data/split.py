"""Divides images into training, validation and test splits, seeded and stratified by the classes present.

Near-duplicates (see `duplicates.py`) and tiles of one frame stay together as one unit. Only masks are read here, no
images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsseg.data.tiles import classes_present
from marsseg.errors import DataError
from marsseg.metrics import BACKGROUND

HELD_OUT_SHARE = 0.1
TRAIN, VALIDATION, TEST = range(3)
UNPLACED = -1
# A second word of entropy makes the two uses of a seed independent.
_SPLIT_STREAM, _LIMIT_STREAM = 0, 1

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The images of each split; no image is in two splits.

    Args:
        train: ascending indices.
        validation: ascending indices.
        test: ascending indices; no search uses this split.
    """

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class _Units:
    """Images that are never separated: a group of near-duplicates or of one frame's tiles, or a single image.

    Args:
        members: the images of each unit.
        sizes: number of images of each unit, `(num_units,)`.
        classes: which classes any image of a unit contains, `(num_units, num_classes)`.
    """

    members: list[Indices]
    sizes: Indices
    classes: NDArray[np.bool_]


def join_groups(groups: Sequence[Sequence[int]], frames: Indices | None) -> list[list[int]]:
    """Merges groups of near-duplicates and of one frame's tiles wherever they share a tile.

    Args:
        groups: near-duplicates, as disjoint lists of indices.
        frames: which frame each tile was cut from, `(n,)`; None if that is not known.

    Returns:
        Disjoint groups of at least two ascending indices, ordered by their first.
    """
    if frames is None:
        return [list(group) for group in groups]
    labels = np.unique(frames, return_inverse=True)[1]
    for group in groups:
        joined = labels[list(group)]
        labels[np.isin(labels, joined)] = joined[0]
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(index)
    return [unit for unit in members.values() if len(unit) > 1]


def split_tiles(
    masks: NDArray[np.uint8],
    groups: Sequence[Sequence[int]],
    validation_images: int | None = None,
    test_images: int | None = None,
    seed: int = 0,
) -> Split:
    """Splits images so that every class is in every split if there is enough of it, and no group is divided.

    First, a class that occurs in three or more units (a unit is a group, or an image in no group) is put into every
    split; a rarer one goes to training, then validation. If several rare classes share their few units, one of them
    may be missing from a split. The rest is distributed in proportion over the sets of classes present. Whatever the
    groups, training has foreground, and validation too if two units have any.

    Args:
        masks: labels, `(n, height, width)`.
        groups: images that must stay in one split, as disjoint lists of indices.
        validation_images: size of the validation split; None means 10 %, at least one.
        test_images: size of the test split; None means 10 %, at least one.
        seed: determines the split together with masks and groups.

    Returns:
        The three splits. Sizes are exact unless groups make that impossible; then they are approximate, and up to
        twice as large where a class would otherwise be missing.

    Raises:
        DataError: If nothing is left for training, or a split would be empty because groups are too large.
    """
    count = len(masks)
    default = max(1, round(count * HELD_OUT_SHARE))
    validation = default if validation_images is None else validation_images
    test = default if test_images is None else test_images
    if validation + test >= count:
        raise DataError(
            f"expected more than {validation} validation and {test} test images, found {count} in all, which leaves "
            f"none for training; lower split.validation_images or split.test_images"
        )
    rng = np.random.default_rng([seed, _SPLIT_STREAM])
    units = _make_units(masks, groups)
    parts = np.full(len(units.sizes), UNPLACED, np.int64)
    capacity = np.array([count - validation - test, validation, test])
    wanted = np.flatnonzero(capacity > 0)
    _put_each_class_everywhere(units, parts, capacity, rng)
    _place_groups(units, parts, capacity, rng)
    _deal_singles(units, parts, capacity, rng)
    _fill_empty_parts(units, parts, wanted)
    _share_foreground(units, parts, wanted)
    return Split(*(_images_of(units, parts == part) for part in (TRAIN, VALIDATION, TEST)))


def limit_training(train: Indices, masks: NDArray[np.uint8], limit: int | None, seed: int = 0) -> Indices:
    """Takes a seeded subset of the training images, stratified by the classes present.

    Args:
        train: indices into `masks`.
        masks: labels, `(n, height, width)`.
        limit: how many to take; None or more than there are takes all.
        seed: determines the subset together with the other arguments.

    Returns:
        Ascending indices; they include every class of `train` if `limit` allows.
    """
    if limit is None or limit >= len(train):
        return np.sort(train)
    rng = np.random.default_rng([seed, _LIMIT_STREAM])
    units = _make_units(masks[train], [])
    parts = np.full(len(train), UNPLACED, np.int64)
    capacity = np.array([limit, 0, 0])
    _put_each_class_everywhere(units, parts, capacity, rng)
    rest = _by_stratum(units, np.flatnonzero(parts == UNPLACED), rng)
    parts[_evenly(rest, int(capacity[TRAIN]), rng)] = TRAIN
    return np.sort(train[parts == TRAIN])


def _make_units(masks: NDArray[np.uint8], groups: Sequence[Sequence[int]]) -> _Units:
    present = classes_present(masks, int(masks.max(initial=0)) + 1)
    grouped = [np.array(sorted(group), np.int64) for group in groups]
    singles = np.setdiff1d(np.arange(len(masks)), np.concatenate([*grouped, np.array([], np.int64)]))
    members = [*grouped, *singles[:, None]]
    classes = np.concatenate(
        [present[:0], *[present[group].any(axis=0, keepdims=True) for group in grouped], present[singles]]
    )
    return _Units(members, np.array([len(unit) for unit in members], np.int64), classes)


def _put_each_class_everywhere(units: _Units, parts: Indices, capacity: Indices, rng: np.random.Generator) -> None:
    """Places, in place, one unit of each class in each split, rarest class first, as far as the capacity allows.

    Classes with too few units for all splits come last, so that they take nothing from a class that has enough. Where
    most images are in groups, such as the tiles of a few frames, a held-out split may exceed its size for a class.
    """
    open_parts, wanted = np.flatnonzero(capacity > 0), capacity.copy()
    is_flexible = int((units.sizes == 1).sum()) < wanted[VALIDATION] + wanted[TEST]
    frequency = units.classes.sum(axis=0)
    is_scarce = frequency < len(open_parts)
    order = np.lexsort((frequency, is_scarce))
    luck = rng.random(len(parts))
    for label in order:
        for part in open_parts:
            if bool(units.classes[parts == part][:, label].any()):
                continue
            fits = units.sizes <= capacity[part] - (_held_for_groups(units, parts, capacity) if part == TRAIN else 0)
            has_class = units.classes[:, label] & (parts == UNPLACED)
            candidates = np.flatnonzero(has_class & fits)
            if not len(candidates) and is_flexible and part != TRAIN and label != BACKGROUND and not is_scarce[label]:
                # Up to twice the size, as long as training keeps more than half of its own.
                held = np.bincount(parts[parts != UNPLACED], units.sizes[parts != UNPLACED], len(wanted))
                lent = np.maximum(held - wanted, 0)[VALIDATION:].sum()
                most = min(2 * wanted[part] - held[part], capacity[part] + (wanted[TRAIN] - 1) // 2 - lent)
                candidates = np.flatnonzero(has_class & (units.sizes <= most))
                candidates = candidates[units.sizes[candidates] == units.sizes[candidates].min(initial=most)]
            if not len(candidates):
                continue
            classes = units.classes[candidates]
            # Classes with too few units for all splits go to training.
            misplaced = (classes & is_scarce).any(axis=1) != (part == TRAIN)
            useful = (classes & ~units.classes[parts == part].any(axis=0)).sum(axis=1)
            # Among equally useful units, the smallest, then the one that uses up least of the rare classes.
            spent = (classes / np.maximum(frequency, 1)).sum(axis=1)
            best = np.lexsort((luck[candidates], spent, units.sizes[candidates], -useful, misplaced))[0]
            _place(int(candidates[best]), int(part), units, parts, capacity)
            # Training gives what another split takes beyond its size.
            capacity[TRAIN] += min(0, capacity[part])
            capacity[part] = max(0, capacity[part])


def _held_for_groups(units: _Units, parts: Indices, capacity: Indices) -> Indices:
    """For each unit, how much of the training split it must leave free, so that all groups fit there if need be."""
    is_group = units.sizes > 1
    waiting = int(units.sizes[(parts == UNPLACED) & is_group].sum())
    return np.where(is_group | (waiting > capacity[TRAIN]), 0, waiting)


def _place_groups(units: _Units, parts: Indices, capacity: Indices, rng: np.random.Generator) -> None:
    """Places, in place, the groups, largest first: at random where they fit, otherwise where they overshoot least."""
    groups = np.flatnonzero((parts == UNPLACED) & (units.sizes > 1))
    groups = rng.permutation(groups)
    for unit in groups[np.argsort(-units.sizes[groups], kind="stable")]:
        fitting = np.where(capacity >= units.sizes[unit], capacity, 0)
        part = int(rng.choice(len(capacity), p=fitting / fitting.sum()) if fitting.any() else capacity.argmax())
        _place(unit, part, units, parts, capacity)


def _deal_singles(units: _Units, parts: Indices, capacity: Indices, rng: np.random.Generator) -> None:
    """Places, in place, all remaining units, so that each set of classes is distributed in proportion."""
    for part in (VALIDATION, TEST):
        rest = _by_stratum(units, np.flatnonzero(parts == UNPLACED), rng)
        for unit in _evenly(rest, int(capacity[part]), rng):
            _place(unit, part, units, parts, capacity)
    parts[parts == UNPLACED] = TRAIN


def _fill_empty_parts(units: _Units, parts: Indices, wanted: Indices) -> None:
    """Gives, in place, each empty split the smallest unit of the split with the most units."""
    for part in wanted:
        if (parts == part).any():
            continue
        counts = np.bincount(parts, minlength=len(Split.__annotations__))
        donors = np.flatnonzero(parts == counts.argmax())
        if len(donors) < 2:
            raise DataError(
                f"expected images for {len(wanted)} splits, found only {len(parts)} that are neither near-duplicates "
                f"of each other nor cut from one frame; add images or set split.test_images to 0"
            )
        parts[donors[units.sizes[donors].argmin()]] = part


def _share_foreground(units: _Units, parts: Indices, wanted: Indices) -> None:
    """Exchanges units, in place, until training, then validation, then test has foreground, as far as there is any."""
    has_foreground = np.asarray(np.delete(units.classes, BACKGROUND, axis=1).any(axis=1))
    for part in wanted:
        if has_foreground[parts == part].any():
            continue
        counts = np.bincount(parts[has_foreground], minlength=len(Split.__annotations__))
        donors = np.flatnonzero(has_foreground & ((counts[parts] > 1) | (parts > part)))
        if not len(donors):
            return
        others = np.flatnonzero(parts == part)
        misfits = np.abs(units.sizes[donors][:, None] - units.sizes[others])
        # A split gives its last unit with foreground only if no other can give one; otherwise sizes count most.
        lost = [(units.classes[unit] & (units.classes[parts == parts[unit]].sum(axis=0) == 1)).sum() for unit in donors]
        best = np.lexsort((-parts[donors], lost, misfits.min(axis=1), counts[parts[donors]] == 1))[0]
        unit, other = donors[best], others[misfits[best].argmin()]
        parts[unit], parts[other] = part, parts[unit]


def _place(unit: int, part: int, units: _Units, parts: Indices, capacity: Indices) -> None:
    parts[unit] = part
    capacity[part] -= units.sizes[unit]


def _by_stratum(units: _Units, chosen: Indices, rng: np.random.Generator) -> Indices:
    """Sorts units by the set of classes present, the rarest class first; in random order within a set."""
    common_first = np.argsort(-units.classes.sum(axis=0), kind="stable")
    keys = (rng.random(len(chosen)), *units.classes[chosen][:, common_first].T)
    return chosen[np.lexsort(keys)]


def _evenly(ordered: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Takes `count` units, evenly spaced from a random start, so that each stratum contributes its share."""
    count = max(0, min(count, len(ordered)))
    positions = (np.arange(count) + rng.random()) * len(ordered) / max(count, 1)
    return ordered[positions.astype(np.int64)]


def _images_of(units: _Units, chosen: NDArray[np.bool_]) -> Indices:
    members = [units.members[unit] for unit in np.flatnonzero(chosen)]
    return np.sort(np.concatenate([*members, np.array([], np.int64)]))
