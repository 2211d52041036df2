import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.data.sources import load_raw, load_tiles
from marsseg.errors import DataError, MarsexpError, NotFoundError
from tests.data.conftest import random_masks, textured_images


def make_pairs(count: int = 4) -> np.ndarray:
    images = textured_images(count, height=16, width=32)
    images.reshape(-1)[:256] = np.arange(256)
    return np.stack([images, random_masks(count, height=16, width=32)], axis=1)


def save(folder: Path, pairs: Any, **others: Any) -> Path:
    path = folder / "tiles.npz"
    np.savez(path, training_set=pairs, **others)
    return path


def message(path: Path, num_classes: int = 5) -> str:
    with pytest.raises(MarsexpError) as caught:
        load_tiles(path, num_classes)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


DTYPES = ["uint8", "int16", "uint16", "int64", "float16", "float32", "float64", ">f4", ">u2"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_content_in_any_dtype_has_the_same_bits(tmp_path: Path, dtype: str) -> None:
    pairs = make_pairs()
    tiles = load_tiles(save(tmp_path, pairs.astype(dtype)))
    assert tiles.images.dtype == np.float32
    assert tiles.images.tobytes() == (pairs[:, 0].astype(np.float32) / np.float32(255)).tobytes()
    assert tiles.masks.dtype == np.uint8
    assert np.array_equal(tiles.masks, pairs[:, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "divide", [lambda x, d: x.astype(d) / np.dtype(d).type(255), lambda x, d: (x / 255.0).astype(d)]
)
def test_content_divided_by_255_has_the_same_bits(tmp_path: Path, dtype: str, divide: Any) -> None:
    pairs = make_pairs()
    scaled = pairs.astype(dtype)
    scaled[:, 0] = divide(pairs[:, 0], dtype)
    tiles = load_tiles(save(tmp_path, scaled))
    assert tiles.images.tobytes() == (pairs[:, 0].astype(np.float32) / np.float32(255)).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_masks_divided_by_255_with_their_images_are_read(tmp_path: Path, dtype: str) -> None:
    pairs = make_pairs()
    tiles = load_tiles(save(tmp_path, (pairs / 255).astype(dtype)))
    assert np.array_equal(tiles.masks, pairs[:, 1])


def test_range_is_decided_on_the_whole_array(tmp_path: Path) -> None:
    pairs = make_pairs().astype(np.float32)
    pairs[1, 0] = np.minimum(pairs[1, 0], 1)
    assert load_tiles(save(tmp_path, pairs)).images[1].max() == np.float32(1) / np.float32(255)


def test_floats_that_were_never_8_bit_are_taken_as_they_are(tmp_path: Path) -> None:
    pairs = make_pairs().astype(np.float64)
    pairs[:, 0] = np.random.default_rng(0).random(pairs[:, 0].shape)
    tiles = load_tiles(save(tmp_path, pairs))
    assert np.array_equal(tiles.images, pairs[:, 0].astype(np.float32))


def test_raw_arrays_keep_their_dtype(tmp_path: Path) -> None:
    raw = load_raw(save(tmp_path, make_pairs().astype(np.int16), test_set=np.zeros((3, 16, 32)), other=np.zeros(2)))
    assert {key: (array.dtype.name, array.shape) for key, array in raw.items()} == {
        "training_set": ("int16", (4, 2, 16, 32)),
        "test_set": ("float64", (3, 16, 32)),
    }


FRAMES = {
    "numbers": np.array([5, 5, -2, 9]),
    "texts": np.array(["b/2", "b/2", "a/1", "c"]),
    "bytes": np.array([b"b", b"b", b"a", b"c"]),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_are_read_where_the_file_has_them(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, make_pairs(), frames=FRAMES[kind])
    tiles = load_tiles(path)
    assert tiles.frames is not None
    assert tiles.frames.dtype == np.int64
    assert (tiles.frames[:, None] == tiles.frames).tolist() == (FRAMES[kind][:, None] == FRAMES[kind]).tolist()
    assert np.array_equal(load_raw(path)["frames"], FRAMES[kind])


def test_frames_are_not_known_where_the_file_has_none(tmp_path: Path) -> None:
    assert load_tiles(save(tmp_path, make_pairs())).frames is None


@pytest.mark.parametrize(
    "frames", [np.arange(3), np.arange(4.0), np.zeros((4, 1), int), np.array(0), np.zeros(4, bool)]
)
def test_frames_that_do_not_fit_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    path = save(tmp_path, make_pairs(), frames=frames)
    text = message(path)
    assert "expected frames to be 4 integers or strings" in text
    assert f"found dtype {frames.dtype} of shape {frames.shape}" in text
    with pytest.raises(DataError, match="expected frames"):
        load_raw(path)


def test_frames_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = np.array([Bomb()] * 4, object)
    assert "in frames, found Python objects, which are never unpickled" in message(
        save(tmp_path, make_pairs(), frames=frames)
    )
    assert not Path("unpickled").exists()


def test_test_set_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test_set of shape \(m, 16, 32\).*\(3, 16, 16\)"):
        load_raw(save(tmp_path, make_pairs(), test_set=np.zeros((3, 16, 16))))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing there"):
        load_tiles(tmp_path / "none.npz")


def test_folder(tmp_path: Path) -> None:
    assert "folder" in message(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"\x80\x04K\x01.", b"PK\x03\x04 torn"])
def test_something_else_than_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tiles.npz"
    path.write_bytes(content)
    assert "expected a .npz file" in message(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_torn_file(tmp_path: Path, share: float) -> None:
    path = save(tmp_path, make_pairs())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message(path)


def test_truncated_member(tmp_path: Path) -> None:
    member = io.BytesIO()
    np.save(member, make_pairs())
    path = tmp_path / "tiles.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_set.npy", member.getvalue()[:-100])
    assert "training_set is damaged" in message(path)


def test_flipped_byte(tmp_path: Path) -> None:
    path = save(tmp_path, make_pairs())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    assert "training_set is damaged" in message(path)


def test_member_that_claims_to_be_huge(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 2, 64, 128)})
    path = tmp_path / "tiles.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_set.npy", header.getvalue())
    assert "training_set is damaged" in message(path)


@pytest.mark.parametrize("shape", [f"({10**30}, 2, 64, 128)", "(1, 2"])
def test_member_whose_header_makes_no_sense(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode("latin-1")
    path = tmp_path / "tiles.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_set.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "training_set is damaged" in message(path)


def test_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "tiles.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_set", b"hello")
    assert "expected an array" in message(path)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "never unpickled" in message(save(tmp_path, np.array([Bomb()], object)))
    assert not Path("unpickled").exists()


def test_other_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "tiles.npz"
    np.savez(path, images=np.zeros(2), labels=np.zeros(2))
    assert "training_set, found images, labels" in message(path)


@pytest.mark.parametrize(
    "shape", [(4, 16, 32), (4, 1, 16, 32), (4, 3, 16, 32), (4, 2, 16, 32, 1), (2,), (), (0, 2, 16, 32), (4, 2, 8, 32)]
)
def test_wrong_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    text = message(save(tmp_path, np.zeros(shape, np.uint8)))
    assert "expected" in text
    assert "found" in text


@pytest.mark.parametrize("dtype", ["U3", "S3", "complex64", "bool", "datetime64[s]", [("a", "i4")]])
def test_dtypes_that_are_no_numbers(tmp_path: Path, dtype: Any) -> None:
    assert "integers or floats" in message(save(tmp_path, np.zeros((4, 2, 16, 32), dtype)))


@pytest.mark.parametrize(
    ("channel", "value", "expected"),
    [
        (0, np.nan, "finite numbers, found nan in image 2 at row 3, column 5 of the image"),
        (0, -np.inf, "found -inf in image 2"),
        (0, -1, "pixels from 0 to 255, found -1.0 in image 2 at row 3, column 5"),
        (0, 256, "found 256.0 in image 2"),
        (1, np.nan, "found nan in image 2"),
        (1, np.inf, "found inf in image 2"),
        (1, 5, "labels 0 to 4, found 5.0 in image 2 at row 3, column 5"),
        (1, -1, "labels 0 to 4, found -1.0 in image 2"),
        (1, 1.5, "whole labels in masks, found 1.5 in image 2"),
        (1, 255, "found 255.0 in image 2"),
    ],
)
def test_bad_values_are_named_with_their_place(tmp_path: Path, channel: int, value: float, expected: str) -> None:
    pairs = make_pairs().astype(np.float64)
    pairs[2, channel, 3, 5] = value
    assert expected in message(save(tmp_path, pairs))


def test_floats_in_neither_range(tmp_path: Path) -> None:
    pairs = make_pairs().astype(np.float64)
    pairs[:, 0] /= 255 / 1.5
    assert "from 0 to 1 or from 0 to 255" in message(save(tmp_path, pairs))


def test_fewer_classes_than_labels(tmp_path: Path) -> None:
    assert "data.num_classes" in message(save(tmp_path, make_pairs()), num_classes=3)


def test_synthetic_terrain_is_a_source() -> None:
    tiles = load_tiles("synthetic", synthetic_images=12, synthetic_seed=1)
    assert tiles.images.shape == tiles.masks.shape == (12, 64, 128)
    assert tiles.source == "synthetic"


def test_course_file(course_tiles: Any) -> None:
    assert course_tiles.images.shape == (2615, 64, 128)
