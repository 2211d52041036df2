"""From an experiment config to arrays for training: loaded, cleaned, split and limited, with their fingerprint.

Combines the other modules of this package; batches and augmentation live elsewhere.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marsseg.config import CleaningConfig, DataConfig, ExperimentConfig, SplitConfig
from marsseg.data.clean import outlier_indices
from marsseg.data.duplicates import near_duplicate_groups
from marsseg.data.sources import load_tiles
from marsseg.data.split import Split, join_groups, limit_training, split_tiles
from marsseg.data.tiles import Tiles
from marsseg.errors import DataError

FINGERPRINT_PARTS = ("pixels", "masks", "split", "cleaning")


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 digests of the data used for training and evaluation, in hexadecimal.

    Args:
        pixels: the kept images, normalised, with their shape.
        masks: their masks, with their shape.
        split: the indices of each split, after the training split was limited.
        cleaning: the indices of the loaded images that were removed.
        digest: digest of the other four.
    """

    pixels: str
    masks: str
    split: str
    cleaning: str
    digest: str

    def to_dict(self) -> dict[str, str]:
        """All digests by name, for a run's record."""
        return asdict(self)


class Part(NamedTuple):
    """The images and masks of one split.

    Args:
        images: `(n, height, width, 1)`, pixels in [0, 1].
        masks: `(n, height, width)`, labels.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]


@dataclass(frozen=True)
class PreparedData:
    """All data that a training or evaluation run reads.

    Args:
        images: all loaded images, `(n, height, width)`, pixels in [0, 1].
        masks: `(n, height, width)`, labels 0 to `num_classes` - 1.
        split: indices into images and masks.
        removed: the images removed by cleaning, index to reason; they are in no split.
        num_classes: how many classes there are, background included.
        source: where the data come from, as the user named it.
        fingerprint: digests of images, masks, split and cleaning.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    split: Split
    removed: dict[int, str]
    num_classes: int
    source: str
    fingerprint: Fingerprint

    @property
    def train(self) -> Part:
        """A copy of the training split."""
        return self._part(self.split.train)

    @property
    def validation(self) -> Part:
        """A copy of the validation split."""
        return self._part(self.split.validation)

    @property
    def test(self) -> Part:
        """A copy of the test split."""
        return self._part(self.split.test)

    def _part(self, indices: NDArray[np.int64]) -> Part:
        return Part(self.images[indices][..., None], self.masks[indices])


def prepare_data(config: ExperimentConfig) -> PreparedData:
    """Loads, cleans and splits the data that the config names.

    Args:
        config: its groups `data`, `cleaning` and `split` are read.

    Returns:
        Images, masks, split and fingerprint; the same config and content give the same bits.

    Raises:
        DataError: If the content cannot be trained on, or nothing is left for training.
        NotFoundError: If the source does not exist.
    """
    tiles, removed = load_cleaned(config)
    kept = np.setdiff1d(np.arange(len(tiles)), list(removed)).astype(np.int64)
    images, masks = tiles.images[kept], tiles.masks[kept]
    # Indices among the kept images: a file that was cleaned beforehand then has the same split.
    split = _split_kept(config, images, masks, None if tiles.frames is None else tiles.frames[kept])
    return PreparedData(
        images=tiles.images,
        masks=tiles.masks,
        split=Split(kept[split.train], kept[split.validation], kept[split.test]),
        removed=removed,
        num_classes=tiles.num_classes,
        source=tiles.source,
        fingerprint=_fingerprint(images, masks, split, removed),
    )


def remembered_data(config: ExperimentConfig) -> PreparedData:
    """`prepare_data` with its last result cached: trials of one search mostly share their data."""
    return _remember(config.data, config.cleaning, config.split)


@lru_cache(maxsize=1)
def _remember(data: DataConfig, cleaning: CleaningConfig, split: SplitConfig) -> PreparedData:
    return prepare_data(ExperimentConfig(data=data, cleaning=cleaning, split=split))


def load_cleaned(config: ExperimentConfig) -> tuple[Tiles, dict[int, str]]:
    """Loads the data that the config names and finds the images that cleaning removes.

    Args:
        config: its groups `data` and `cleaning` are read.

    Returns:
        All tiles, and the reasons for removal, by index of the removed tile.

    Raises:
        DataError: If the content cannot be read.
        NotFoundError: If the source does not exist.
    """
    tiles = load_tiles(
        config.data.source,
        config.data.num_classes,
        synthetic_images=config.data.synthetic_images,
        synthetic_seed=config.data.synthetic_seed,
    )
    return tiles, outlier_indices(tiles) if config.cleaning.remove_outliers else {}


def changed_parts(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Names the parts in which two fingerprints differ.

    Args:
        first: a fingerprint, as returned by `to_dict`.
        second: another fingerprint.

    Returns:
        Names from `pixels`, `masks`, `split`, `cleaning`; a part that one side lacks counts as changed.
    """
    return [part for part in FINGERPRINT_PARTS if part not in first or first[part] != second.get(part)]


def pixels_digest(images: NDArray[np.float32]) -> str:
    """The part `pixels` of a fingerprint.

    Args:
        images: The images kept by cleaning, shape (n, height, width).

    Returns:
        64 hexadecimal digits.
    """
    return _digest(images.astype("<f4", copy=False))


def _split_kept(
    config: ExperimentConfig,
    images: NDArray[np.float32],
    masks: NDArray[np.uint8],
    frames: NDArray[np.int64] | None,
) -> Split:
    groups = join_groups(near_duplicate_groups(images), frames)
    sizes = config.split
    split = split_tiles(masks, groups, sizes.validation_images, sizes.test_images, sizes.seed)
    train = limit_training(split.train, masks, config.data.train_limit, sizes.seed)
    if not len(train):
        raise DataError(f"expected images to train on, found none among {len(images)}; lower split.validation_images")
    for name, part in (("training", train), ("validation", split.validation)):
        if not masks[part].any():
            raise DataError(
                f"expected {name} masks with at least one foreground pixel (label above 0), found none; at least two "
                f"images that are neither near-duplicates nor cut from one frame must have such labels"
            )
    return Split(train, split.validation, split.test)


def _fingerprint(
    images: NDArray[np.float32], masks: NDArray[np.uint8], split: Split, removed: Iterable[int]
) -> Fingerprint:
    masks_digest = _digest(masks)
    split_digest = _digest(*(part.astype("<i8") for part in (split.train, split.validation, split.test)))
    cleaning_digest = _digest(np.array(sorted(removed), "<i8"))
    parts = (pixels_digest(images), masks_digest, split_digest, cleaning_digest)
    return Fingerprint(*parts, digest=hashlib.sha256("\n".join(parts).encode()).hexdigest())


def _digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes and bytes; the shape also tells where one array ends and the next begins."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
