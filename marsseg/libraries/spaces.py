"""A search space and the config that its trials start from, by object, path or name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.jobs.shipped import find_space
from marsseg.search.space import Space
from marsseg.search.space_file import load_space


def open_space(space: Space | str | Path, values: Mapping[str, Any]) -> tuple[Space, ExperimentConfig]:
    """A space and the config that its parameters change.

    Args:
        space: A space, the path of a space file, or the name of a shipped space.
        values: Fields of the config by dotted path; a parameter among them no longer varies.

    Returns:
        The space with the parameters that still vary, and the config with everything else.

    Raises:
        NotFoundError: If there is no such space.
        SpaceError: If the space is not valid, or a value is not allowed for its parameter.
        ConfigError: If a value is not allowed.
    """
    opened = space if isinstance(space, Space) else load_space(find_space(str(space)))
    others = {path: value for path, value in values.items() if path not in opened.by_path}
    base = ExperimentConfig().with_values({"training.max_epochs": opened.max_epochs, **opened.fixed, **others})
    opened = replace(opened, max_epochs=base.training.max_epochs)
    return opened.pinned(opened.pins_among(values)), base
