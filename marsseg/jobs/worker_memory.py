"""The memory of a worker process: its peak in a segment, and how much it has grown."""

import gc
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from marsseg.training.memory import give_memory_back

_SETTLING_TASKS = 5
# A worker may grow by a tenth; the next task may add a part of that before the next check.
_MOST_GROWTH = 1.07
# Linux: writing "5" to the first resets the peak in the second to what is resident now.
_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Growth:
    """Compares the memory that a process holds between tasks with that after its first five.

    Each network leaves behind what oneDNN caches for its shapes, and nothing but the end of a process frees that. Where
    freed pages stay with the process, as everywhere but with glibc, a large network counts as growth too.

    Args:
        begun: Tasks so far.
        settled: Bytes held after the first five of them, or after all while there are fewer.
    """

    begun: int = 0
    settled: int = 0

    def begin_task(self, held: int) -> bool:
        """Whether the next task is better left to a fresh process.

        Args:
            held: Bytes that this process holds now, the previous network freed.
        """
        if self.begun <= _SETTLING_TASKS:
            self.settled = held
        self.begun += 1
        return held > _MOST_GROWTH * self.settled


def resident_bytes() -> int:
    """Bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def free_memory() -> None:
    """Frees what is no longer referenced."""
    # Traced functions reference each other in cycles.
    gc.collect()
    give_memory_back()


def forget_peak() -> None:
    """Resets the peak where the system can do that; otherwise it stays that of the whole process."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most memory that this process has held, in MiB."""
    with suppress(OSError):
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines())
        return float(fields["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
