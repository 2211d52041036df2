"""The engines that propose configurations, by name; each is imported only where it is used."""

from marsseg.search.proposer import Proposer
from marsseg.search.space import Space

# The first sampler is the engine's default.
SAMPLERS = {"optuna": ("tpe", "random"), "keras-tuner": ("bayesian", "random")}


def build_proposer(engine: str, sampler: str, space: Space) -> Proposer:
    """An engine's proposer.

    Args:
        engine: `optuna` or `keras-tuner`.
        sampler: One of the engine's.
        space: What may vary.

    Returns:
        The proposer.
    """
    if engine == "keras-tuner":
        from marsseg.search.keras_tuner_proposer import KerasTunerProposer

        return KerasTunerProposer(space, sampler)
    from marsseg.search.optuna_proposer import OptunaProposer

    return OptunaProposer(space, sampler)
