"""Checkpoints load as they were written, and a torn one is skipped."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from marsseg.errors import CheckpointError
from marsseg.training.checkpoint import (
    Checkpoint,
    load_latest_checkpoint,
    save_checkpoint,
    weights_sha256,
)


def checkpoint(epoch: int, value: float = 0.0) -> Checkpoint:
    rng = np.random.default_rng(epoch)
    tensors = {
        "weights/zebra/kernel": rng.normal(size=(3, 2)).astype(np.float32),
        "weights/ant/bias": np.full(2, value, np.float32),
        "optimizer/10": np.asarray(7, np.int64),
        "optimizer/9": rng.normal(size=(2, 3)).astype(np.float32).T,
        "dropout/0": np.array([1, 2**32 - 1], np.uint32),
        "best/empty": np.zeros((0, 3), np.float32),
    }
    return Checkpoint(epoch, tensors, {"history": [{"loss": 0.1 + 0.2}], "note": "naïve"})


def assert_equal(found: Checkpoint | None, expected: Checkpoint) -> None:
    assert found is not None
    assert (found.epoch, found.state) == (expected.epoch, expected.state)
    assert list(found.tensors) == list(expected.tensors)
    for name, value in expected.tensors.items():
        assert found.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(found.tensors[name], value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def flip_a_bit_of_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(bytes(content))


def test_comes_back_bit_for_bit_and_in_order(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new" / "folder", checkpoint(3))
    found = load_latest_checkpoint(tmp_path / "new" / "folder")
    assert_equal(found, checkpoint(3))
    assert found is not None
    assert list(found.group("weights")) == ["zebra/kernel", "ant/bias"]
    assert list(found.group("optimizer")) == ["10", "9"]
    assert found.group("absent") == {}


def test_there_is_none_in_an_empty_or_absent_folder(tmp_path: Path) -> None:
    assert load_latest_checkpoint(tmp_path) is None
    assert load_latest_checkpoint(tmp_path / "absent") is None


def test_the_newest_epoch_counts_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    for epoch in (8, 9, 10, 11):
        save_checkpoint(tmp_path, checkpoint(epoch))
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(11))
    assert sorted(path.name[:11] for path in tmp_path.iterdir()) == ["epoch-00010", "epoch-00011"]


@pytest.mark.parametrize("tear", [truncate, empty, flip_a_bit, flip_a_bit_of_the_header])
def test_a_torn_one_is_passed_over_and_all_torn_is_an_error(tear, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = [save_checkpoint(tmp_path, checkpoint(epoch)) for epoch in (1, 2)]
    tear(files[1])
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(1))
    tear(files[0])
    with pytest.raises(CheckpointError, match="found 2 torn; delete it to start again"):
        load_latest_checkpoint(tmp_path)


def test_two_whole_ones_are_left_after_going_on_from_behind_a_torn_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    truncate(save_checkpoint(tmp_path, checkpoint(2)))
    # The epoch is trained again; its seconds differ, and so does the digest in its name.
    again = save_checkpoint(tmp_path, checkpoint(2, value=1.0))
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(2, value=1.0))
    truncate(again)
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(1))


def test_a_full_disk_leaves_what_was_there_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1))

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, checkpoint(2))
    assert [path.name[:11] for path in tmp_path.iterdir()] == ["epoch-00001"]
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(1))


def test_what_a_kill_left_half_written_is_not_read(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(1))
    path.with_name(".epoch-00002-0123.safetensors.99").write_bytes(b"half")
    assert_equal(load_latest_checkpoint(tmp_path), checkpoint(1))


def test_the_file_is_plain_tensors_and_json(tmp_path: Path) -> None:
    content = save_checkpoint(tmp_path, checkpoint(1)).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["state"]) == checkpoint(1).state
    assert {entry["dtype"] for entry in header.values()} == {"F32", "I64", "U32"}
    assert len(content) == 8 + length + sum(value.nbytes for value in checkpoint(1).tensors.values())


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_under_a_checkpoints_name_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(Bomb(mark))
    pickle.loads(content)
    assert mark.exists()
    mark.unlink()
    digest = hashlib.sha256(content).hexdigest()[:32]
    (tmp_path / f"epoch-00001-{digest}.safetensors").write_bytes(content)
    with pytest.raises(Exception):  # noqa: B017, PT011  # any exception will do
        load_latest_checkpoint(tmp_path)
    assert not mark.exists()


def test_hash_of_weights_is_sha256_over_path_shape_type_and_bytes_in_order_of_paths() -> None:
    one, two = np.array([[1.0, 2.0]], np.float32), np.array([3], np.int64)
    expected = hashlib.sha256(b"a(1, 2)<f4" + one.tobytes() + b"b(1,)<i8" + two.tobytes()).hexdigest()
    assert weights_sha256({"b": two, "a": one}) == weights_sha256({"a": one, "b": two}) == expected
    wide = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert weights_sha256({"a": np.asfortranarray(wide)}) == weights_sha256({"a": wide})
    others = [{"c": one, "b": two}, {"a": one.T, "b": two}, {"a": one.astype("f8"), "b": two}, {"a": -one, "b": two}]
    assert all(weights_sha256(other) != expected for other in others)
