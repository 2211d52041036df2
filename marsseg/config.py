"""The experiment config: everything that decides a training run, as frozen values.

Dotted paths such as `optimizer.learning_rate` name its fields in recipes, in search spaces and in `--set`. Reading
and writing TOML, hashing and overriding live here; what the values mean lives in the rooms that use them.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from marsseg.errors import ConfigError, nearest_name_hint

SYNTHETIC = "synthetic"
PIXELWISE_LOSSES = frozenset({"cross_entropy"})
LossName = Literal["cross_entropy", "dice"]

# Where the data lies is not what is trained on: the data fingerprint says that, so the hash leaves paths out.
_PATH_FIELDS = frozenset({"data.source"})


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _none_by_name(value: Any) -> Any:
    """TOML and both search engines lack a value for `nothing`, so it has a name."""
    return None if value == "none" else value


_Optional = BeforeValidator(_none_by_name)


class DataConfig(_Group):
    """Which images and masks."""

    source: str = SYNTHETIC
    num_classes: int = Field(5, ge=2, le=255)
    train_limit: Annotated[int | None, _Optional] = Field(None, ge=1)
    synthetic_images: int = Field(600, ge=10)
    synthetic_seed: int = Field(0, ge=0)


class CleaningConfig(_Group):
    """Which images are left out before the split."""

    remove_outliers: bool = True


class SplitConfig(_Group):
    """How many images are held out; None means 10 % of the cleaned images each."""

    validation_images: Annotated[int | None, _Optional] = Field(None, ge=1)
    test_images: Annotated[int | None, _Optional] = Field(None, ge=0)
    seed: int = Field(0, ge=0)


class UNetConfig(_Group):
    """A U-Net (Ronneberger et al., 2015, arXiv 1505.04597)."""

    family: Literal["unet"] = "unet"
    num_blocks: int = Field(4, ge=2, le=6)
    base_filters: int = Field(16, ge=1)
    max_filters: int = Field(512, ge=1)
    upsampling: Literal["upsampling2d", "conv2d_transpose"] = "conv2d_transpose"
    skip_connections: bool = True
    se: Literal["none", "encoder", "skip", "bottleneck"] = "none"
    se_reduction_ratio: int = Field(4, ge=1)
    normalization: Literal["batch", "none"] = "batch"
    dropout: float = Field(0.0, ge=0, lt=1)
    predict_background: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.se == "skip" and not self.skip_connections:
            raise ValueError("se = 'skip' needs skip_connections = true")
        if self.se != "none":
            for level in range(self.num_blocks + 1):
                filters = self.filters_at(level)
                if filters % self.se_reduction_ratio:
                    raise ValueError(
                        f"se_reduction_ratio must divide filters: {self.se_reduction_ratio} and {filters} "
                        f"at level {level}"
                    )
        return self

    def filters_at(self, level: int) -> int:
        """Filters at a level: 0 is full size, `num_blocks` the bottleneck."""
        filters: int = self.base_filters * 2**level
        return min(filters, self.max_filters)

    def check_image_fits(self, height: int, width: int) -> None:
        """Refuses an image that cannot be halved `num_blocks` times.

        Raises:
            ConfigError: If a side is not divisible by 2 to the power of `num_blocks`.
        """
        divisor = 2**self.num_blocks
        if height % divisor or width % divisor:
            deepest = max(n for n in range(7) if height % 2**n == 0 and width % 2**n == 0)
            raise ConfigError(
                f"model.num_blocks = {self.num_blocks} needs image sides divisible by {divisor}, "
                f"found {height}x{width}; at most {deepest} blocks fit"
            )


class AugmentationConfig(_Group):
    """Random changes of the training part."""

    flips: bool = False


def _parse_loss_terms(value: Any) -> Any:
    """Reads `dice`, `cross_entropy+dice` and `0.5*cross_entropy+dice` as a table of weights."""
    if not isinstance(value, str):
        return value
    terms: dict[str, float] = {}
    for part in value.split("+"):
        weight, _, name = part.strip().rpartition("*")
        try:
            factor = float(weight) if weight else 1.0
        except ValueError:
            raise ValueError(f"expected NAME or WEIGHT*NAME joined by '+', found '{value}'") from None
        if name.strip() in terms:
            raise ValueError(f"loss '{name.strip()}' stands twice in '{value}'")
        terms[name.strip()] = factor
    return dict(sorted(terms.items()))


class LossConfig(_Group):
    """A weighted sum of losses."""

    terms: Annotated[dict[LossName, float], BeforeValidator(_parse_loss_terms)] = {"cross_entropy": 1.0}
    class_weights: Literal["none", "frequency", "log"] = "none"
    background_weight: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if not self.terms or any(weight <= 0 for weight in self.terms.values()):
            raise ValueError("terms must name at least one loss, each with a weight above 0")
        return self


class OptimizerConfig(_Group):
    """Adam (Kingma & Ba, 2014, arXiv 1412.6980) or AdamW (Loshchilov & Hutter, 2017, arXiv 1711.05101)."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _decay_has_effect(self) -> Self:
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay needs name = 'adamw', found '{self.name}'")
        return self


class ScheduleConfig(_Group):
    """How the learning rate changes; plateau watches `val_mean_iou`."""

    name: Literal["constant", "plateau"] = "constant"
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(5, ge=1)
    min_learning_rate: float = Field(1e-6, ge=0)


class WarmupConfig(_Group):
    """A first stage with its own loss and optimizer; the main stage goes on from its weights."""

    epochs: int = Field(ge=1)
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()


class TrainingConfig(_Group):
    """How long and on what; `auto` is resolved when a run is created."""

    batch_size: int = Field(16, ge=1)
    max_epochs: int = Field(27, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    weight_averaging: bool = True
    early_stopping_patience: Annotated[int | None, _Optional] = Field(None, ge=1)


class ExperimentConfig(_Group):
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
    warmup: WarmupConfig | None = None
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _background_can_be_learned(self) -> Self:
        if self.model.predict_background:
            return self
        for loss in [self.loss, *([self.warmup.loss] if self.warmup else [])]:
            pixelwise = sorted(PIXELWISE_LOSSES & loss.terms.keys())
            if pixelwise and loss.background_weight > 0:
                raise ValueError(
                    f"loss.background_weight must be 0 for {pixelwise[0]} where model.predict_background is false, "
                    f"found {loss.background_weight}"
                )
        return self

    def __hash__(self) -> int:
        return int(self.config_hash()[:15], 16)

    def config_hash(self, *, with_seed: bool = True) -> str:
        """SHA-256 over all values but paths, as hexadecimal digits; `with_seed=False` leaves the seed out, too."""
        left_out = _PATH_FIELDS if with_seed else _PATH_FIELDS | {"seed"}
        values = {path: value for path, value in self.flat().items() if path not in left_out}
        if self.data.source != SYNTHETIC:
            values["data.source"] = "file"
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


def parse_config(tree: Mapping[str, Any], where: str = "config") -> ExperimentConfig:
    """A config from nested plain values, as read from TOML or JSON.

    Raises:
        ConfigError: If a key is unknown (the nearest name is suggested) or a value is not allowed.
    """
    try:
        return ExperimentConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, tree)}") from None


def load_recipe(path: Path) -> ExperimentConfig:
    """Reads a recipe: a TOML file that names the values that differ from the defaults.

    Raises:
        ConfigError: If the file cannot be read, is no TOML, or holds a key or a value that is not allowed.
    """
    return parse_config(read_toml(path), where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: If the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, found {error}") from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Splits `optimizer.learning_rate=1e-4` into path and value; the value is read as TOML, else taken as a string.

    Raises:
        ConfigError: If there is no `=`.
    """
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set: expected path=value, found '{text}'")
    value = value.strip()
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path.strip(), value


def changed_fields(first: ExperimentConfig, second: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """The dotted paths whose values differ, each with both values; a path that one side lacks has None there."""
    one, two = first.flat(), second.flat()
    paths = dict.fromkeys([*one, *two])
    return {path: (one.get(path), two.get(path)) for path in paths if one.get(path) != two.get(path)}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key == "terms":
            yield path, "+".join(name if weight == 1 else f"{weight}*{name}" for name, weight in sorted(value.items()))
        elif isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            yield path, value


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
    path = ".".join(_field_path(location)) or "values"
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    if isinstance(found, Mapping | BaseModel):
        return f"{path}: {message}"
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
