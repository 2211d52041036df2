"""The settings a study was started with: plain values in the ledger, enough to resume it after a kill."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marsseg.config import ExperimentConfig, changed_fields, parse_config
from marsseg.search.budget import Budget
from marsseg.search.objectives import SCORE
from marsseg.search.plan import Plan
from marsseg.search.scheduler import Rungs, Scheduler
from marsseg.search.schedulers import build_scheduler
from marsseg.search.space import Space
from marsseg.search.space_file import parse_space
from marsseg.training.runtime import this_machine


@dataclass(frozen=True)
class Filters:
    """Limits that a configuration must not exceed; None for no limit.

    Args:
        max_params: Parameters of the network.
        max_flops: Floating-point operations of one image's forward pass.
        max_step_ms: Milliseconds of a training step, as a worker measures it before the first epoch.
    """

    max_params: int | None = None
    max_flops: int | None = None
    max_step_ms: float | None = None


@dataclass(frozen=True)
class StudySettings:
    """A search over a space, or a training of fixed recipes.

    Args:
        name: Unique in its ledger.
        uid: Unique everywhere: several ledgers may write to one tracking store.
        kind: `search` or `training`.
        seed: Random seed of the proposals and of the trials' seeds.
        budget: What it may spend.
        engine: `optuna`, or `recipes` for a training.
        sampler: One of the engine's.
        scheduler: Name of a scheduler.
        min_epochs: First rung.
        max_epochs: Full training.
        reduction_factor: Factor from one rung to the next.
        workers: Segments at a time.
        configs: The configs that trials start from: the space's `base`, or each recipe by name.
        space_name: The name of the space.
        space: The space's document.
        pinned: Parameters of the space that the command line fixed at one value.
        num_seeds: For a training: how many seeds every recipe is trained with, its own and the next ones.
        confirms: For a training: the search whose best trials it retrains, or an empty string.
        filters: Limits that no configuration may exceed.
        objectives: The score, and the sizes that count besides.
        fingerprint: Digests of the data, by name.
        plan: What it is expected to spend.
        author: The person's name.
        tags: Values by key.
        note: Why, in words.
        tracking_uri: A server, or None for the embedded store.
    """

    name: str
    uid: str
    kind: str
    seed: int
    budget: Budget
    engine: str
    sampler: str
    scheduler: str
    min_epochs: int
    max_epochs: int
    reduction_factor: int
    workers: int
    configs: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    filters: Filters = Filters()
    objectives: tuple[str, ...] = (SCORE,)
    plan: Plan = field(default_factory=Plan)
    space_name: str = ""
    space: Mapping[str, Any] = field(default_factory=dict)
    pinned: Mapping[str, Any] = field(default_factory=dict)
    num_seeds: int = 1
    confirms: str = ""
    author: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    tracking_uri: str | None = None

    @property
    def rungs(self) -> Rungs:
        """Epoch counts at which trials are compared."""
        return Rungs(self.min_epochs, self.max_epochs, self.reduction_factor)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The objectives besides the score."""
        return self.objectives[1:]

    @property
    def epochs_planned(self) -> int:
        """Epochs that it is expected to spend; 0 with a time budget."""
        return round(self.plan.epochs)

    @property
    def any_config(self) -> ExperimentConfig:
        """One of the configs that trials start from; they share data, cleaning and split."""
        return self.config(next(iter(self.configs)))

    @property
    def in_modelled_order(self) -> bool:
        """Whether results are processed in the order of modelled cost, so that no clock decides what comes next.

        On GPUs the modelled cost does not tell which trial ends first.
        """
        return self.kind == "search" and self.budget.seconds is None and not this_machine().gpus

    @property
    def gpus(self) -> int:
        """The most GPUs that one training run of this study is distributed over."""
        return max((self.config(name).training.gpus for name in self.configs), default=1)

    @property
    def choices(self) -> list[str]:
        """Fields of the config, by dotted path, in which its trials may differ, apart from their seeds."""
        if self.space:
            return list(self.build_space().by_path)
        first, *others = (self.config(name) for name in self.configs)
        return list(dict.fromkeys(path for other in others for path in changed_fields(first, other)))

    @property
    def resume_hint(self) -> str:
        """The command that resumes it, as messages show it."""
        if self.confirms:
            return f"resume with: marsexp search --resume {self.confirms}, with --confirm and --seeds as before"
        return f"resume with: marsexp {'train' if self.kind == 'training' else 'search'} --resume {self.name}"

    @property
    def trials_at_a_time(self) -> int:
        """How many trials are trained at once."""
        return min(self.workers, self.budget.most_trials)

    def build_scheduler(self) -> Scheduler:
        """The scheduler by name."""
        return build_scheduler(self.scheduler, self.rungs, self.budget, self.workers)

    def build_space(self) -> Space:
        """The space, with what was pinned on the command line."""
        return parse_space(self.space, self.space_name).pinned(self.pinned)

    def config(self, name: str) -> ExperimentConfig:
        """The config of this name that trials start from."""
        return parse_config(self.configs[name])

    def recipe_of(self, number: int) -> tuple[str, int]:
        """The recipe's name of a training's trial, and which of its seeds the trial has, counted from 0."""
        recipe, seed = divmod(number, self.num_seeds)
        return list(self.configs)[recipe], seed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StudySettings":
        """The settings as they were stored.

        Raises:
            KeyError, TypeError: If there are too few or too many.
        """
        parsed = {
            "budget": Budget(**values["budget"]),
            "filters": Filters(**values["filters"]),
            "objectives": tuple(values["objectives"]),
            "plan": Plan(**values["plan"]),
        }
        return cls(**{**values, **parsed})
