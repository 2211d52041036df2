"""Reads configs and single values as people write them: TOML files and `path=value`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marsseg.config.experiment import ExperimentConfig, parse_config
from marsseg.errors import ConfigError

_BASE = "base"


def load_recipe(path: Path) -> ExperimentConfig:
    """Reads a recipe: a TOML file that names the values that differ from the defaults.

    With `base = "NAME"` they differ from the values of the recipe NAME.toml in the same folder.

    Raises:
        ConfigError: If the file or its base cannot be read, is not TOML, or has a key or a value that is not allowed.
    """
    tree = read_toml(path)
    if _BASE in tree:
        name = tree.pop(_BASE)
        if not isinstance(name, str) or Path(name).name != name:
            raise ConfigError(f"{path}: expected base = the name of a recipe in the same folder, found {name!r}")
        base = path.with_name(f"{name}.toml")
        below = read_toml(base)
        if _BASE in below:
            raise ConfigError(f"{path}: expected a base without a base of its own, found {base.name}")
        tree = _merged(below, tree)
    return parse_config(tree, where=str(path))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both, table by table, those above winning; a loss's terms are one value."""
    merged = dict(below)
    for key, value in above.items():
        both_are_tables = isinstance(value, dict) and isinstance(below.get(key), dict) and key != "terms"
        merged[key] = _merged(below[key], value) if both_are_tables else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: If the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, found {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: expected TOML, found tables or lists nested too deeply") from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Splits `optimizer.learning_rate=1e-4` into path and value; the value is read as TOML, or else as a string.

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
