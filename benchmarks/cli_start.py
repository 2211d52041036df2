"""Seconds from starting `marsexp --help` to its end, in a fresh process.

The peers are other commands of the field that are installed along with it: `mlflow --help` and `optuna --help`. Each
command is started by the script that the installer made for it; files are in the operating system's cache.
"""

import sys
from functools import partial
from importlib import metadata
from pathlib import Path

from benchmarks.processes import wall_seconds
from benchmarks.results import Promise, Result
from benchmarks.turns import take_turns

PEERS = ("mlflow", "optuna")
REPEATS = 11


def seconds_of_help(command: str) -> float:
    return wall_seconds([str(Path(sys.executable).with_name(command)), "--help"])


def main() -> None:
    for peer in PEERS:
        ours, theirs = take_turns(
            partial(seconds_of_help, "marsexp"), partial(seconds_of_help, peer), REPEATS, warm_up=1
        )
        Result(
            benchmark="cli_start",
            case=f"marsexp --help against {peer} --help",
            unit="s",
            ours=ours,
            peer=theirs,
            peer_name=f"{peer} {metadata.version(peer)}",
            promise=Promise(0.3),
        ).report()


if __name__ == "__main__":
    main()
