"""What a study was started with: plain values in the ledger, enough to go on after a kill."""

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
    """What a configuration must not exceed; None for no limit.

    Args:
        max_params: Weights.
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
        seed: Decides proposals and the trials' own seeds.
        budget: What it may spend.
        engine: `optuna`, or `recipes` for a training.
        sampler: One of the engine's.
        scheduler: Name of a scheduler.
        min_epochs: First rung.
        max_epochs: Full training.
        reduction_factor: From one rung to the next.
        workers: Segments at a time.
        configs: What trials start from: the space's `base`, or each recipe by name.
        space_name: How the space is called.
        space: The space's document.
        pinned: Parameters of the space that the command line gave one value.
        num_seeds: For a training: how many seeds every recipe is trained with, its own and the next ones.
        confirms: For a training: the search whose best it trains again, or an empty string.
        filters: What no configuration may exceed.
        objectives: What it is for: the score, and what counts besides.
        fingerprint: Of the data, by part.
        plan: What it is expected to spend.
        author: Who.
        tags: Why, as key and value.
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
        """Where trials are compared."""
        return Rungs(self.min_epochs, self.max_epochs, self.reduction_factor)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The objectives besides the score."""
        return self.objectives[1:]

    @property
    def epochs_planned(self) -> int:
        """Epochs that it is expected to spend; 0 with a limit in hours."""
        return round(self.plan.epochs)

    @property
    def takes_turns(self) -> bool:
        """Whether results are taken in the order of modelled cost: they decide what comes next, and no clock does.

        On GPUs the modelled cost does not tell who ends first.
        """
        return self.kind == "search" and self.budget.seconds is None and not this_machine().gpus

    @property
    def gpus(self) -> int:
        """GPUs that a training of this study is spread over, at most."""
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
        """What to type to go on."""
        if self.confirms:
            return f"go on with: marsexp search --resume {self.confirms}, with --confirm and --seeds as before"
        return f"go on with: marsexp {'train' if self.kind == 'training' else 'search'} --resume {self.name}"

    def build_scheduler(self) -> Scheduler:
        """The scheduler by name."""
        return build_scheduler(self.scheduler, self.rungs, self.budget, self.workers)

    def build_space(self) -> Space:
        """The space, with what was pinned on the command line."""
        return parse_space(self.space, self.space_name).pinned(self.pinned)

    def config(self, name: str) -> ExperimentConfig:
        """What trials start from."""
        return parse_config(self.configs[name])

    def recipe_of(self, number: int) -> tuple[str, int]:
        """Of a training's trial: the recipe's name, and which of its seeds it has, counted from 0."""
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
