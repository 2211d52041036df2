"""What a worker process holds: its peak in a segment, and how much it has grown."""

import gc
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from marsseg.training.memory import give_memory_back

_SETTLING_TRAININGS = 5
_MOST_GROWTH = 1.1
# Linux: a "5" in the first sets the peak in the second back to what is resident now.
_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Growth:
    """Compares what this process holds between trainings with what it held after its first five.

    Each network leaves behind what oneDNN keeps for its shapes, and nothing but the end of a process frees that.

    Args:
        trainings: How many there have been.
        settled: Bytes that it held after the first five of them, or after all so far.
    """

    trainings: int = 0
    settled: int = 0

    def is_a_tenth(self) -> bool:
        """Whether it has grown by more than that; asked before each training, with the one before freed."""
        held = psutil.Process().memory_info().rss
        if self.trainings <= _SETTLING_TRAININGS:
            self.settled = held
        self.trainings += 1
        return bool(held > _MOST_GROWTH * self.settled)


def free_memory() -> None:
    """Lets go of what is not referred to any more."""
    # Traced functions refer to each other in circles.
    gc.collect()
    give_memory_back()


def forget_peak() -> None:
    """The peak counts from here, where the system can do that; else it is that of the process so far."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most memory that this process has held, in MiB."""
    with suppress(OSError):
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines())
        return float(fields["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
