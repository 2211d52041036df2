"""Tiles cut from frames, against a reading of the same files by Pillow and NumPy alone."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marsseg.data.frames import Frame, find_ai4mars_frames, find_folder_frames
from marsseg.data.importers import AI4MARS_LABELS, Cutting, cut_frames
from marsseg.errors import DataError
from tests.data.conftest import save_frame, save_picture, textured_images

IDENTITY = {label: label for label in range(5)}


def test_real_frames_to_the_pixel(ai4mars_sample: Path) -> None:
    images, masks, names = [], [], []
    for path in sorted(ai4mars_sample.glob("msl/ncam/images/edr/*.JPG")):
        with Image.open(path) as picture:
            image = np.asarray(picture).astype(int)
        with Image.open(ai4mars_sample / "msl/ncam/labels/train" / f"{path.stem}.png") as picture:
            label = np.asarray(picture.resize((256, 256), Image.Resampling.NEAREST)).astype(int)
        # Means of 4 by 4 pixels, halves rounded up.
        image = (image.reshape(256, 4, 256, 4).sum(axis=(1, 3)) + 8) // 16
        for top in range(0, 256, 64):
            for left in range(0, 256, 128):
                images.append(image[top : top + 64, left : left + 128])
                masks.append(np.where(label == 255, 0, label + 1)[top : top + 64, left : left + 128])
                names.append(f"msl/ncam/images/edr/{path.stem}")
    frames = find_ai4mars_frames(ai4mars_sample).frames
    tiles = cut_frames(frames, AI4MARS_LABELS, Cutting(reduce=4))
    assert tiles.pairs.dtype == np.uint8
    assert tiles.pairs.shape == (48, 2, 64, 128)
    assert np.array_equal(tiles.pairs[:, 0], images)
    assert np.array_equal(tiles.pairs[:, 1], masks)
    assert tiles.frames.tolist() == names
    assert (tiles.unlabelled, tiles.uncovered_pixels, tiles.pixels) == (0, 0, 6 * 256 * 256)

    labelled = cut_frames(frames, AI4MARS_LABELS, Cutting(reduce=4, keep_unlabelled=False))
    has_label = np.array([mask.any() for mask in masks])
    assert labelled.unlabelled == (~has_label).sum() == 11
    assert np.array_equal(labelled.pairs, tiles.pairs[has_label])
    assert labelled.frames.tolist() == np.array(names)[has_label].tolist()


def test_real_frames_at_full_size(ai4mars_sample: Path) -> None:
    (frame, *_) = find_ai4mars_frames(ai4mars_sample).frames
    tiles = cut_frames([frame], AI4MARS_LABELS, Cutting(height=256, width=512, stride=256))
    assert tiles.pairs.shape == (4 * 3, 2, 256, 512)
    with Image.open(frame.image) as image, Image.open(frame.masks[0]) as mask:
        assert np.array_equal(tiles.pairs[7, 0], np.asarray(image)[512:768, 256:768])
        stored = np.asarray(mask).astype(int)
    counts = np.bincount(tiles.pairs[[0, 2, 3, 5, 6, 8, 9, 11], 1].ravel(), minlength=5)
    assert counts.tolist() == [(stored == 255).sum(), *((stored == label).sum() for label in range(4))]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(16, 60), st.integers(16, 60), st.integers(3, 20), st.integers(3, 20),
    st.none() | st.integers(1, 25), st.integers(1, 3),
)  # fmt: skip
def test_laws_of_cutting(
    height: int, width: int, tile_height: int, tile_width: int, stride: int | None, reduce: int
) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (height, width), np.uint8), rng.integers(0, 5, (height, width), np.uint8)
    cutting = Cutting(tile_height, tile_width, stride, reduce)
    with tempfile.TemporaryDirectory() as folder:
        frame = Frame("a", save_picture(Path(folder, "a.png"), image), (save_picture(Path(folder, "b.png"), mask),))
        rows, columns = height // reduce, width // reduce
        if rows < tile_height or columns < tile_width:
            with pytest.raises(DataError, match=rf"a\.png: expected at least {tile_height}x{tile_width} pixels"):
                cut_frames([frame], IDENTITY, cutting)
            return
        tiles = cut_frames([frame], IDENTITY, cutting)
    expected, covered = [], np.zeros((rows, columns), bool)
    for top in range(0, rows - tile_height + 1, stride or tile_height):
        for left in range(0, columns - tile_width + 1, stride or tile_width):
            covered[top : top + tile_height, left : left + tile_width] = True
            expected.append((top, left))
    assert len(tiles.pairs) == len(expected)
    assert tiles.uncovered_pixels == (~covered).sum()
    assert tiles.pixels == covered.size
    for (top, left), pair in zip(expected, tiles.pairs, strict=True):
        for row, column in ((0, 0), (tile_height - 1, tile_width - 1)):
            y, x = (top + row) * reduce, (left + column) * reduce
            assert abs(int(pair[0, row, column]) - image[y : y + reduce, x : x + reduce].mean()) <= 0.5
            assert pair[1, row, column] == mask[y + reduce // 2, x + reduce // 2]


def test_pictures_of_a_tiles_size_stay_whole(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_frame(tmp_path / "images" / f"{name}.png", tmp_path / "masks" / f"{name}.png", seed, 64, 128)
    tiles = cut_frames(find_folder_frames(tmp_path).frames, IDENTITY, Cutting())
    assert tiles.frames.tolist() == ["a", "b"]
    assert np.array_equal(tiles.pairs[:, 0], np.concatenate([textured_images(1, seed) for seed in (1, 2)]))


def test_of_several_labels_the_one_with_most_labelled_pixels_counts(tmp_path: Path) -> None:
    image = save_picture(tmp_path / "images/eff/a.png", textured_images(1)[0])
    few, many = np.full((2, 64, 128), 255, np.uint8)
    few[:9], many[20:40] = 0, 2
    save_picture(tmp_path / "labels/train/merged-unmasked/a_merged13.png", few)
    save_picture(tmp_path / "labels/train/merged-unmasked/a_merged6.png", many)
    (frame,) = find_ai4mars_frames(tmp_path).frames
    assert frame.image == image
    (pair,) = cut_frames([frame], AI4MARS_LABELS, Cutting()).pairs
    assert np.array_equal(pair[1], np.where(many == 255, 0, 3))


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    image = save_picture(tmp_path / "a.png", textured_images(1)[0])
    mask = save_picture(tmp_path / "b.png", np.zeros((64, 127), np.uint8))
    with pytest.raises(DataError) as caught:
        cut_frames([Frame("a", image, (mask,))], IDENTITY, Cutting())
    assert str(caught.value).startswith(f"{mask}: expected 64x128 pixels like its image {image}, found 64x127")


def test_no_tile_with_a_label(tmp_path: Path) -> None:
    image = save_picture(tmp_path / "a.png", textured_images(1)[0])
    mask = save_picture(tmp_path / "b.png", np.full((64, 128), 255, np.uint8))
    with pytest.raises(DataError, match=r"found none in 1 frames, the first .*a\.png; --keep-unlabelled"):
        cut_frames([Frame("a", image, (mask,))], AI4MARS_LABELS, Cutting(keep_unlabelled=False))


def test_progress_is_told_after_each_frame(tmp_path: Path) -> None:
    save_frame(tmp_path / "images/a.png", tmp_path / "masks/a.png")
    done: list[int] = []
    cut_frames(find_folder_frames(tmp_path).frames * 3, IDENTITY, Cutting(), done.append)
    assert done == [1, 2, 3]
