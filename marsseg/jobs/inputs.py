"""Inputs of several commands: data, values to set, author and reason; checked and resolved."""

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marsseg.config import SYNTHETIC, ExperimentConfig, parse_assignment
from marsseg.data.prepare import PreparedData, prepare_data
from marsseg.errors import ConfigError, UsageError
from marsseg.jobs.progress import notify

DATA_VARIABLE = "MARSEXP_DATA"
_RESERVED_TAGS = ("marsexp.", "mlflow.")


@dataclass(frozen=True)
class Provenance:
    """Who runs something and why.

    Args:
        author: The person's name.
        tags: Values by key.
        note: Why, in words.
        tracking_uri: A server, or None for the embedded store.
    """

    author: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    tracking_uri: str | None = None


def resolve_source(data: str | None) -> str:
    """Where the data is: `data`, then `MARSEXP_DATA`, then synthetic with a notice; paths become absolute."""
    source = data or os.environ.get(DATA_VARIABLE) or None
    if source is None:
        notify("no --data given: using built-in synthetic Mars terrain")
        return SYNTHETIC
    check_text("the data's path", source)
    return source if source == SYNTHETIC else str(Path(source).expanduser().resolve())


def check_data_named_once(data: str | None, values: Mapping[str, Any]) -> None:
    """Refuses a command line that names the data twice.

    Raises:
        UsageError: If it does.
    """
    if data is not None and "data.source" in values:
        raise UsageError("--data and --set data.source both name the data; remove one")


def resolve_beside(file: Path, source: str) -> str:
    """Where the data is that a recipe or a space names: a relative path starts at the folder of its file."""
    return resolve_source(source if source == SYNTHETIC else str(file.parent / Path(source).expanduser()))


def check_text(what: str, text: str) -> None:
    """Refuses text that no store can hold: what a terminal sends, or a file is called, in another encoding.

    Raises:
        UsageError: If it is not Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}: expected UTF-8, found {text!a}; rename or retype it in UTF-8") from None


def load_data(config: ExperimentConfig) -> PreparedData:
    """The data of a config, cleaned and split, with a notice of the images left out.

    Raises:
        MarsexpError: If it cannot be read or trained on.
    """
    data = prepare_data(config)
    if data.removed:
        notify(f"outliers left out: {len(data.removed)} of {len(data.images)} images (cleaning.remove_outliers = true)")
    return data


def generate_name(kind: str) -> str:
    """A name for a study that was given none."""
    # Two studies may start in the same second.
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Values by dotted path from `path=value` strings.

    Raises:
        UsageError: If one has no `=`.
    """
    try:
        return dict(parse_assignment(text) for text in assignments)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def with_assigned(config: ExperimentConfig, values: Mapping[str, Any], whose: str = "") -> ExperimentConfig:
    """The config with the values that the command line sets.

    Args:
        config: The config without them.
        values: By dotted path.
        whose: What a message begins with, such as the recipe's name.

    Raises:
        UsageError: If a field does not exist, or a value is not allowed, by itself or beside the others.
    """
    try:
        return config.with_values(values)
    except ConfigError as error:
        raise UsageError(f"{whose}--set: {str(error).removeprefix('config: ')}") from None


def parse_tags(texts: Sequence[str]) -> dict[str, str]:
    """Tags from `key=value` strings.

    Raises:
        UsageError: If one has no `=`, or a key that marsexp or MLflow uses itself.
    """
    tags = {}
    for text in texts:
        check_text("--tag", text)
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--tag: expected key=value, found '{text}'")
        if key.startswith(_RESERVED_TAGS):
            raise UsageError(f"--tag: expected a key that does not begin with marsexp. or mlflow., found '{key}'")
        tags[key] = value
    return tags
