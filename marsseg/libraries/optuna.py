"""For an Optuna objective of your own: a config from a trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from marsseg.config import ExperimentConfig
from marsseg.libraries.spaces import open_space
from marsseg.search.optuna_proposer import suggest_values
from marsseg.search.space import Space


def suggest_config(
    trial: optuna.Trial, space: Space | str | Path, values: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Asks an Optuna trial for a value of each active parameter of a space.

    Args:
        trial: A live trial; its parameters are named by their dotted paths, such as `model.num_blocks`.
        space: A space, the path of a space file, or the name of a shipped space, such as `cpu`.
        values: Values of other config fields by dotted path, as for `--set`; a parameter among them does not vary.

    Returns:
        The experiment config; fields set to `auto` stay `auto`.

    Raises:
        NotFoundError: If there is no such space.
        SpaceError: If the space is not valid, or a value is not allowed for its parameter.
        ConfigError: If values are not compatible.
    """
    opened, base = open_space(space, values or {})
    return base.with_values(suggest_values(trial, opened))
