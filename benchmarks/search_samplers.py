"""Samplers on recorded learning curves: how good a configuration each finds within 10, 20 and 40 proposals.

No scheduler takes part: every proposal is trained in full, and so only the proposals differ. A proposal stands for the
nearest recorded configuration, by the distance that our curve model uses, and gets that configuration's score, the mean
of its last three epochs of `val_mean_iou_foreground`. The regret is the best recorded score minus the best one found.
So few curves in so many dimensions make a coarse landscape: a sampler not ahead of random here may be elsewhere.

The peer is Optuna's random sampler; the band is the mean's 95 % interval over searches with different seeds. Samplers
that take a second per proposal get fewer searches; a sampler whose package is not installed is left out.
`python -m benchmarks.search_samplers --curves FILE` uses other curves of the space `cpu`.
"""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay.curves import final_score, load_curves
from benchmarks.replay.regret import Band
from benchmarks.results import Result
from benchmarks.search_replay import CURVES
from marsseg.errors import UsageError
from marsseg.jobs.shipped import find_space
from marsseg.search.curve_model import featurize
from marsseg.search.engines import SAMPLERS, build_proposer, check_sampler_is_installed
from marsseg.search.proposer import Observation, Proposer, proposal_seed
from marsseg.search.simulation import Curve
from marsseg.search.space_file import load_space
from marsseg.training.runtime import available_cores, import_tensorflow_quietly

PROPOSALS = 40
_LOOKS = (10, 20, PROPOSALS)
_PEER = ("optuna", "random")
_SLOW = {"gp", "bayesian"}
_SLOW_SHARE = 10


def main() -> None:
    """A row for each sampler."""
    parser = argparse.ArgumentParser(prog="search_samplers")
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--searches", type=int, default=200)
    options = parser.parse_args()
    curves = load_curves(options.curves)
    others = [(engine, name) for engine, names in SAMPLERS.items() for name in names if name != "random"]
    names = [_PEER, *(other for other in others if _is_installed(other[1]))]
    peer: list[float] = []
    # Fresh processes: TensorFlow, which Keras Tuner imports, does not survive a fork.
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        for engine, sampler in names:
            searches = options.searches // (_SLOW_SHARE if sampler in _SLOW else 1)
            rows = np.array(list(pool.map(partial(search, curves, engine, sampler), range(searches))))
            peer = peer or list(rows[:, -1])
            band = Band.of(list(rows[:, -1]))
            means = dict(zip((f"after_{look}" for look in _LOOKS), rows.mean(axis=0).round(4).tolist(), strict=True))
            Result(
                "search_samplers",
                f"{engine} {sampler}, {PROPOSALS} proposals",
                "regret",
                [band.mean],
                [float(np.mean(peer))],
                " ".join(_PEER),
                details={"searches": searches, **means, "band": f"{band.low:.4f} … {band.high:.4f}"},
            ).report()


def search(curves: Sequence[Curve], engine: str, sampler: str, seed: int) -> list[float]:
    """The regret of one search after each number of proposals in `_LOOKS`.

    Args:
        curves: The recorded curves.
        engine: The engine that has the sampler.
        sampler: The sampler's name.
        seed: The search's random seed.
    """
    proposer, told = _proposer(engine, sampler), list[Observation]()
    scores = [final_score(curve) for curve in curves]
    for number in range(PROPOSALS):
        values = proposer.propose(told, proposal_seed(seed, number))
        told.append(Observation(values, scores[nearest(values, [curve.values for curve in curves])]))
    found = [observation.score or 0.0 for observation in told]
    return [max(scores) - max(found[:look]) for look in _LOOKS]


def nearest(values: Mapping[str, Any], recorded: Sequence[Mapping[str, Any]]) -> int:
    """The index of the recorded configuration most like this one; ties go to the first.

    Args:
        values: By dotted path; parameters that the recorded configurations lack do not count.
        recorded: The recorded configurations.
    """
    known = {name for configuration in recorded for name in configuration}
    features = featurize([{name: values[name] for name in known & values.keys()}, *recorded])
    return int(np.argmin(((features[1:] - features[0]) ** 2).sum(axis=1)))


def _is_installed(sampler: str) -> bool:
    try:
        check_sampler_is_installed(sampler)
    except UsageError:
        return False
    return True


@cache
def _proposer(engine: str, sampler: str) -> Proposer:
    if engine == "keras-tuner":
        # Otherwise it would import TensorFlow with all its notices.
        import_tensorflow_quietly()
    return build_proposer(engine, sampler, load_space(find_space("cpu")))


if __name__ == "__main__":
    main()
