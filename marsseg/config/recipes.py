"""Reads configs and single values as people write them: TOML files and `path=value`."""

import tomllib
from pathlib import Path
from typing import Any

from marsseg.config.experiment import ExperimentConfig, parse_config
from marsseg.errors import ConfigError


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
