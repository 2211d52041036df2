"""A benchmark's result: the figures, the peer's figures, and the promise.

A benchmark has its script's name; each of its rows is a `Result`, printed by `Result.report` as one line of JSON.
"""

import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import psutil

from marsseg.tracking.provenance import environment
from marsseg.training.runtime import this_machine


@dataclass(frozen=True)
class Promise:
    """The bound that a benchmark has to keep.

    Args:
        limit: The bound, inclusive.
        of: Whether it bounds our own figure, or the ratio to the peer's from below.
    """

    limit: float
    of: Literal["ours", "ratio"] = "ours"


@dataclass(frozen=True)
class Result:
    """One row of a benchmark.

    Args:
        benchmark: The script's name.
        case: The measurement of this row, in a few words.
        unit: The figures' unit: `s`, `ms`, `images/s`, `MiB`.
        ours: Our figures, one per repeat.
        peer: The peer's figures; empty where it is not installed.
        peer_name: The peer's name, with its version where it is installed; None where nothing is compared.
        higher_is_better: True for rates, False for times and sizes.
        promise: The bound to keep, or None.
        details: Further plain values for the line.
    """

    benchmark: str
    case: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str | None = None
    higher_is_better: bool = False
    promise: Promise | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer we are, by the medians; None without a peer."""
        if not self.peer:
            return None
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        better, worse = (ours, peer) if self.higher_is_better else (peer, ours)
        return better / worse

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where there is none, or no peer to compare with."""
        if self.promise is None:
            return None
        if self.promise.of == "ratio":
            return None if self.ratio is None else self.ratio >= self.promise.limit
        ours = statistics.median(self.ours)
        return ours >= self.promise.limit if self.higher_is_better else ours <= self.promise.limit

    @property
    def target(self) -> str | None:
        """The promise in words: `≤ 0.3 s`, `ratio ≥ 2.5`."""
        if self.promise is None:
            return None
        if self.promise.of == "ratio":
            return f"ratio ≥ {self.promise.limit:g}"
        return f"{'≥' if self.higher_is_better else '≤'} {self.promise.limit:g} {self.unit}".rstrip()

    def line(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "benchmark": self.benchmark,
            "case": self.case,
            "unit": self.unit,
            "ours": _short(statistics.median(self.ours)),
            "peer": _short(statistics.median(self.peer)) if self.peer else None,
            "peer_name": self.peer_name,
            "ratio": None if self.ratio is None else _short(self.ratio),
            "repeats": len(self.ours),
            "ours_quartiles": _quartiles(self.ours),
            "peer_quartiles": _quartiles(self.peer) if self.peer else None,
            "target": self.target,
            "met": self.met,
            "machine": machine(),
            "measured": datetime.now(UTC).date().isoformat(),
            **self.details,
        }

    def report(self) -> None:
        """Prints the result as one line of JSON."""
        print(json.dumps(self.line(), ensure_ascii=False, allow_nan=False), flush=True)


def machine() -> dict[str, Any]:
    """The machine measured on, without its name or any path."""
    here = environment()
    # Virtual machines hide their CPU's model, but not its instructions.
    bfloat16 = " and ".join(this_machine().bfloat16_flags) or "no bfloat16"
    gpus = [f", {gpu.name}" for gpu in this_machine().gpus]
    system = platform.freedesktop_os_release()["PRETTY_NAME"] if sys.platform == "linux" else platform.system()
    return {
        "processor": f"{here['processor']} with {bfloat16}{''.join(gpus)}",
        "cores": here["cores"],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": system,
        "python": here["python"],
        "tensorflow": metadata.version("tensorflow"),
        "keras": metadata.version("keras"),
    }


def _quartiles(figures: Sequence[float]) -> list[float]:
    if len(figures) < 2:
        return [_short(figures[0])] * 2
    first, _, third = statistics.quantiles(figures, n=4, method="inclusive")
    return [_short(first), _short(third)]


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
