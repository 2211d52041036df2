"""Figures from processes of their own, where imports and warm caches would spoil them."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_fresh(script: str | Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Any:
    """Runs a Python script in a process of its own and reads the JSON value in the last line that it prints.

    Raises:
        RuntimeError: If it fails.
    """
    return json.loads(_finished([sys.executable, str(script), *arguments], environ).splitlines()[-1])


def wall_seconds(command: Sequence[str], environ: Mapping[str, str] | None = None) -> float:
    """How long a command takes, from its start to its end.

    Raises:
        RuntimeError: If it fails.
    """
    start = time.perf_counter()
    _finished(command, environ)
    return time.perf_counter() - start


def _finished(command: Sequence[str], environ: Mapping[str, str] | None) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
