"""The engines that propose configurations, by name; each is imported only where it is used."""

from importlib.util import find_spec

from marsseg.errors import UsageError
from marsseg.search.proposer import Proposer
from marsseg.search.space import Space

# The first sampler is the engine's default.
SAMPLERS = {"optuna": ("tpe", "gp", "cmaes", "nsga2", "random"), "keras-tuner": ("bayesian", "random")}

# Samplers that take several objectives; the others model one score.
SAMPLERS_OF_SEVERAL_OBJECTIVES = {"optuna": ("tpe", "gp", "nsga2", "random"), "keras-tuner": ("random",)}

# Samplers that need a package that is not installed by default, but by an extra named after the sampler.
_NEEDED_PACKAGES = {"gp": "torch", "cmaes": "cmaes"}


def check_sampler_is_installed(sampler: str) -> None:
    """Refuses a sampler that lacks its package, without importing anything.

    Raises:
        UsageError: If the package is not installed.
    """
    package = _NEEDED_PACKAGES.get(sampler)
    if package is not None and find_spec(package) is None:
        raise UsageError(
            f"--sampler {sampler}: expected the package {package}, found none; pip install 'marsexp[{sampler}]'"
        )


def build_proposer(engine: str, sampler: str, space: Space, num_sizes: int = 0) -> Proposer:
    """An engine's proposer.

    Args:
        engine: `optuna` or `keras-tuner`.
        sampler: One of the engine's samplers.
        space: What may vary.
        num_sizes: Number of size objectives besides the score; only for a sampler of `SAMPLERS_OF_SEVERAL_OBJECTIVES`.

    Returns:
        The proposer.
    """
    if engine == "keras-tuner":
        from marsseg.search.keras_tuner_proposer import KerasTunerProposer

        return KerasTunerProposer(space, sampler)
    from marsseg.search.optuna_proposer import OptunaProposer

    return OptunaProposer(space, sampler, num_sizes)
