"""Figures from separate processes, so that imports and warm caches do not distort them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.sides.settings import Settings
from marsseg.jobs.home import ENVIRONMENT_VARIABLE


def run_fresh(script: str | Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Any:
    """Runs a Python script in a process of its own and reads the JSON value in the last line that it prints.

    Raises:
        RuntimeError: If it fails.
    """
    return json.loads(_finished([sys.executable, str(script), *arguments], environ).splitlines()[-1])


def wall_seconds(command: Sequence[str], environ: Mapping[str, str] | None = None) -> float:
    """The seconds that a command takes, from its start to its end.

    Raises:
        RuntimeError: If it fails.
    """
    start = time.perf_counter()
    _finished(command, environ)
    return time.perf_counter() - start


def fresh_home(folder: str | Path) -> dict[str, str]:
    """The environment of commands with a folder of their own: what names a server or data is not inherited."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MARSEXP_", "MLFLOW_"))}
    return {**environ, ENVIRONMENT_VARIABLE: str(folder)}


def resident_mib(pid: int | None = None) -> float:
    """The memory that a process holds now; by default this one."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


class Side:
    """One side of a comparison, in a process that stays; see `benchmarks.sides`.

    Args:
        process: The side's process, just started.

    Attributes:
        about: Its description of itself.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about = self.ask()

    @property
    def resident_mib(self) -> float:
        """The memory that it holds now."""
        return resident_mib(self._process.pid)

    def ask(self, question: Any = None) -> Any:
        """Its next figure.

        Args:
            question: The input of a side that needs more than its settings; sent as JSON.

        Raises:
            RuntimeError: If the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} has ended; run it to see why")
        return json.loads(answer)


@contextmanager
def side(name: str, settings: Settings | None = None, python: str = sys.executable) -> Iterator[Side]:
    """Starts a side and ends it with the block."""
    command = [python, "-m", f"benchmarks.sides.{name}", *([settings.to_text()] if settings else [])]
    # Importing marsseg has set this here, for us alone; our side sets it for itself.
    environ = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield Side(process)
        finally:
            process.kill()


def torch_python() -> str | None:
    """A Python that has PyTorch: the one that MARSEXP_TORCH_PYTHON names, or this one, or none."""
    return os.environ.get("MARSEXP_TORCH_PYTHON") or (sys.executable if find_spec("torch") else None)


def syne_tune_python() -> str | None:
    """A Python that has Syne Tune, as `benchmarks.sides.syne_tune` needs it: the one MARSEXP_SYNE_TUNE_PYTHON names."""
    return os.environ.get("MARSEXP_SYNE_TUNE_PYTHON")


def _finished(command: Sequence[str], environ: Mapping[str, str] | None) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
