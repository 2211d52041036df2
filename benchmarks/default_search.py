"""Minutes that `marsexp search --budget 40` takes, everything at its default, and how far the printed estimate was off.

One search in a fresh folder, from its command to its end, pictures and models included: the space `cpu` on its own
240 tiles of synthetic terrain where there is no GPU. The estimate is what the command says before it trains anything.
Nobody else's search is run beside it: what others do with the same budget is another benchmark's.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import fresh_home
from benchmarks.results import Promise, Result

_BUDGET = 40
_ESTIMATE = re.compile(r"expected to take about (?:(\d+) h )?(\d+) (min|s)")


def main() -> None:
    """Searches once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("marsexp")), "search", "--budget", str(_BUDGET), "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, env=fresh_home(folder), capture_output=True, text=True, check=False)
        took_min = (time.perf_counter() - began) / 60
    if done.returncode != 0:
        raise RuntimeError(f"marsexp search ended with status {done.returncode}: {done.stderr[-2000:]}")
    estimated_min = read_estimate(done.stderr)
    trials = json.loads(done.stdout)["trials"]
    details = {"epochs": sum(trial["epochs"] for trial in trials), "trials": len(trials)}
    Result(
        "default_search", f"budget {_BUDGET}, all defaults", "min", [took_min], promise=Promise(20.0), details=details
    ).report()
    Result(
        "default_search",
        "the printed estimate, relative error",
        "",
        [abs(estimated_min / took_min - 1)],
        promise=Promise(0.3),
        details={"estimated_min": estimated_min},
    ).report()


def read_estimate(notices: str) -> float:
    """The minutes that a search says it will take.

    Raises:
        ValueError: If it does not say.
    """
    found = _ESTIMATE.search(notices)
    if found is None:
        raise ValueError(f"expected an estimate, found: {notices[-2000:]}")
    hours, amount, unit = found.groups()
    return 60 * int(hours or 0) + int(amount) / (1 if unit == "min" else 60)


if __name__ == "__main__":
    main()
