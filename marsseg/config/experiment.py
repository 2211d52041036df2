"""The experiment config as a whole: its groups together, its hash, and its fields by dotted path.

Dotted paths such as `optimizer.learning_rate` name fields in recipes, in search spaces and in `--set`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from marsseg.config.groups import (
    PIXELWISE_LOSSES,
    AugmentationConfig,
    CleaningConfig,
    DataConfig,
    Group,
    LossConfig,
    NoneByName,
    OptimizerConfig,
    ScheduleConfig,
    SplitConfig,
    TrainingConfig,
    UNetConfig,
    WarmupConfig,
)
from marsseg.errors import ConfigError, nearest_name_hint


class ExperimentConfig(Group):
    """Everything that decides a training run.

    Frozen and hashable; two configs are equal if and only if all their values are. Defaults never change within a
    `schema_version`.
    """

    schema_version: Literal[1] = 1
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    cleaning: CleaningConfig = CleaningConfig()
    split: SplitConfig = SplitConfig()
    model: UNetConfig = UNetConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    warmup: Annotated[WarmupConfig | None, NoneByName] = None
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup and self.warmup.epochs >= self.training.max_epochs:
            raise ValueError(
                f"warmup.epochs must be below training.max_epochs: {self.warmup.epochs} and {self.training.max_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _schedules_fit(self) -> Self:
        stage = self.first_stage
        if stage:
            stage.schedule.check_fits(stage.epochs)
        self.schedule.check_fits(self.training.max_epochs - (stage.epochs if stage else 0))
        return self

    @model_validator(mode="after")
    def _output_weights_have_effect(self) -> Self:
        if self.model.family != "dual_unet":
            for field in ("fine_output_weight", "global_output_weight"):
                for loss in [self.loss, *([self.first_stage.loss] if self.first_stage else [])]:
                    if getattr(loss, field) != LossConfig.model_fields[field].default:
                        raise ValueError(f"loss.{field} needs model.family = 'dual_unet', found '{self.model.family}'")
        return self

    @model_validator(mode="after")
    def _patches_have_donors(self) -> Self:
        if self.augmentation.cutmix and self.training.batch_size == 1:
            raise ValueError("augmentation.cutmix needs training.batch_size above 1, another image to cut from")
        return self

    @model_validator(mode="after")
    def _background_can_be_learned(self) -> Self:
        if self.model.predict_background:
            return self
        for loss in [self.loss, *([self.first_stage.loss] if self.first_stage else [])]:
            pixelwise = sorted(PIXELWISE_LOSSES & dict(loss.terms).keys())
            if pixelwise and loss.background_weight > 0:
                raise ValueError(
                    f"loss.background_weight must be 0 for {pixelwise[0]} where model.predict_background is false, "
                    f"found {loss.background_weight}"
                )
        return self

    @property
    def first_stage(self) -> WarmupConfig | None:
        """The warm-up; None where it has no epochs, which a search may propose."""
        return self.warmup if self.warmup and self.warmup.epochs else None

    def __hash__(self) -> int:
        return int(self.config_hash()[:15], 16)

    def config_hash(self, *, with_seed: bool = True) -> str:
        """SHA-256, as hexadecimal digits, over the values that differ from the defaults.

        Paths are left out, so that data may move; so are defaults, which never change within a schema version, so that
        a field that a later version adds does not change the hash of a config without it.

        Args:
            with_seed: Whether the seed counts.
        """
        defaults = _defaults()
        flat = self.model_copy(update={"warmup": self.first_stage}).flat()
        values = {path: value for path, value in flat.items() if path not in defaults or value != defaults[path]}
        values["schema_version"] = self.schema_version
        if "data.source" in values:
            values["data.source"] = "file"
        if not with_seed:
            values.pop("seed", None)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """All values by dotted path, in a fixed order; a loss's terms stand as `0.5*cross_entropy+dice`."""
        return dict(_flatten(self.model_dump(mode="json")))

    def with_values(self, values: Mapping[str, Any]) -> "ExperimentConfig":
        """A copy with some values replaced by dotted path.

        Raises:
            ConfigError: If a path does not exist (the nearest name is suggested) or a value is not allowed.
        """
        tree = self.model_dump(mode="json")
        for path, value in values.items():
            _replace(tree, path, value)
        return parse_config(tree)

    def to_json(self) -> str:
        """The config as a JSON document."""
        return json.dumps(self.model_dump(mode="json"), indent=2)

    def to_toml(self) -> str:
        """The config as a TOML document; what is None is left out, since TOML has no such value."""
        import tomli_w

        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


@cache
def _defaults() -> dict[str, Any]:
    warmup = dict(_flatten(WarmupConfig(epochs=1).model_dump(mode="json"), "warmup."))
    warmup.pop("warmup.epochs")
    return {**ExperimentConfig().flat(), **warmup}


def parse_config(tree: Mapping[str, Any], where: str = "config") -> ExperimentConfig:
    """A config from nested plain values, as read from TOML or JSON.

    Raises:
        ConfigError: If a key is unknown (the nearest name is suggested) or a value is not allowed.
    """
    try:
        return ExperimentConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, tree)}") from None


def changed_fields(first: ExperimentConfig, second: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """The dotted paths whose values differ, each with both values; a path that one side lacks has None there."""
    one, two = first.flat(), second.flat()
    paths = dict.fromkeys([*one, *two])
    return {path: (one.get(path), two.get(path)) for path in paths if one.get(path) != two.get(path)}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key == "terms":
            yield path, "+".join(_loss_term(name, weight) for name, weight in sorted(value.items()))
        elif isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            # -0.0 equals 0.0, so it must not have another hash.
            yield path, value + 0.0 if isinstance(value, float) else value


def _loss_term(name: str, weight: float) -> str:
    # The plus of 1e+16 would read as the beginning of the next term.
    return name if weight == 1 else f"{weight}*{name}".replace("e+", "e")


def _replace(tree: dict[str, Any], path: str, value: Any) -> None:
    *groups, field = path.split(".")
    node = tree
    for depth, group in enumerate(groups):
        known = _known_keys(groups[:depth])
        if group not in known:
            raise ConfigError(f"unknown field '{path}'{nearest_name_hint(group, known)}")
        if node.get(group) is None:
            node[group] = {}
        node = node[group]
        if not isinstance(node, dict):
            raise ConfigError(f"unknown field '{path}'; '{group}' has no fields of its own")
    known = _known_keys(groups)
    if known and field not in known:
        raise ConfigError(f"unknown field '{path}'{nearest_name_hint(field, known)}")
    node[field] = value


def _known_keys(groups: list[str]) -> list[str]:
    """The field names of the group at this path; empty where any key may stand, as in a table of loss terms."""
    model: type[BaseModel] = ExperimentConfig
    for group in groups:
        annotation = model.model_fields[group].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        models = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _first_problem(error: ValidationError, tree: Mapping[str, Any]) -> str:
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{'.'.join(location)}'{nearest_name_hint(location[-1], _known_keys(location[:-1]))}"
    path = ".".join(_field_path(location))
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    if isinstance(found, Mapping | BaseModel):
        return f"{path}: {message}" if path else message
    return f"{path}: {message[0].lower()}{message[1:]}, found {found!r}"


def _field_path(location: list[str]) -> list[str]:
    """The part of a pydantic location that names fields; what follows names members of a union."""
    for depth, part in enumerate(location):
        if part not in _known_keys(location[:depth]):
            return location[:depth]
    return location


def _without_none(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {key: _without_none(value) for key, value in tree.items() if value is not None}
