"""`marsexp train`: fixed recipes, each with one or more seeds, as a study that can be resumed."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from marsseg.config import ExperimentConfig, load_recipe
from marsseg.data.prepare import PreparedData
from marsseg.data.rare import find_rare_objects
from marsseg.errors import ConfigError, UsageError
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.devices import check_config_gpus, check_gpus
from marsseg.jobs.forecast import expected_spending
from marsseg.jobs.home import Home
from marsseg.jobs.inputs import (
    Provenance,
    check_data_named_once,
    check_text,
    generate_name,
    load_data,
    parse_assignments,
    resolve_beside,
    resolve_source,
    with_assigned,
)
from marsseg.jobs.progress import notify
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.shipped import find_recipes
from marsseg.jobs.stored import load_settings
from marsseg.jobs.study import create_study, resume_study
from marsseg.search.budget import Budget
from marsseg.search.ledger import Ledger, check_name
from marsseg.training.precision import explain_precision
from marsseg.training.runtime import resolve_auto, this_machine

_DATA_GROUPS = ("data", "cleaning", "split")


def start_training(
    home: Home,
    recipes: Sequence[str],
    data_source: str | None,
    name: str | None,
    num_seeds: int,
    gpus: int | None,
    assignments: Sequence[str],
    provenance: Provenance,
) -> dict[str, Any]:
    """Trains recipes to their end.

    Args:
        home: Where everything is kept.
        recipes: Files, folders of them, or shipped recipes' names.
        data_source: The data to train on, or None for the default.
        name: The study's name, or None for a generated one.
        num_seeds: How often each recipe is trained; its own seed comes first.
        gpus: How many GPUs each training run is distributed over, or None for the number in the recipe.
        assignments: `path=value` strings that change every recipe.
        provenance: Author, tags and note.

    Returns:
        The leaderboard document.

    Raises:
        MarsexpError: If a recipe or the data is not valid, before anything is trained.
    """
    name = name or generate_name("training")
    check_name(name)
    if name in Ledger(home.ledger).names():
        raise UsageError(f"'{name}' exists already; choose another --name, or resume it with --resume {name}")
    values = parse_assignments(assignments)
    if gpus is not None:
        if "training.gpus" in values:
            raise UsageError("use --gpus instead of --set training.gpus")
        check_gpus(gpus, f"--gpus {gpus}")
        values["training.gpus"] = gpus
    configs = _load_recipes(recipes, data_source, values)
    for recipe, config in configs.items():
        check_config_gpus(config, f"'{recipe}'")
        _check_seeds(recipe, config, num_seeds)
    first = next(iter(configs.values()))
    data = load_data(first)
    for config in configs.values():
        config.model.check_image_fits(*data.images.shape[1:3])
    pasted = [recipe for recipe, config in configs.items() if config.augmentation.paste_rare]
    if pasted and not len(find_rare_objects(data.masks[data.split.train]).image):
        notify(f"nothing to paste: no object of the rarest class is large enough (paste_rare of {', '.join(pasted)})")
    settings = training_settings(name, configs, data, num_seeds, provenance)
    notify(_announcement(settings, configs))
    return create_study(home, settings, data)


def training_settings(
    name: str, configs: Mapping[str, ExperimentConfig], data: PreparedData, num_seeds: int, provenance: Provenance
) -> StudySettings:
    """A study that trains each config in full.

    Args:
        name: The study's.
        configs: By name; each begins with its own seed.
        data: The data that they train on.
        num_seeds: How often each is trained.
        provenance: Author, tags and note.
    """
    max_epochs = max(config.training.max_epochs for config in configs.values())
    settings = StudySettings(
        name=name,
        uid=uuid.uuid4().hex,
        kind="training",
        seed=next(iter(configs.values())).seed,
        budget=Budget(len(configs) * num_seeds),
        engine="recipes",
        sampler="in order",
        scheduler="none",
        min_epochs=max_epochs,
        max_epochs=max_epochs,
        reduction_factor=2,
        workers=1,
        configs={recipe: config.model_dump(mode="json") for recipe, config in configs.items()},
        fingerprint=data.fingerprint.to_dict(),
        num_seeds=num_seeds,
        author=provenance.author,
        tags=provenance.tags,
        note=provenance.note,
        tracking_uri=provenance.tracking_uri,
    )
    return replace(settings, plan=expected_spending(settings, DataSize.of(data)))


def resume_training(home: Home, name: str, data_source: str | None, tracking_uri: str | None) -> dict[str, Any]:
    """Resumes a training.

    Args:
        home: Where everything is kept.
        name: The training's.
        data_source: Where the data is now, or None.
        tracking_uri: The server that records its runs from now on, or None.

    Returns:
        The leaderboard document.

    Raises:
        MarsexpError: If there is no such training, its data has changed, or it needs more GPUs than there are.
    """
    settings = load_settings(home, name, "training")
    if tracking_uri:
        settings = replace(settings, tracking_uri=tracking_uri)
    configs = {recipe: settings.config(recipe) for recipe in settings.configs}
    for recipe, config in configs.items():
        check_config_gpus(config, f"'{recipe}'")
    if data_source:
        source = resolve_source(data_source)
        configs = {recipe: config.with_values({"data.source": source}) for recipe, config in configs.items()}
        documents = {recipe: config.model_dump(mode="json") for recipe, config in configs.items()}
        settings = replace(settings, configs=documents)
    return resume_study(home, settings, load_data(next(iter(configs.values()))))


def _load_recipes(
    recipes: Sequence[str], data_source: str | None, values: dict[str, Any]
) -> dict[str, ExperimentConfig]:
    check_data_named_once(data_source, values)
    configs: dict[str, ExperimentConfig] = {}
    default_source = None
    for path in (path for recipe in recipes for path in find_recipes(recipe)):
        if path.stem in configs:
            raise UsageError(f"two recipes are called '{path.stem}'; rename one")
        check_text("the name of a recipe", path.stem)
        own = load_recipe(path)
        config = with_assigned(own, values, f"recipe '{path.stem}' with ")
        if data_source is None and "data.source" in values:
            source = resolve_source(config.data.source)
        elif data_source is None and "source" in own.data.model_fields_set:
            source = resolve_beside(path, own.data.source)
        else:
            source = default_source = default_source or resolve_source(data_source)
        configs[path.stem] = resolve_auto(config.with_values({"data.source": source}))
    first = next(iter(configs.values()))
    for recipe, config in configs.items():
        if any(getattr(config, group) != getattr(first, group) for group in _DATA_GROUPS):
            raise UsageError(f"recipes of one study must share data, cleaning and split; '{recipe}' differs")
    return configs


def _check_seeds(recipe: str, config: ExperimentConfig, num_seeds: int) -> None:
    try:
        config.with_values({"seed": config.seed + num_seeds - 1})
    except ConfigError as error:
        raise UsageError(f"'{recipe}' with --seeds {num_seeds}: {str(error).removeprefix('config: ')}") from None


def _announcement(settings: StudySettings, configs: Mapping[str, ExperimentConfig]) -> str:
    """The training that begins, in one line."""
    first = next(iter(configs.values()))
    what = f"{len(configs)} recipes" if len(configs) > 1 else next(iter(configs))
    seeds = f" with {settings.num_seeds} seeds" if settings.num_seeds > 1 else ""
    precisions = dict.fromkeys(config.training.precision for config in configs.values())
    explained = "; ".join(str(explain_precision(precision, this_machine())) for precision in precisions)
    return (
        f"training '{settings.name}': {what}{seeds}, at most {settings.epochs_planned} epochs, "
        f"{first.training.threads} threads, {explained}"
    )
