"""Checkpoints: everything a training run needs to continue, bit for bit, in one file per epoch.

The file is in safetensors format (plain tensors and JSON, nothing that could run code). Its name carries the SHA-256
of its bytes, so that a torn file is detected at once; it is written beside its final place, flushed and
renamed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsseg.errors import CheckpointError
from marsseg.files import write_durably

Tensors = Mapping[str, NDArray[Any]]

# The newest file may be torn by a power cut even though it was flushed; the one before is whole.
_KEPT = 2
_DIGEST_DIGITS = 32
_NAMES = "epoch-*.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after a whole epoch.

    Args:
        epoch: Epochs finished.
        tensors: Arrays by name: weights, average, optimizer slots, dropout generators, best weights.
        state: Plain values: history, best epoch and its confusion matrix.
    """

    epoch: int
    tensors: Tensors
    state: Mapping[str, Any]

    def group(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays whose name starts with `name/`, without that prefix, in the order they were stored in."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def weights_sha256(weights: Tensors) -> str:
    """SHA-256 over (path, shape, dtype, bytes) of each weight, in the order of the paths.

    Args:
        weights: Arrays by path.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted(weights):
        value = np.asarray(weights[path], order="C")
        digest.update(f"{path}{value.shape}{value.dtype.str}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint whole or not at all, and removes all but the newest two.

    Args:
        folder: Where to write it; created if missing.
        checkpoint: The checkpoint to write.

    Returns:
        The file written.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    # safetensors sorts by name and type; the index keeps our own order.
    ordered = {
        f"{index:05d}/{name}": np.asarray(value, order="C")
        for index, (name, value) in enumerate(checkpoint.tensors.items())
    }
    content = save(ordered, metadata={"epoch": str(checkpoint.epoch), "state": json.dumps(checkpoint.state)})
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]
    path = folder / f"epoch-{checkpoint.epoch:05d}-{digest}.safetensors"
    write_durably(path, lambda file: file.write(content))
    others = [file for file in _newest_first(folder) if file != path]
    # Files that are not older were torn, and training resumed from before them; they must not count as kept.
    older = [file for file in others if _epoch(file) < checkpoint.epoch]
    for file in set(others).difference(older[: _KEPT - 1]):
        file.unlink(missing_ok=True)
    return path


def drop_checkpoints(folder: Path, kept: int = 0) -> None:
    """Removes all but the newest checkpoints.

    Args:
        folder: Where checkpoints were written; may be missing.
        kept: Number of checkpoints that stay.
    """
    for file in _newest_first(folder)[kept:]:
        file.unlink(missing_ok=True)


def latest_epoch(folder: Path) -> int:
    """The epoch of the newest checkpoint, whole or not, by its name; 0 where there is none."""
    return max(map(_epoch, folder.glob(_NAMES)), default=0)


def load_latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole.

    Args:
        folder: Where checkpoints were written.

    Returns:
        The checkpoint, or None where there is none yet.

    Raises:
        CheckpointError: If there are files but none of them is whole.
    """
    files = _newest_first(folder)
    for path in files:
        content = path.read_bytes()
        if path.stem.endswith(hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]):
            return _parse(content)
    if files:
        raise CheckpointError(
            f"{folder}: expected a whole checkpoint, found {len(files)} torn; delete it to start again"
        )
    return None


def _epoch(path: Path) -> int:
    return int(path.name.split("-")[1])


def _newest_first(folder: Path) -> list[Path]:
    def age(path: Path) -> tuple[int, int]:
        return _epoch(path), path.stat().st_mtime_ns

    return sorted(folder.glob(_NAMES), key=age, reverse=True)


def _parse(content: bytes) -> Checkpoint:
    from safetensors.numpy import load

    # The header's length is in the first eight bytes, then the header itself, as JSON.
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = {name.split("/", 1)[1]: value for name, value in sorted(load(content).items())}
    return Checkpoint(int(metadata["epoch"]), tensors, json.loads(metadata["state"]))
