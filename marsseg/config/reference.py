"""The experiment config as one page: `python -m marsseg.config.reference docs/config.md` writes it.

Knows no field by name: what the groups say of themselves and of their fields is what the page says.
"""

import sys
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig

_HEAD = """# The experiment config, recipes and search spaces

<!-- Made by `make docs` from the config itself; a change here is lost. -->

Everything that decides a training is a field of the experiment config. A field has a dotted path, as
`model.num_blocks`, by which `--set model.num_blocks=3` changes it for one command. What does not fit is refused with
the nearest name or the bounds.

## Recipes

A recipe is a TOML file that names what differs from the defaults below. `base` takes over the recipe of that name
beside it.

```toml
base = "depth_4"

[model]
se = "encoder"

[loss]
terms = { cross_entropy = 0.5, dice = 0.5 }   # or "0.5*cross_entropy+0.5*dice"
```

## Search spaces

A search space is a TOML file too: what is fixed for all trials, and what varies.

```toml
description = "Small networks."

[search]
min_epochs = 1            # after which a new trial is first paused
max_epochs = 27           # of a full training
reduction_factor = 3      # of the rungs of asha, hyperband and topk

[fixed]
"model.max_filters" = 64

[parameters."model.num_blocks"]
kind = "int"              # low and high included; step, or log = true, may be added
low = 3
high = 5

[parameters."optimizer.learning_rate"]
kind = "float"
low = 1e-4
high = 1e-2
log = true

[parameters."optimizer.name"]
kind = "choice"
options = ["adam", "adamw"]

[parameters."optimizer.weight_decay"]
kind = "choice"
options = [1e-4, 1e-3]
when = { "optimizer.name" = ["adamw"] }   # varies only where these have one of these values

[parameters."augmentation.flips"]
kind = "bool"
```

The data, its cleaning and its split, `seed` and `training.max_epochs`, `threads` and `precision` cannot vary within a
search.

## Fields
"""
_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "`none`"}


def render_config() -> str:
    """The page, in Markdown."""
    schema = ExperimentConfig.model_json_schema(mode="serialization")
    defaults = ExperimentConfig().flat()
    groups = {name: _group(field) for name, field in ExperimentConfig.model_fields.items()}
    alone = {name: field for name, field in schema["properties"].items() if groups[name] is None}
    parts = [_HEAD, *_table(alone, "", defaults)]
    for name, group in groups.items():
        if group is None:
            continue
        parts += ["", f"### {name}", "", cleandoc(group.__doc__ or ""), ""]
        parts += _table(schema["$defs"][group.__name__]["properties"], f"{name}.", defaults)
    return "\n".join(parts) + "\n"


def _group(field: Any) -> type | None:
    """The group that a field of the config holds, maybe beside nothing; None where it holds a plain value."""
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((each for each in candidates if hasattr(each, "model_fields")), None)


def _table(fields: Mapping[str, Any], prefix: str, defaults: Mapping[str, Any]) -> list[str]:
    lines = ["| field | values | default |", "|---|---|---|"]
    for name, field in fields.items():
        default = defaults.get(prefix + name, field.get("default"))
        shown = _shown(default) if "default" in field and "$ref" not in field else ""
        lines.append(f"| `{prefix}{name}` | {_values(field)} | {shown} |")
    return lines


def _values(field: Mapping[str, Any]) -> str:
    if "description" in field:
        return str(field["description"])
    if "$ref" in field:
        return "as the group of that name"
    if "anyOf" in field:
        return " or ".join(_values(each) for each in field["anyOf"])
    options = field.get("enum") or ([field["const"]] if "const" in field else [])
    if options:
        return ", ".join(map(_shown, options))
    bounds = ", ".join(text.format(field[key]) for key, text in _BOUNDS.items() if key in field)
    return f"{_KINDS[field['type']]} {bounds}".strip()


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def main(path: str) -> None:
    """Writes the page to a file."""
    Path(path).write_text(render_config(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
