"""Machine, threads and determinism: the settings that must be fixed before TensorFlow computes anything.

Resolving `auto` needs no TensorFlow and happens where a run is created; applying it happens in the process that trains.
"""

import gc
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Literal

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError
from marsseg.garbage import collecting_no_garbage
from marsseg.training.memory import keep_freed_memory
from marsseg.training.precision import Gpu, Machine, choose_precision

# Keras imports these for features that are not used here, such as wrappers for scikit-learn and image galleries: half
# of the time that importing TensorFlow takes.
_NOT_NEEDED = ("matplotlib", "pandas", "scipy", "sklearn")
_CPU_INFO = Path("/proc/cpuinfo")
# Linux, a container, and Linux inside Windows.
_GPU_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/nvidia0"), Path("/dev/dxg"))


def resolve_auto(config: ExperimentConfig, workers: int = 1, machine: Machine | None = None) -> ExperimentConfig:
    """Replaces `auto` by the values that suit a machine.

    Args:
        config: May hold `auto` for precision and threads.
        workers: Number of processes that share the machine's CPU cores.
        machine: By default this one, which is checked only if the precision is `auto`.

    Returns:
        A config without `auto`.
    """
    values: dict[str, object] = {}
    if config.training.precision == "auto":
        values["training.precision"] = choose_precision(machine or this_machine()).precision
    if config.training.threads == "auto":
        values["training.threads"] = max(1, available_cores() // workers)
    return config.with_values(values)


@cache
def this_machine() -> Machine:
    """The facts about this machine; TensorFlow is asked only where there is a GPU driver, since it takes seconds."""
    cpu_info = _CPU_INFO.read_text(encoding="utf-8") if _CPU_INFO.exists() else ""
    return Machine(parse_cpu_flags(cpu_info), _find_gpus() if has_gpu_driver() else ())


def parse_cpu_flags(cpu_info: str) -> frozenset[str]:
    """The first processor's flags in the text of Linux's `/proc/cpuinfo`."""
    for line in cpu_info.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _find_gpus() -> tuple[Gpu, ...]:
    try:
        import_tensorflow_quietly()
    except ImportError:
        # Training will report this; a GPU that nothing can use decides nothing.
        return ()
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    return tuple(
        Gpu(found.get("device_name", device.name), found.get("compute_capability", (0, 0)))
        for device, found in zip(devices, details, strict=True)
    )


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu_driver() -> bool:
    """Whether the machine seems to have an NVIDIA GPU, whether or not TensorFlow can use it."""
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in _GPU_DRIVERS)


def import_tensorflow_quietly(whole: bool = False) -> None:
    """Imports TensorFlow without its start-up notices, some of which no setting keeps off the terminal.

    Args:
        whole: With all of Keras, for a process that runs other code than ours, too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with nullcontext() if whole else _hurried():
            import tensorflow  # noqa: F401  # wanted for its side effects
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


@contextmanager
def _hurried() -> Iterator[None]:
    """Imports the least, and without garbage collection: a million of TensorFlow's objects stay for good.

    Scanning them takes a quarter of the import's time, a third of a second whenever a trial ends, and a whole second
    when the process ends.
    """
    with collecting_no_garbage():
        with _hidden(_NOT_NEEDED):
            yield
        gc.freeze()


@contextmanager
def _hidden(names: Iterable[str]) -> Iterator[None]:
    """Makes these packages seem not to be installed, unless they are imported already."""
    hidden: dict[str, Any] = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def configure_runtime(threads: int | Literal["auto"]) -> None:
    """Makes TensorFlow deterministic on this many threads; once per process, before its first operation.

    On a GPU, TensorFlow then allocates memory as needed, where by default it takes all there is.

    Args:
        threads: The number of threads changes the order of sums, and with it the last bits of every weight.

    Raises:
        TrainingError: If TensorFlow already runs with another number of threads, or the number is `auto`.
    """
    if threads == "auto":
        raise TrainingError("expected a config without 'auto', found training.threads = 'auto'")
    import tensorflow as tf

    # Otherwise oneDNN searches in every step for the best way to compute the gradient of a convolution's weights.
    os.environ.setdefault("TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE", "false")
    keep_freed_memory()
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
    for gpu in tf.config.list_physical_devices("GPU"):
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
