"""Search policies on recorded learning curves: what each hands over for a share of the cost of full training.

A draw takes two thirds of the curves, at most 40, in random order; every policy gets the configurations in that order,
and may spend a share of the cost of training all of them in full. It hands over the checkpoint with the highest score,
the mean of its last three epochs of `val_mean_iou_foreground`; the regret is the best configuration's score after full
training, minus that score. Costs are in epochs, and in modelled cost: the latter counts each configuration's own cost
per epoch, and the building of a network each time a worker switches to another configuration. The peers run as
themselves, in the libraries' own loops.

A further row is a search as `--budget 40` runs it: every configuration is started, the winner is the completed trial
with the best epoch, and it is compared with promotion, each at its own cost.

Every third curve was kept aside: our scheduler's settings were chosen on the others. The curves kept aside were first
evaluated after that, again after each later mending of the scheduler, and once to compare another curve model, which
was not taken (ADR 13). Intervals treat draws as independent, but two draws share most of their curves: they hold for
these curves, and say less about others. *top k* trains all for r epochs and the best k of them in full; r is chosen
with hindsight, separately for each draw and cost. Keras Tuner's Hyperband takes 27 configurations for its first
bracket: it is left out for smaller draws, and after that bracket it asks for more configurations than a draw has.
`python -m benchmarks.search_replay --curves FILE` uses other curves, `--draws N` fewer draws; `make bench` uses
`benchmarks/curves.jsonl`.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from fractions import Fraction
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.replay.curves import draws, final_score, load_curves
from benchmarks.replay.figure import OURS
from benchmarks.replay.peers import peers
from benchmarks.replay.policies import RUNGS, Policy, ours
from benchmarks.replay.regret import Band, full_cost, regrets
from benchmarks.results import Promise, Result
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost
from marsseg.training.runtime import available_cores

SHARES = tuple(Fraction(1, part) for part in (12, 8, 6, 4, 3))
CURVES = Path(__file__).parent / "curves.jsonl"
# Policies that act differently with a larger budget; for the others one run covers every budget.
_PLANNING = {OURS, "top 1", "top 2"}
_PROMISES = {Fraction(1, 6): Promise(0.02), Fraction(1, 4): Promise(0.015)}
_CLOSE, _CLOSE_PROMISES = 0.01, {Fraction(1, 4): Promise(0.65)}
_BEFORE = "asha"


def main() -> None:
    """Replays, and reports a row for each budget."""
    parser = argparse.ArgumentParser(prog="search_replay")
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    curves = load_curves(options.curves)
    aside = curves[2::3]
    for part, some in (("tuned on", [curve for curve in curves if curve not in aside]), ("kept aside", aside)):
        for currency in ("epochs", "modelled cost"):
            found = replay(some, options.draws, currency == "epochs")
            for index, share in enumerate(SHARES):
                _report(share, currency, part, {name: rows[index] for name, rows in found.items()})
        _report_as_searched(part, list(draws(some, options.draws)))


def replay(curves: Sequence[Curve], number: int, in_epochs: bool) -> dict[str, list[list[float]]]:
    """All policies over all draws.

    Args:
        curves: The curves to draw from.
        number: Number of draws.
        in_epochs: Whether every epoch costs the same and a start nothing.

    Returns:
        By policy: for each share the regrets, one per draw.
    """
    if in_epochs:
        curves = [replace(curve, cost=Cost(1.0)) for curve in curves]
    # Fresh processes: TensorFlow, which Keras Tuner imports, does not survive a fork.
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        rows = list(pool.map(_regrets_of_draw, list(draws(curves, number)), range(number)))
    return {name: [[row[name][index] for row in rows] for index in range(len(SHARES))] for name in rows[0]}


@cache
def _policies(configurations: int) -> dict[str, Policy]:
    return {**ours(), **peers(configurations)}


def _regrets_of_draw(curves: Sequence[Curve], seed: int) -> dict[str, list[float]]:
    limits = [float(share) * full_cost(curves) for share in SHARES]
    found = {}
    for name, policy in _policies(len(curves)).items():
        if name in _PLANNING:
            found[name] = [regrets(curves, policy(curves, limit, seed), [limit])[0] for limit in limits]
        else:
            found[name] = regrets(curves, policy(curves, limits[-1], seed), limits)
    return found


def _report_as_searched(part: str, drawn: Sequence[Sequence[Curve]]) -> None:
    """Prints a row: the default with a budget in configurations, beside promotion, which was the default before."""
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        found = {name: list(zip(*pool.map(partial(search, name), drawn), strict=True)) for name in (OURS, _BEFORE)}
    (ours, our_share), (theirs, their_share) = found[OURS], found[_BEFORE]
    behind = Band.of([their - our for their, our in zip(theirs, ours, strict=True)])
    Result(
        "search_replay",
        f"--budget: every configuration begun, the winner handed over, curves {part}",
        "regret",
        [Band.of(ours).mean],
        [Band.of(theirs).mean],
        _BEFORE,
        details={
            "draws": len(drawn),
            "share_of_full_training": round(statistics.fmean(our_share), 3),
            "share_of_the_other": round(statistics.fmean(their_share), 3),
            "the_other_is_behind_by": f"{behind.low:.4f} … {behind.high:.4f}",
        },
    ).report()


def search(scheduler: str, curves: Sequence[Curve]) -> tuple[float, float]:
    """A search as `--budget` with this many configurations runs it.

    Args:
        scheduler: The scheduler's name.
        curves: The configurations in their order.

    Returns:
        The winner's regret after full training, and the share of full training's modelled cost that was spent.
    """
    *_, end = simulate(SCHEDULERS[scheduler](RUNGS), curves, len(curves))
    winner = end.state.winner
    score = final_score(curves[winner.number]) if winner else 0.0
    return max(map(final_score, curves)) - score, end.cost / full_cost(curves)


def _report(share: Fraction, currency: str, part: str, found: Mapping[str, Sequence[float]]) -> None:
    """Prints a row: our mean regret beside that of the best other policy; all others in its details."""
    bands = {name: Band.of(figures) for name, figures in found.items()}
    ahead = {
        name: Band.of([theirs - mine for theirs, mine in zip(figures, found[OURS], strict=True)])
        for name, figures in found.items()
        if name != OURS
    }
    best_peer = min(ahead, key=lambda name: bands[name].mean)
    close = statistics.fmean(regret <= _CLOSE for regret in found[OURS])
    Result(
        "search_replay",
        f"{share} of full training in {currency}, curves {part}",
        "regret",
        [bands[OURS].mean],
        [bands[best_peer].mean],
        best_peer,
        promise=_PROMISES.get(share),
        details={
            "share": str(share),
            "currency": currency,
            "curves": part,
            "draws": len(found[OURS]),
            "share_within_0.01": round(close, 3),
            "beaten_by": ", ".join(name for name, band in ahead.items() if band.high < 0) or "none",
            "policies": {
                name: {"regret": asdict(bands[name]), "behind_ours": asdict(ahead[name])}
                if name in ahead
                else {"regret": asdict(bands[name])}
                for name in found
            },
        },
    ).report()
    if share in _CLOSE_PROMISES:
        Result(
            "search_replay",
            f"draws within {_CLOSE} of the best, {share} of full training in {currency}, curves {part}",
            "share",
            [close],
            higher_is_better=True,
            promise=_CLOSE_PROMISES[share],
        ).report()


if __name__ == "__main__":
    main()
