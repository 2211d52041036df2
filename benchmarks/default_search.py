"""Minutes of `marsexp search --budget 40` with everything at its default, and the error of the printed estimate.

One search in a fresh folder, from its command to its end, including plots and models: the space `cpu` on its own 240
tiles of synthetic terrain where there is no GPU. The estimate is the one that the command prints before it trains
anything. The cost of a trial beyond its epochs is the time from the start of the first epoch to the end, minus the
seconds of all epochs, spread over the workers, divided by the number of trials: rebuilt networks, checkpoints, plots,
MLflow, the search's own report, and workers that wait for each other. Tracing is part of the epochs. There is no peer
here: what others do with the same budget is another benchmark's subject.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import fresh_home
from benchmarks.results import Promise, Result
from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger

_BUDGET = 40
_ESTIMATE = re.compile(r"expected to take about (?:(\d+) h )?(\d+) (min|s)")


def main() -> None:
    """Runs one search."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("marsexp")), "search", "--budget", str(_BUDGET), "--json"]
        began = time.time()
        done = subprocess.run(command, env=fresh_home(folder), capture_output=True, text=True, check=False)
        ended = time.time()
        if done.returncode != 0:
            raise RuntimeError(f"marsexp search ended with status {done.returncode}: {done.stderr[-2000:]}")
        document = json.loads(done.stdout)
        beyond_s = seconds_beyond_epochs(Ledger(Home(Path(folder)).ledger), document, ended)
    took_min = (ended - began) / 60
    estimated_min = read_estimate(done.stderr)
    trials = document["trials"]
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
    case = "wall time beyond epochs, a trial, workers that wait included"
    Result("default_search", case, "s", [beyond_s], promise=Promise(3.0)).report()


def seconds_beyond_epochs(ledger: Ledger, document: Mapping[str, Any], ended: float) -> float:
    """The seconds that a trial cost beyond its epochs.

    Args:
        ledger: The ledger that holds the search.
        document: The search's leaderboard.
        ended: Unix time of the search's end.
    """
    name = document["search"]
    trained = [trial["trial"] for trial in document["trials"] if trial["epochs"]]
    epochs = [record for trial in trained for record in ledger.epochs(name, trial)]
    first = min(record["finished_ms"] / 1000 - record["epoch_s"] for record in epochs)
    training_s = sum(record["epoch_s"] for record in epochs) / ledger.settings(name)["workers"]
    return float((ended - first - training_s) / len(trained))


def read_estimate(notices: str) -> float:
    """The minutes that a search's printed estimate gives.

    Raises:
        ValueError: If there is no estimate.
    """
    found = _ESTIMATE.search(notices)
    if found is None:
        raise ValueError(f"expected an estimate, found: {notices[-2000:]}")
    hours, amount, unit = found.groups()
    return 60 * int(hours or 0) + int(amount) / (1 if unit == "min" else 60)


if __name__ == "__main__":
    main()
