"""Importances: the parameter that decides the score stands out, and Optuna prints no warnings."""

import warnings

from marsseg.jobs.shipped import find_space
from marsseg.search.engines import build_proposer
from marsseg.search.importance import parameter_importances
from marsseg.search.proposer import Observation
from marsseg.search.space_file import load_space


def test_what_decides_the_score_matters_most_and_nothing_is_printed() -> None:
    space = load_space(find_space("smoke"))
    proposer = build_proposer("optuna", "random", space)
    observations: list[Observation] = []
    for number in range(80):
        values = proposer.propose(observations, seed=number)
        observations.append(Observation(values, float(values["model.base_filters"])))
    shares = parameter_importances(space, observations)
    assert max(shares, key=shares.__getitem__) == "model.base_filters"
    without, with_decay = (
        [observation for observation in observations if observation.values["optimizer.name"] == name]
        for name in ("adam", "adamw")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parameter_importances(space, [*with_decay[:3], *without[:1]])
