"""Search spaces: which fields of the experiment config vary, over which values, and under which condition.

A space is a plain, frozen value. `space_file.py` reads it from TOML; each engine's proposer renders it to the engine's
own distributions.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.errors import ConfigError, SpaceError

Value = bool | int | float | str


@dataclass(frozen=True)
class IntParameter:
    """An integer from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def contains(self, value: Value) -> bool:
        """Whether this is one of its values."""
        return type(value) is int and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def bounds(self) -> tuple[Value, ...]:
        """Values that represent the whole range when the space is checked."""
        return self.low, self.high


@dataclass(frozen=True)
class FloatParameter:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def contains(self, value: Value) -> bool:
        """Whether this is one of its values."""
        return type(value) in (int, float) and self.low <= float(value) <= self.high

    def bounds(self) -> tuple[Value, ...]:
        """Values that represent the whole range when the space is checked."""
        return self.low, self.high


@dataclass(frozen=True)
class ChoiceParameter:
    """One of several unordered values."""

    options: tuple[Value, ...]

    def contains(self, value: Value) -> bool:
        """Whether this is one of its values."""
        return value in self.options

    def bounds(self) -> tuple[Value, ...]:
        """Values that represent the whole range when the space is checked."""
        return self.options


@dataclass(frozen=True)
class BoolParameter:
    """True or false."""

    def contains(self, value: Value) -> bool:
        """Whether this is one of its values."""
        return isinstance(value, bool)

    def bounds(self) -> tuple[Value, ...]:
        """Values that represent the whole range when the space is checked."""
        return False, True


Domain = IntParameter | FloatParameter | ChoiceParameter | BoolParameter


@dataclass(frozen=True)
class Parameter:
    """A field that varies.

    Args:
        path: Dotted path in the experiment config.
        domain: Its values.
        when: Active only where each of these parents has one of these values.
    """

    path: str
    domain: Domain
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Whether the parameter is active with these values of its parents."""
        return all(parent in values and values[parent] in allowed for parent, allowed in self.when.items())


@dataclass(frozen=True)
class Space:
    """The config fields that a search varies, and those that it fixes.

    Args:
        name: The space's name.
        fixed: Values by dotted path that differ from the config's defaults.
        parameters: The fields that vary, parents before children.
        min_epochs: The first rung.
        max_epochs: Epochs of full training.
        reduction_factor: Ratio of each rung to the one before; at a rung, one in this many trials is kept.
        document: The TOML document as read, for the record.
    """

    name: str
    fixed: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    min_epochs: int = 3
    max_epochs: int = 27
    reduction_factor: int = 3
    document: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def by_path(self) -> dict[str, Parameter]:
        """The parameters by dotted path."""
        return {parameter.path: parameter for parameter in self.parameters}

    def values_with(self, path: str, value: Any) -> dict[str, Any]:
        """Fixed values and one value of each active parameter, so that `path` is active and has `value`."""
        forced = {**self._activating_values(path), path: value}
        values: dict[str, Any] = {"training.max_epochs": self.max_epochs, **self.fixed}
        for parameter in self.parameters:
            if parameter.is_active(values):
                values[parameter.path] = forced.get(parameter.path, parameter.domain.bounds()[0])
        return values

    def check_value(self, path: str, value: Any) -> Value:
        """Refuses a value that the config does not allow for this parameter.

        Returns:
            The value as the config holds it: plain, and always written the same way.

        Raises:
            SpaceError: If the value is not allowed.
        """
        try:
            config = ExperimentConfig().with_values(self.values_with(path, value))
        except ConfigError as error:
            message = str(error).removeprefix("config: ")
            raise SpaceError(f"space {self.name}, parameter '{path}' = {value!r}: {message}") from None
        fields = config.flat()
        if path not in fields:
            whole = next((field for field in fields if path.startswith(f"{field}.")), None)
            hint = f"; it is a part of '{whole}'" if whole else ""
            raise SpaceError(f"space {self.name}, parameter '{path}': expected a field of the config, found none{hint}")
        checked: Value = fields[path]
        return checked

    def pins_among(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """The values that are meant for parameters, checked, and written as among a parameter's options.

        Raises:
            SpaceError: If a value is not allowed for its parameter.
        """
        return {path: self._as_option(path, value) for path, value in values.items() if path in self.by_path}

    def _as_option(self, path: str, value: Any) -> Value:
        checked = self.check_value(path, value)
        for option in self.by_path[path].domain.bounds():
            # With other values of `max_epochs`, an option may be refused.
            with suppress(SpaceError):
                if self.check_value(path, option) == checked:
                    return option
        return checked

    def _activating_values(self, path: str) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for parent, allowed in self.by_path[path].when.items():
            values |= self._activating_values(parent)
            values[parent] = allowed[0]
        return values

    def pinned(self, values: Mapping[str, Value]) -> "Space":
        """A copy in which some parameters have one value left, and their parents only values that keep them active.

        Args:
            values: By dotted path; paths that are not parameters are ignored.

        Raises:
            SpaceError: If a parameter cannot be active with the other values.
        """
        left: dict[str, tuple[Value, ...]] = {path: (value,) for path, value in values.items() if path in self.by_path}
        for path in tuple(left):
            self._narrow_parents(path, left)
        parameters = tuple(
            replace(parameter, domain=ChoiceParameter(left[parameter.path])) if parameter.path in left else parameter
            for parameter in self.parameters
        )
        return replace(self, parameters=parameters)

    def _narrow_parents(self, path: str, left: dict[str, tuple[Value, ...]]) -> None:
        for parent, allowed in self.by_path[path].when.items():
            possible = tuple(value for value in left.get(parent, allowed) if value in allowed)
            if not possible:
                raise SpaceError(
                    f"space {self.name}: '{path}' has an effect only where '{parent}' is one of {list(allowed)}, "
                    f"found {left[parent][0]!r}"
                )
            left[parent] = possible
            self._narrow_parents(parent, left)
