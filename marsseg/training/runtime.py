"""Precision, threads and determinism: what has to be settled before TensorFlow computes anything.

Resolving `auto` needs no TensorFlow and happens where a run is created; applying it happens in the process that trains.
"""

import os
import shutil
import sys
from pathlib import Path

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError

_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")
# Linux, a container, and Linux inside Windows.
_GPU_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/nvidia0"), Path("/dev/dxg"))


def resolve_auto(config: ExperimentConfig, workers: int = 1) -> ExperimentConfig:
    """Replaces `auto` by what this machine offers.

    Args:
        config: May hold `auto` for precision and threads.
        workers: Processes that share the machine's processor cores.

    Returns:
        A config without `auto`.
    """
    values: dict[str, object] = {}
    if config.training.precision == "auto":
        values["training.precision"] = "bfloat16" if bfloat16_flags() else "float32"
    if config.training.threads == "auto":
        values["training.threads"] = max(1, available_cores() // workers)
    return config.with_values(values)


def bfloat16_flags() -> list[str]:
    """What makes bfloat16 fast on this processor, by the name of its flags; empty where nothing does."""
    return sorted(_cpu_flags() & _BFLOAT16_CPU_FLAGS)


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu_driver() -> bool:
    """Whether the machine seems to have an NVIDIA GPU, whatever TensorFlow makes of it."""
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in _GPU_DRIVERS)


def count_gpus() -> int:
    """GPUs that TensorFlow can use; it is asked only where there is a driver, since importing it takes seconds."""
    if not has_gpu_driver():
        return 0
    import_tensorflow_quietly()
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def _cpu_flags() -> set[str]:
    if not _CPU_INFO.exists():
        return set()
    for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up notices, some of which no setting of its own keeps off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        import tensorflow  # noqa: F401  # wanted for its side effects
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


def configure_runtime(threads: int) -> None:
    """Makes TensorFlow deterministic on this many threads; once a process, before its first operation.

    Args:
        threads: The number of threads changes the order of sums, and with it the last bits of every weight.

    Raises:
        TrainingError: If TensorFlow already runs with another number of threads.
    """
    import tensorflow as tf

    threading = tf.config.threading
    try:
        if threading.get_intra_op_parallelism_threads() != threads:
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        found = threading.get_intra_op_parallelism_threads()
        raise TrainingError(
            f"this process already computes with {found or 'all'} threads, expected {threads}; use a new process"
        ) from None
    tf.config.experimental.enable_op_determinism()


def apply_precision(precision: str) -> None:
    """Sets the type that layers built from now on compute in; their weights stay float32."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
