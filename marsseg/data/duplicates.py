"""Finds tiles that show the same image: exact copies and near-duplicates.

Perceptual hashes (Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions") propose pairs;
a direct comparison of their texture decides, because tiles of bland terrain often have the same hash.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# How many of a hash's 64 bits may differ. The frequency hash is robust to noise, compression, brightness and shading;
# the difference hashes, along rows and along columns, are robust to partial occlusion. Of real tiles copied with a
# bright spot, a box, a border or a quarter of another tile on them, the three propose 96 of 100, and 0.6 % of unrelated
# pairs; at the same share of unrelated pairs, the frequency hash alone proposes 88. An average hash adds nothing; a
# wavelet hash adds one more, for five times the run time of all three.
MAX_HASH_DISTANCES = {"phash": 18, "dhash": 16, "dhash_vertical": 14}
BLOCK_SIDE = 16
# Texture between these scales (standard deviations in pixels) is compared: finer detail is noise, coarser structure is
# shading and horizon, which unrelated tiles share.
FINE_SCALE, COARSE_SCALE = 1.5, 5.0
# The median block correlation of unrelated pairs with near hashes stays below 0.2 on real tiles and 0.32 on synthetic
# ones; for a copy with noise of 5 grey levels it is above 0.45 for 99 of 100 real tiles.
MIN_BLOCK_CORRELATION = 0.45
# These were measured on tiles of 64 by 128 pixels; with fewer blocks, half of them correlate by chance more easily.
ENOUGH_BLOCKS = 32
# Below a quarter of a grey level a block is flat: the remainder is rounding error.
MIN_BLOCK_DEVIATION = 0.25 / 255
_ROWS_AT_ONCE = 512
_PAIRS_AT_ONCE = 256


def near_duplicate_groups(images: NDArray[np.float32]) -> list[list[int]]:
    """Finds groups of images that show the same scene.

    The images of a group may be identical or differ by slight noise, brightness, contrast, recompression, a shift of a
    pixel or partial occlusion. Two tiles belong together if one of their perceptual hashes is near and the texture of
    most of their blocks correlates; groups are the connected components. Partly overlapping windows of one frame are
    not found.

    Args:
        images: `(n, height, width)`, pixels in [0, 1].

    Returns:
        Groups of at least two ascending indices, ordered by their first.
    """
    labels = _exact_labels(images)
    distinct = np.flatnonzero(labels == np.arange(len(images)))
    blocks, has_texture = _texture_blocks(images[distinct])
    # Flat tiles have no texture to compare and all share one hash: only their exact copies count.
    textured = np.flatnonzero(has_texture.any(axis=1))
    hashes = _perceptual_hashes(images[distinct[textured]])
    components = np.arange(len(distinct))
    for left, right in _near_pairs(hashes):
        _join_matching(components, textured[left], textured[right], blocks, has_texture)
    representative = np.arange(len(images))
    representative[distinct] = distinct[components]
    return _groups(representative[labels])


def _exact_labels(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each image, the index of the first image identical to it."""
    first: dict[bytes, int] = {}
    contiguous = np.ascontiguousarray(images)
    digests = (hashlib.sha256(image.data).digest() for image in contiguous)
    return np.array([first.setdefault(digest, index) for index, digest in enumerate(digests)], np.int64)


def _groups(labels: NDArray[np.int64]) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(index)
    return sorted(group for group in members.values() if len(group) > 1)


def _perceptual_hashes(images: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64-bit hashes, one row per kind; each tile's range is stretched to 8 bits first, so dark tiles keep detail."""
    import imagehash
    from PIL import Image

    kinds = [getattr(imagehash, kind) for kind in MAX_HASH_DISTANCES]
    bits = np.zeros((len(kinds), len(images), 64), np.bool_)
    for index, image in enumerate(images):
        low, high = image.min(), image.max()
        stretched = Image.fromarray(((image - low) * (255 / (high - low))).astype(np.uint8))
        for row, kind in zip(bits, kinds, strict=True):
            row[index] = kind(stretched).hash.ravel()
    return np.packbits(bits, axis=-1).view(np.uint64)[..., 0]


def _near_pairs(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (left < right) with at least one near hash, a few rows of the distance matrix at a time."""
    count = hashes.shape[1]
    for start in range(0, count, _ROWS_AT_ONCE):
        is_near = np.zeros((min(_ROWS_AT_ONCE, count - start), count - start), np.bool_)
        for row, limit in zip(hashes, MAX_HASH_DISTANCES.values(), strict=True):
            is_near |= np.bitwise_count(row[start : start + _ROWS_AT_ONCE, None] ^ row[None, start:]) <= limit
        left, right = np.nonzero(np.triu(is_near, k=1))
        yield left + start, right + start


def _texture_blocks(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cuts the band-passed images into square blocks whose rows have mean 0 and whose norm is 1.

    Args:
        images: `(n, height, width)`; pixels beyond a multiple of the block side are ignored.

    Returns:
        Blocks `(n, num_blocks, pixels)`, with flat ones set to 0, and whether each block has texture
        `(n, num_blocks)`.
    """
    count, height, width = images.shape
    fine = ndimage.gaussian_filter(images, (0, FINE_SCALE, FINE_SCALE), truncate=3)
    band = fine - ndimage.gaussian_filter(images, (0, COARSE_SCALE, COARSE_SCALE), truncate=2)
    rows, columns = height // BLOCK_SIDE, width // BLOCK_SIDE
    cut = band[:, : rows * BLOCK_SIDE, : columns * BLOCK_SIDE]
    blocks = cut.reshape(count, rows, BLOCK_SIDE, columns, BLOCK_SIDE).transpose(0, 1, 3, 2, 4)
    # Horizons and sky look alike everywhere and are constant along a row: subtracting the row mean removes them.
    blocks = blocks - blocks.mean(axis=-1, keepdims=True)
    blocks = blocks.reshape(count, rows * columns, BLOCK_SIDE**2)
    norms = np.linalg.norm(blocks, axis=-1, keepdims=True)
    has_texture = norms > MIN_BLOCK_DEVIATION * BLOCK_SIDE
    return np.where(has_texture, blocks / np.maximum(norms, 1e-12), 0).astype(np.float32), has_texture[..., 0]


def _join_matching(
    components: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    blocks: NDArray[np.float32],
    has_texture: NDArray[np.bool_],
) -> None:
    """Joins, in place, the components of the pairs whose texture matches in at least half of their blocks."""
    needed = _needed_correlation(blocks.shape[1])
    while len(left):
        # Many copies of one image yield all pairs among them: pairs already joined need no comparison.
        apart = components[left] != components[right]
        left, right = left[apart], right[apart]
        first, second = left[:_PAIRS_AT_ONCE], right[:_PAIRS_AT_ONCE]
        correlations = np.einsum("pbk,pbk->pb", blocks[first], blocks[second])
        comparable = has_texture[first] | has_texture[second]
        matching = (correlations >= needed).sum(axis=1)
        for one, other in zip(
            *((side[2 * matching >= comparable.sum(axis=1)]) for side in (first, second)), strict=True
        ):
            low, high = sorted((components[one], components[other]))
            components[components == high] = low
        left, right = left[_PAIRS_AT_ONCE:], right[_PAIRS_AT_ONCE:]


def _needed_correlation(num_blocks: int) -> float:
    """The correlation at which a block counts as matching: the fewer blocks a tile has, the closer to 1."""
    return 1 - (1 - MIN_BLOCK_CORRELATION) * math.sqrt(min(1, num_blocks / ENOUGH_BLOCKS))
