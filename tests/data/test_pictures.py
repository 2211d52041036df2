from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marsseg.data.pictures import read_image, read_mask
from marsseg.errors import DataError
from tests.data.conftest import save_picture, textured_images

LABELS = {0: 1, 1: 2, 2: 3, 3: 4, 255: 0}


@pytest.fixture
def grey() -> np.ndarray:
    return textured_images(1, height=20, width=30)[0]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_pictures_of_any_kind_have_the_same_pixels(
    tmp_path: Path, grey: np.ndarray, mode: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(grey).convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, grey)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_jpeg(tmp_path: Path, grey: np.ndarray, mode: str) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(grey).convert(mode).save(path, quality=95)
    image = read_image(path)
    assert image.shape == grey.shape
    assert np.abs(image.astype(int) - grey).mean() < 4


def test_colours_are_refused_or_turned_into_grey(tmp_path: Path, grey: np.ndarray) -> None:
    colours = np.stack([grey, grey, grey], axis=-1)
    colours[3, 4] = (255, 0, 0)
    path = save_picture(tmp_path / "a.png", colours)
    with pytest.raises(DataError, match=r"a\.png: expected a greyscale image, found a colour one; --grey"):
        read_image(path)
    expected = grey.copy()
    # Brightness of pure red: 0.299 of white.
    expected[3, 4] = 76
    assert np.array_equal(read_image(path, to_grey=True), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused(tmp_path: Path, grey: np.ndarray, dtype: type) -> None:
    path = save_picture(tmp_path / "a.tif", grey.astype(dtype))
    with pytest.raises(DataError, match=r"a\.tif: expected 8 bits per pixel, found mode"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.tif"])
@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_torn_pictures_are_named(tmp_path: Path, grey: np.ndarray, name: str, damage: str) -> None:
    path = save_picture(tmp_path / name, np.tile(grey, (8, 8)))
    content = path.read_bytes()
    path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "text": b"no picture at all"}[damage])
    for read in (read_image, lambda torn: read_mask(torn, LABELS)):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: cannot be read (")
        assert "\n" not in str(caught.value)


def test_labels_are_mapped(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)
    path = save_picture(tmp_path / "a.png", stored)
    assert read_mask(path, LABELS).tolist() == [[1, 2, 3], [4, 0, 1]]
    assert read_mask(path, LABELS).dtype == np.uint8


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2], [3, 2, 0]], np.uint8)
    identity = {label: label for label in range(4)}
    palette = Image.fromarray(stored)
    # The palette indices count, not the colours that they are shown in.
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(stored).convert("RGB").save(tmp_path / "rgb.png")
    save_picture(tmp_path / "wide.png", stored.astype(np.uint16))
    for name in ("palette.png", "rgb.png", "wide.png"):
        assert np.array_equal(read_mask(tmp_path / name, identity), stored)
    Image.fromarray(stored > 0).save(tmp_path / "two.png")
    assert np.array_equal(read_mask(tmp_path / "two.png", identity), stored > 0)


@pytest.mark.parametrize(
    ("labels", "value", "expected"),
    [
        (LABELS, 4, "expected labels 0, 1, 2, 3 or 255, found 4 at row 1, column 2"),
        ({0: 0, 1: 1, 2: 2}, 3, "expected labels 0 to 2, found 3 at row 1, column 2"),
        (LABELS, 300, "found 300 at row 1"),
    ],
)
def test_unknown_labels_are_named_with_their_place(
    tmp_path: Path, labels: dict[int, int], value: int, expected: str
) -> None:
    stored = np.zeros((3, 4), np.uint16 if value > 255 else np.uint8)
    stored[1, 2] = stored[2, 0] = value
    path = save_picture(tmp_path / "a.png", stored)
    with pytest.raises(DataError) as caught:
        read_mask(path, labels)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


def test_masks_in_colour_or_fractions_are_refused(tmp_path: Path) -> None:
    coloured = save_picture(tmp_path / "a.png", np.array([[[0, 1, 0]]], np.uint8))
    fractions = save_picture(tmp_path / "b.tif", np.array([[0.5]], np.float32))
    for path in (coloured, fractions):
        with pytest.raises(DataError, match="expected one label per pixel"):
            read_mask(path, LABELS)
