"""Which hyperparameters matter: importances of a space's parameters for the score."""

import warnings
from collections.abc import Sequence

import optuna

from marsseg.search.optuna_proposer import build_study
from marsseg.search.proposer import Observation
from marsseg.search.space import Space

_MIN_TRIALS = 4


def parameter_importances(space: Space, observations: Sequence[Observation]) -> dict[str, float]:
    """The share of the score's variation that each parameter explains (PED-ANOVA, Watanabe et al., 2023).

    Args:
        space: The search space.
        observations: Trials with a score; others are ignored.

    Returns:
        Shares in [0, 1] by dotted path, of the parameters that every trial has; empty where there are too few trials.
    """
    scored = [observation for observation in observations if observation.score is not None]
    if len(scored) < _MIN_TRIALS:
        return {}
    study = build_study(space, scored, optuna.samplers.RandomSampler(seed=0))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        with warnings.catch_warnings():
            # Where a parameter is seldom asked for, the estimate is rough; Optuna would warn on the terminal.
            warnings.simplefilter("ignore", UserWarning)
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (RuntimeError, ValueError):
        # All trials have the same score, or share no parameter.
        return {}
