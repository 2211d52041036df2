"""Search spaces: which fields of the experiment config vary, over what, and under which condition.

A space is a plain, frozen value read from TOML. Rendering it to an engine's own distributions lives with the engine's
proposer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig, read_toml
from marsseg.errors import ConfigError, NotFoundError, SpaceError, nearest_name_hint

Value = bool | int | float | str

_TOP_LEVEL_KEYS = ("description", "fixed", "parameters", "search")
_SEARCH_KEYS = ("min_epochs", "max_epochs", "reduction_factor")


@dataclass(frozen=True)
class IntParameter:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def bounds(self) -> tuple[Value, ...]:
        """Values that stand for the whole range when the space is checked."""
        return self.low, self.high


@dataclass(frozen=True)
class FloatParameter:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def bounds(self) -> tuple[Value, ...]:
        """Values that stand for the whole range when the space is checked."""
        return self.low, self.high


@dataclass(frozen=True)
class ChoiceParameter:
    """One of several values without order."""

    options: tuple[Value, ...]

    def bounds(self) -> tuple[Value, ...]:
        """Values that stand for the whole range when the space is checked."""
        return self.options


@dataclass(frozen=True)
class BoolParameter:
    """True or false."""

    def bounds(self) -> tuple[Value, ...]:
        """Values that stand for the whole range when the space is checked."""
        return False, True


Domain = IntParameter | FloatParameter | ChoiceParameter | BoolParameter

_KINDS: dict[str, type[Domain]] = {
    "int": IntParameter,
    "float": FloatParameter,
    "choice": ChoiceParameter,
    "bool": BoolParameter,
}


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
        """Whether the parameter has a value beside these values of its parents."""
        return all(parent in values and values[parent] in allowed for parent, allowed in self.when.items())


@dataclass(frozen=True)
class Space:
    """What a search may vary.

    Args:
        name: How the space is called.
        fixed: Values by dotted path that differ from the config's defaults.
        parameters: What varies, parents before children.
        min_epochs: The first rung.
        max_epochs: Epochs of a full training.
        reduction_factor: From one rung to the next, and the share of trials that is kept (one in so many).
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

    def check_value(self, path: str, value: Any) -> None:
        """Refuses a value that the config does not allow for this parameter, its parents set so that it is active.

        Raises:
            SpaceError: If the value is not allowed.
        """
        try:
            base = ExperimentConfig().with_values(self.fixed)
        except ConfigError as error:
            raise SpaceError(f"space {self.name}, [fixed]: {error}") from None
        try:
            base.with_values({**_activating_values(self, self.by_path[path]), path: value})
        except ConfigError as error:
            message = str(error).removeprefix("config: ")
            raise SpaceError(f"space {self.name}, parameter '{path}' = {value!r}: {message}") from None

    def pinned(self, values: Mapping[str, Value]) -> "Space":
        """A copy in which some parameters have one value left; other paths are ignored."""
        parameters = tuple(
            replace(parameter, domain=ChoiceParameter((values[parameter.path],)))
            if parameter.path in values
            else parameter
            for parameter in self.parameters
        )
        return replace(self, parameters=parameters)


def load_space(path: Path) -> Space:
    """Reads a space from a TOML file.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If the file is no TOML.
        SpaceError: If the space is not valid.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: expected a search space (a TOML file), found none")
    return parse_space(read_toml(path), path.stem)


def parse_space(document: Mapping[str, Any], name: str) -> Space:
    """A space from nested plain values, checked against the experiment config.

    Raises:
        SpaceError: If a key is unknown (the nearest name is suggested), a bound or condition makes no sense, or a value
            is not allowed in the config.
    """
    _check_keys(document, _TOP_LEVEL_KEYS, f"space {name}")
    search = document.get("search", {})
    _check_keys(search, _SEARCH_KEYS, f"space {name}, [search]")
    for key, value in search.items():
        if type(value) is not int or value < (2 if key == "reduction_factor" else 1):
            raise SpaceError(f"space {name}, [search] {key}: expected a whole number, found {value!r}")
    fixed = document.get("fixed", {})
    if not isinstance(fixed, Mapping):
        raise SpaceError(f"space {name}, [fixed]: expected a table, found {fixed!r}")
    table = document.get("parameters", {})
    if not isinstance(table, Mapping) or not table:
        raise SpaceError(f'space {name}: expected at least one [parameters."…"], found none')
    parameters = tuple(_parse_parameter(path, entry, name) for path, entry in table.items())
    space = Space(name, dict(fixed), parameters, **search, document=dict(document))
    if space.min_epochs > space.max_epochs:
        raise SpaceError(f"space {name}: min_epochs = {space.min_epochs} is above max_epochs = {space.max_epochs}")
    _check_conditions(space)
    for parameter in space.parameters:
        for value in parameter.domain.bounds():
            space.check_value(parameter.path, value)
    return space


def _check_keys(table: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        raise SpaceError(f"{where}: expected a table, found {table!r}")
    for key in table:
        if key not in known:
            raise SpaceError(f"{where}: unknown key '{key}'{nearest_name_hint(key, known)}")


def _parse_parameter(path: str, entry: Any, name: str) -> Parameter:
    where = f"space {name}, parameter '{path}'"
    if not isinstance(entry, Mapping) or entry.get("kind") not in tuple(_KINDS):
        found = entry.get("kind") if isinstance(entry, Mapping) else entry
        hint = nearest_name_hint(str(found), _KINDS)
        raise SpaceError(f"{where}: expected kind = one of {', '.join(_KINDS)}, found {found!r}{hint}")
    kind = _KINDS[entry["kind"]]
    arguments = {key: value for key, value in entry.items() if key not in ("kind", "when")}
    _check_keys(arguments, tuple(kind.__dataclass_fields__), where)
    if kind is ChoiceParameter:
        domain: Domain = ChoiceParameter(_parse_options(arguments.get("options"), where))
    elif kind is BoolParameter:
        domain = BoolParameter()
    else:
        domain = _parse_range(kind, arguments, where)
    when = entry.get("when", {})
    if not isinstance(when, Mapping):
        raise SpaceError(f"{where}: expected when = {{ parent = [values] }}, found {when!r}")
    conditions = {parent: _parse_options(allowed, f"{where}, when '{parent}'") for parent, allowed in when.items()}
    return Parameter(path, domain, conditions)


def _parse_options(options: Any, where: str) -> tuple[Value, ...]:
    if not isinstance(options, list) or not options:
        raise SpaceError(f"{where}: expected a list of at least one value, found {options!r}")
    if any(type(option) is not type(options[0]) for option in options):
        raise SpaceError(f"{where}: expected values of one type, found {options!r}")
    if not isinstance(options[0], bool | int | float | str) or len(set(options)) < len(options):
        raise SpaceError(f"{where}: expected distinct plain values, found {options!r}")
    return tuple(options)


def _parse_range(kind: type[Domain], arguments: Mapping[str, Any], where: str) -> Domain:
    wanted = int if kind is IntParameter else float
    numbers = {key: arguments[key] for key in ("low", "high", "step") if key in arguments}
    for key in ("low", "high"):
        if key not in numbers:
            raise SpaceError(f"{where}: expected {key}, found none")
    for key, value in numbers.items():
        if type(value) not in (int, wanted) or not math.isfinite(value):
            raise SpaceError(f"{where}: expected {key} as {wanted.__name__}, found {value!r}")
        numbers[key] = wanted(value)
    log = arguments.get("log", False)
    if type(log) is not bool:
        raise SpaceError(f"{where}: expected log = true or false, found {log!r}")
    if log and "step" in numbers:
        raise SpaceError(f"{where}: expected step or log, found both; the engines disagree on what both mean")
    if numbers["low"] >= numbers["high"]:
        raise SpaceError(f"{where}: low must be below high: {numbers['low']} and {numbers['high']}")
    if numbers.get("step", 1) <= 0 or (log and numbers["low"] <= 0):
        raise SpaceError(f"{where}: step, and low where log = true, must be above 0")
    return kind(**numbers, log=log)  # type: ignore[call-arg]  # both range kinds take these


def _check_conditions(space: Space) -> None:
    seen: dict[str, Parameter] = {}
    for parameter in space.parameters:
        where = f"space {space.name}, parameter '{parameter.path}'"
        if parameter.path in space.fixed:
            raise SpaceError(f"{where}: stands in [fixed], too; take it out of one")
        for parent, allowed in parameter.when.items():
            if parent not in seen:
                hint = "; a parent must stand before its child" if parent in space.by_path else ""
                raise SpaceError(f"{where}: unknown parent '{parent}'{hint or nearest_name_hint(parent, seen)}")
            domain = seen[parent].domain
            possible = domain.bounds()
            if isinstance(domain, ChoiceParameter | BoolParameter) and not set(allowed) <= set(possible):
                raise SpaceError(f"{where}: when '{parent}' = {list(allowed)}, but it can only be {list(possible)}")
        seen[parameter.path] = parameter


def _activating_values(space: Space, parameter: Parameter) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for parent, allowed in parameter.when.items():
        values |= _activating_values(space, space.by_path[parent])
        values[parent] = allowed[0]
    return values
