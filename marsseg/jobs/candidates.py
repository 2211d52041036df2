"""Where a study's configurations come from: proposed from a space, or read from recipes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from marsseg.config import ExperimentConfig
from marsseg.jobs.settings import StudySettings
from marsseg.search.engines import build_proposer
from marsseg.search.proposer import Proposer, observe, proposal_seed
from marsseg.search.space import Space
from marsseg.search.state import SearchState
from marsseg.training.runtime import import_tensorflow_quietly

BASE = "base"


class Candidates(Protocol):
    """Gives a study its next configuration."""

    def propose(self, state: SearchState) -> dict[str, Any]:
        """The values of the next trial, a function of the state alone."""

    def identity(self, values: Mapping[str, Any]) -> str:
        """A key that is equal for two trials of the same configuration.

        Raises:
            ConfigError: If the values do not go together.
        """

    def config(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment config of a trial.

        Raises:
            ConfigError: If the values do not go together.
        """


@dataclass(frozen=True)
class SpaceCandidates:
    """Proposals from a space, by an engine's sampler."""

    settings: StudySettings

    @cached_property
    def _space(self) -> Space:
        return self.settings.build_space()

    @cached_property
    def _base(self) -> ExperimentConfig:
        return self.settings.config(BASE)

    @cached_property
    def _proposer(self) -> Proposer:
        if self.settings.engine == "keras-tuner":
            # By itself it would import TensorFlow with all its messages.
            import_tensorflow_quietly()
        return build_proposer(self.settings.engine, self.settings.sampler, self._space, len(self.settings.sizes))

    def propose(self, state: SearchState) -> dict[str, Any]:
        """The sampler's next proposal."""
        seed = proposal_seed(self.settings.seed, len(state.trials))
        # Random sampling uses no observations, however many there are.
        drawn = self.settings.sampler == "random"
        observations = [] if drawn else observe(state, self.settings.rungs, self.settings.sizes)
        return self._proposer.propose(observations, seed)

    def identity(self, values: Mapping[str, Any]) -> str:
        """The hash of the config without its seed."""
        return self.config(values).config_hash(with_seed=False)

    def config(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """The base config with these values, and a seed derived from them and the search's seed."""
        config = self._base.with_values(values)
        digest = hashlib.sha256(f"{self.settings.seed}:{config.config_hash(with_seed=False)}".encode()).digest()
        return config.with_values({"seed": int.from_bytes(digest[:4], "big") >> 1})


@dataclass(frozen=True)
class RecipeCandidates:
    """Each recipe with each seed, in order; every trial's values name its recipe and seed."""

    settings: StudySettings

    def propose(self, state: SearchState) -> dict[str, Any]:
        """The next recipe and seed."""
        recipe, offset = self.settings.recipe_of(len(state.trials))
        return {"recipe": recipe, "seed": self.settings.config(recipe).seed + offset}

    def identity(self, values: Mapping[str, Any]) -> str:
        """Recipe and seed."""
        return f"{values['recipe']}:{values['seed']}"

    def config(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """The recipe with the seed."""
        return self.settings.config(values["recipe"]).with_values({"seed": values["seed"]})


def build_candidates(settings: StudySettings) -> Candidates:
    """The candidates for the study's engine."""
    return RecipeCandidates(settings) if settings.engine == "recipes" else SpaceCandidates(settings)
