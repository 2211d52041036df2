"""Reads search spaces from TOML, and refuses those that do not make sense."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig, read_toml
from marsseg.errors import ConfigError, NotFoundError, SpaceError, nearest_name_hint
from marsseg.search.space import (
    BoolParameter,
    ChoiceParameter,
    Domain,
    FloatParameter,
    IntParameter,
    Parameter,
    Space,
    Value,
)

_TOP_LEVEL_KEYS = ("description", "fixed", "parameters", "search")
_SEARCH_KEYS = ("min_epochs", "max_epochs", "reduction_factor")
# Fields that all trials of a search share, or that follow from the search.
_SETTLED = ("seed", "data.", "cleaning.", "split.", "training.max_epochs", "training.threads", "training.precision")

_KINDS: dict[str, type[Domain]] = {
    "int": IntParameter,
    "float": FloatParameter,
    "choice": ChoiceParameter,
    "bool": BoolParameter,
}


def load_space(path: Path) -> Space:
    """Reads a space from a TOML file.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If the file is not TOML.
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
        least = 2 if key == "reduction_factor" else 1
        if type(value) is not int or value < least:
            raise SpaceError(f"space {name}, [search] {key}: expected an integer of at least {least}, found {value!r}")
    fixed = document.get("fixed", {})
    if not isinstance(fixed, Mapping):
        raise SpaceError(f"space {name}, [fixed]: expected a table, found {fixed!r}")
    for key, value in fixed.items():
        if key in ("seed", "training.max_epochs"):
            raise SpaceError(
                f"space {name}, [fixed]: '{key}' cannot be set here; use --seed, or max_epochs in [search]"
            )
        if isinstance(value, Mapping) and "." not in key:
            raise SpaceError(
                f'space {name}, [fixed]: expected dotted paths in quotes, such as "{key}.…" = …, found {key}'
            )
    table = document.get("parameters", {})
    if not isinstance(table, Mapping) or not table:
        raise SpaceError(f'space {name}: expected at least one [parameters."…"], found none')
    parameters = tuple(_parse_parameter(path, entry, name) for path, entry in table.items())
    space = Space(name, dict(fixed), parameters, **search, document=dict(document))
    if space.min_epochs > space.max_epochs:
        raise SpaceError(f"space {name}: min_epochs = {space.min_epochs} is above max_epochs = {space.max_epochs}")
    _check_conditions(space)
    _check_fixed(space)
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
        # Integers in TOML may be larger than any float.
        if type(value) not in (int, wanted) or not abs(value) <= sys.float_info.max:
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
    steps = (numbers["high"] - numbers["low"]) / numbers.get("step", 1)
    if "step" in numbers and not math.isclose(steps, round(steps)):
        raise SpaceError(f"{where}: steps of {numbers['step']} from {numbers['low']} miss high = {numbers['high']}")
    return kind(**numbers, log=log)  # type: ignore[call-arg]  # both range kinds take these


def _check_conditions(space: Space) -> None:
    seen: dict[str, Parameter] = {}
    for parameter in space.parameters:
        where = f"space {space.name}, parameter '{parameter.path}'"
        if parameter.path.startswith(_SETTLED):
            raise SpaceError(f"{where}: is the same in all trials; set it in [fixed] or [search], or by an option")
        if parameter.path in space.fixed:
            raise SpaceError(f"{where}: is also in [fixed]; remove one")
        for parent, allowed in parameter.when.items():
            if parent not in seen:
                hint = "; a parent must come before its child" if parent in space.by_path else ""
                raise SpaceError(f"{where}: unknown parent '{parent}'{hint or nearest_name_hint(parent, seen)}")
            domain = seen[parent].domain
            if not all(domain.contains(value) for value in allowed):
                raise SpaceError(f"{where}: when '{parent}' = {list(allowed)}, but it can only be {_describe(domain)}")
        seen[parameter.path] = parameter


def _check_fixed(space: Space) -> None:
    """Refuses [fixed] where it is not valid by itself: it is the config that every trial starts from."""
    try:
        ExperimentConfig().with_values({"training.max_epochs": space.max_epochs, **space.fixed})
    except ConfigError as error:
        message = f"space {space.name}, [fixed]: {str(error).removeprefix('config: ')}"
        raise SpaceError(f"{message}{_parameter_hint(space, error)}") from None


def _parameter_hint(space: Space, error: ConfigError) -> str:
    first = space.parameters[0]
    try:
        ExperimentConfig().with_values(space.values_with(first.path, first.domain.bounds()[0]))
    except ConfigError as still:
        if str(still) == str(error):
            return ""
    return (
        "; a fixed value that is valid only with certain parameter values must itself be a parameter with one option "
        "and a `when`"
    )


def _describe(domain: Domain) -> str:
    if isinstance(domain, IntParameter | FloatParameter):
        return f"{domain.low} to {domain.high}"
    return str(list(domain.bounds()))
