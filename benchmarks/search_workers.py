"""Schedulers with 1 to 1,024 workers, on recorded learning curves: how much sooner a search of 1,024 trials ends.

Simulated, since nobody here has that many workers: the schedulers decide as they do in a search, and a clock runs by
modelled cost. The configurations are recorded curves drawn with replacement, each stretched by a factor of its own
(normal with mean 1 and standard deviation 0.05), so that no two are the same. A trial that continues does so on the
worker that holds it, if that one is free. The unit of time is the full training of an average configuration.

A row is one number of workers for the search's default scheduler; the peer is ideal linear speed-up over its own
one-worker search. `regret` is the best configuration's score after full training minus the winner's, both as means of
the last three epochs; the other schedulers are listed beside it, each with its time and its regret.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.replay.curves import final_score, load_curves
from benchmarks.replay.policies import RUNGS
from benchmarks.replay.regret import full_cost
from benchmarks.results import Result
from benchmarks.search_replay import CURVES
from marsseg.search.schedulers import SCHEDULERS, default_scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import TrialState
from marsseg.training.runtime import available_cores

TRIALS = 1024
WORKERS = (1, 4, 16, 64, 256, TRIALS)
_SPREAD = 0.05


def main() -> None:
    """A row for each number of workers."""
    parser = argparse.ArgumentParser(prog="search_workers")
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--scheduler", default=default_scheduler(1), choices=SCHEDULERS)
    options = parser.parse_args()
    curves = load_curves(options.curves)
    cases = [(name, workers) for name in SCHEDULERS for workers in WORKERS]
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        runs = {case: pool.map(partial(search, curves, *case), range(options.draws)) for case in cases}
        found = {case: [statistics.fmean(column) for column in zip(*rows, strict=True)] for case, rows in runs.items()}
    for workers in WORKERS:
        time, regret = found[options.scheduler, workers]
        Result(
            "search_workers",
            f"{workers:,} workers, {options.scheduler}",
            "full trainings long",
            [time],
            [found[options.scheduler, 1][0] / workers],
            "a worker's share of one worker's search",
            details={
                "draws": options.draws,
                "regret": round(regret, 4),
                **{
                    name: f"{found[name, workers][0]:.3g} ({found[name, workers][1]:.3f})"
                    for name in SCHEDULERS
                    if name != options.scheduler
                },
            },
        ).report()


def search(
    curves: Sequence[Curve], scheduler: str, workers: int, seed: int, trials: int = TRIALS
) -> tuple[float, float]:
    """One search.

    Args:
        curves: The recorded curves.
        scheduler: The scheduler's name.
        workers: Number of segments that run at a time.
        seed: Random seed of the draw; all schedulers and numbers of workers get the same draws.
        trials: Configurations to start.

    Returns:
        Its duration in average full training runs, and its winner's regret.
    """
    luck = random.Random(seed)
    drawn = [_stretched(curve, luck.gauss(1, _SPREAD)) for curve in luck.choices(curves, k=trials)]
    *_, end = simulate(SCHEDULERS[scheduler](RUNGS), drawn, trials, workers)
    winner = max(end.state.in_state(TrialState.COMPLETED), key=lambda trial: (trial.score, -trial.number))
    best = max(map(final_score, drawn))
    return end.time * trials / full_cost(drawn), best - final_score(drawn[winner.number])


def _stretched(curve: Curve, factor: float) -> Curve:
    return replace(curve, scores=tuple(score * factor for score in curve.scores))


if __name__ == "__main__":
    main()
