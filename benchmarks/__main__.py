"""Runs benchmarks one after another, keeps each one's lines as they come, and writes the page.

`python -m benchmarks` runs the benchmarks without a result from this machine, so that it resumes after an interruption;
once all have one it starts again. `python -m benchmarks cli_start` runs the benchmarks named. New lines replace those
of the same benchmark from this machine; those from other machines stay.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import draw_pictures, render_page
from benchmarks.results import machine

# In the order of the page.
BENCHMARKS = (
    "throughput",
    "first_step",
    "validation",
    "blocks",
    "step_cost",
    "precision_quality",
    "scaling",
    "search_replay",
    "search_samplers",
    "search_workers",
    "search_live",
    "default_search",
    "trial_overhead",
    "search_overhead",
    "tracking_overhead",
    "memory",
    "leaderboard",
    "cli_start",
)
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "docs" / "benchmarks.md"


def main(names: Sequence[str]) -> int:
    """Runs the benchmarks named, or those without a result from this machine.

    Args:
        names: Names of benchmarks; none for all.

    Returns:
        The exit status: 0 done, 1 a benchmark failed, 2 a name is unknown.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"benchmarks: expected some of {', '.join(BENCHMARKS)}, found {', '.join(unknown)}", file=sys.stderr)
        return 2
    known = {result["benchmark"] for result in read_results(RESULTS) if result["machine"] == machine()}
    failed = []
    for name in names or [name for name in BENCHMARKS if name not in known] or BENCHMARKS:
        print(f"benchmarks: {name}", file=sys.stderr)
        lines = run_benchmark(name)
        if lines is None:
            failed.append(name)
            continue
        replace_results(RESULTS, name, lines)
        draw_pictures(read_results(RESULTS), PAGE.parent / "pictures")
        PAGE.write_text(render_page(read_results(RESULTS), BENCHMARKS), encoding="utf-8")
    if failed:
        print(f"benchmarks: {', '.join(failed)} failed; the other results are kept", file=sys.stderr)
    return 1 if failed else 0


def run_benchmark(name: str) -> list[str] | None:
    """Runs a script in a process of its own and passes on its lines.

    Returns:
        The lines that are results, or None if it failed.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("{"):
                lines.append(line.strip())
    return lines if process.returncode == 0 and lines else None


def read_results(path: Path) -> list[dict[str, Any]]:
    """All results that are kept."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def replace_results(path: Path, benchmark: str, lines: Sequence[str]) -> None:
    """Replaces this machine's earlier lines of a benchmark; the file is whole at any moment."""
    replaced = (benchmark, machine())
    others = [
        json.dumps(result, ensure_ascii=False)
        for result in read_results(path)
        if (result["benchmark"], result["machine"]) != replaced
    ]
    new = path.with_suffix(".part")
    new.write_text("".join(f"{line}\n" for line in [*others, *lines]), encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("benchmarks: stopped; resume with the same command", file=sys.stderr)
        status = 130
    sys.exit(status)
