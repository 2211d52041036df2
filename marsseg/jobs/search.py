"""`marsexp search`: from the command's options to a finished search."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData
from marsseg.errors import SpaceError, UsageError, nearest_name_hint
from marsseg.files import check_new_file
from marsseg.jobs.candidates import BASE
from marsseg.jobs.confirm import confirm, confirmation_name
from marsseg.jobs.curves import record_curves
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.devices import default_workers
from marsseg.jobs.dry_run import plan_document
from marsseg.jobs.forecast import expected_spending
from marsseg.jobs.home import Home
from marsseg.jobs.inputs import (
    Provenance,
    generate_name,
    load_data,
    parse_assignments,
    resolve_beside,
    resolve_source,
    with_assigned,
)
from marsseg.jobs.progress import notify
from marsseg.jobs.settings import Filters, StudySettings
from marsseg.jobs.shipped import find_space
from marsseg.jobs.stored import load_settings
from marsseg.jobs.study import create_study, resume_study
from marsseg.search.budget import Budget
from marsseg.search.engines import SAMPLERS, SAMPLERS_OF_SEVERAL_OBJECTIVES, check_sampler_is_installed
from marsseg.search.ledger import Ledger, check_name
from marsseg.search.objectives import SCORE, check_objectives
from marsseg.search.schedulers import SCHEDULERS, SCHEDULERS_OF_SEVERAL_OBJECTIVES, default_scheduler
from marsseg.search.space import Space
from marsseg.search.space_file import load_space
from marsseg.training.precision import explain_precision
from marsseg.training.runtime import resolve_auto, this_machine

_DEFAULT_NOTICES = {
    "unet": "no --space given: using 'unet', since there is a GPU",
    "cpu": "no --space given and no GPU: using 'cpu', the hyperparameters of 'unet' at sizes a laptop can afford",
}
_OPTIONS = {"seed": "--seed", "data.source": "--data", "training.max_epochs": "--max-epochs"}


@dataclass(frozen=True)
class Afterwards:
    """What to do once a search is over.

    Args:
        record: A new file for its learning curves, or None.
        confirm: How many of the best trials to retrain, or None.
        num_seeds: New seeds for each of them.
    """

    record: Path | None = None
    confirm: int | None = None
    num_seeds: int = 3

    def check(self, search: str) -> None:
        """Rejects what could not be done, before the search begins."""
        if self.record is not None:
            check_new_file(self.record)
        if self.confirm is not None:
            confirmation_name(search, self.confirm, self.num_seeds)


@dataclass(frozen=True)
class SearchOptions:
    """The options of the command; None where the space or the default decides."""

    budget: Budget
    space: str | None = None
    data: str | None = None
    engine: str = "optuna"
    sampler: str | None = None
    scheduler: str | None = None
    objectives: Sequence[str] | None = None
    min_epochs: int | None = None
    max_epochs: int | None = None
    reduction_factor: int | None = None
    workers: int | None = None
    seed: int = 0
    name: str | None = None
    assignments: Sequence[str] = ()
    filters: Filters = field(default_factory=Filters)
    afterwards: Afterwards = field(default_factory=Afterwards)
    provenance: Provenance = field(default_factory=Provenance)


def start_search(home: Home, options: SearchOptions) -> dict[str, Any]:
    """Runs a new search to its end.

    Returns:
        Its leaderboard document.

    Raises:
        MarsexpError: If an option, the space or the data is not valid, before anything is trained.
    """
    settings, data = _prepare(home, options)
    document = create_study(home, settings, data)
    return _follow_up(home, options.afterwards, document, data)


def plan_search(home: Home, options: SearchOptions) -> dict[str, Any]:
    """What a new search would do and cost; nothing is written to disk.

    Returns:
        The plan's document.

    Raises:
        MarsexpError: As `start_search` does before it begins.
    """
    return plan_document(*_prepare(home, options))


def _prepare(home: Home, options: SearchOptions) -> tuple[StudySettings, PreparedData]:
    """Whatever can be rejected is rejected here."""
    # A generated name is always short enough.
    options.afterwards.check(options.name or "search")
    settings, base = _plan(options)
    if settings.name in Ledger(home.ledger).names():
        raise UsageError(
            f"'{settings.name}' exists already; choose another --name, or resume it with --resume {settings.name}"
        )
    if options.space is None:
        notify(_DEFAULT_NOTICES[settings.space_name])
    data = load_data(base)
    settings = replace(settings, fingerprint=data.fingerprint.to_dict())
    settings = replace(settings, plan=expected_spending(settings, DataSize.of(data)))
    trials, full = settings.budget.trials, settings.max_epochs
    plan = f"about {settings.epochs_planned} epochs planned (full training of all: {trials * full}), " if trials else ""
    together = settings.trials_at_a_time
    at_a_time = f"{together} trials at a time, each on " if together > 1 else ""
    threads = f"{base.training.threads} thread{'s' if base.training.threads != 1 else ''}"
    precision = explain_precision(base.training.precision, this_machine())
    notify(
        f"search '{settings.name}': {settings.budget.in_words} of space '{settings.space_name}', "
        f"{len(data.split.train)} training images, "
        f"{plan}{at_a_time}{threads}, {precision}"
    )
    return settings, data


def resume_search(
    home: Home,
    name: str,
    budget: Budget | None,
    data_source: str | None,
    tracking_uri: str | None,
    afterwards: Afterwards,
) -> dict[str, Any]:
    """Resumes a search, or extends a finished one with a larger budget.

    Args:
        home: Where everything is kept.
        name: The search's.
        budget: A larger one, or None.
        data_source: Where the data is now, or None.
        tracking_uri: The server that records its runs from now on, or None.
        afterwards: What to do once it is over.

    Returns:
        Its leaderboard document.

    Raises:
        MarsexpError: If there is no such search, its data has changed, or its sampler's package is not installed.
    """
    afterwards.check(name)
    settings = load_settings(home, name, "search")
    if tracking_uri:
        settings = replace(settings, tracking_uri=tracking_uri)
    check_sampler_is_installed(settings.sampler)
    base = settings.config(BASE)
    if data_source:
        base = base.with_values({"data.source": resolve_source(data_source)})
        settings = replace(settings, configs={BASE: base.model_dump(mode="json")})
    data = load_data(base)
    document = resume_study(home, settings, data, budget)
    return _follow_up(home, afterwards, document, data)


def _follow_up(home: Home, afterwards: Afterwards, document: dict[str, Any], data: PreparedData) -> dict[str, Any]:
    name = document["search"]
    if afterwards.record is not None:
        notify(f"wrote {record_curves(home, name, afterwards.record)} learning curves to {afterwards.record}")
    if afterwards.confirm is not None:
        document = {**document, "confirmed": confirm(home, name, afterwards.confirm, afterwards.num_seeds, data)}
    return document


def _plan(options: SearchOptions) -> tuple[StudySettings, ExperimentConfig]:
    _check_options(options)
    sampler = options.sampler or SAMPLERS[options.engine][0]
    objectives = check_objectives(options.objectives or (SCORE,))
    scheduler = options.scheduler or default_scheduler(len(objectives))
    if len(objectives) > 1:
        _check_takes_several("--sampler", sampler, SAMPLERS_OF_SEVERAL_OBJECTIVES[options.engine])
        _check_takes_several("--scheduler", scheduler, SCHEDULERS_OF_SEVERAL_OBJECTIVES)
    workers = options.workers or min(default_workers(), options.budget.most_trials)
    space_file = find_space(options.space or ("unet" if this_machine().gpus else "cpu"))
    space = load_space(space_file)
    values = parse_assignments(options.assignments)
    for path, option in _OPTIONS.items():
        if path in values:
            raise UsageError(f"use {option} instead of --set {path}")
    min_epochs = options.min_epochs or space.min_epochs
    max_epochs = options.max_epochs or space.max_epochs
    if options.budget.epochs is not None and options.budget.epochs < max_epochs:
        raise UsageError(
            f"--budget: expected at least one full training run, {max_epochs} epochs, found {options.budget}"
        )
    if min_epochs > max_epochs:
        raise UsageError(f"--min-epochs must not be above --max-epochs: {min_epochs} and {max_epochs}")
    pinned = _pin(replace(space, max_epochs=max_epochs), values)
    named = space.fixed.get("data.source")
    data = options.data or (None if named is None else resolve_beside(space_file, str(named)))
    base = _base_config(space, values, max_epochs, data, workers)
    if base.training.gpus > 1 or "training.gpus" in space.by_path:
        raise UsageError("training.gpus: a search gives each trial one GPU; for more, see marsexp train --gpus")
    settings = StudySettings(
        name=options.name or generate_name("search"),
        uid=uuid.uuid4().hex,
        kind="search",
        seed=options.seed,
        budget=options.budget,
        engine=options.engine,
        sampler=sampler,
        scheduler=scheduler,
        objectives=objectives,
        min_epochs=min_epochs,
        max_epochs=max_epochs,
        reduction_factor=options.reduction_factor or space.reduction_factor,
        workers=workers,
        configs={BASE: base.model_dump(mode="json")},
        filters=options.filters,
        fingerprint={},
        space_name=space.name,
        space=space.document,
        pinned=pinned,
        author=options.provenance.author,
        tags=options.provenance.tags,
        note=options.provenance.note,
        tracking_uri=options.provenance.tracking_uri,
    )
    return settings, base


def _pin(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the space that the command line sets; values that exclude each other are rejected."""
    try:
        pinned = space.pins_among(values)
        space.pinned(pinned)
    except SpaceError as error:
        raise UsageError(f"--set: {error}") from None
    return pinned


def _base_config(
    space: Space, values: Mapping[str, Any], max_epochs: int, data: str | None, workers: int
) -> ExperimentConfig:
    fixed = {path: value for path, value in values.items() if path not in space.by_path}
    # All at once: each may be allowed only together with the others.
    config = with_assigned(ExperimentConfig(), {**space.fixed, "training.max_epochs": max_epochs, **fixed})
    return resolve_auto(config.with_values({"data.source": resolve_source(data)}), workers)


def _check_options(options: SearchOptions) -> None:
    if options.name is not None:
        check_name(options.name)
    _check_known("--engine", options.engine, SAMPLERS)
    if options.sampler is not None:
        _check_known(f"--sampler with --engine {options.engine}", options.sampler, SAMPLERS[options.engine])
        check_sampler_is_installed(options.sampler)
    if options.scheduler is not None:
        _check_known("--scheduler", options.scheduler, SCHEDULERS)


def _check_known(option: str, found: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if found not in known:
        hint = nearest_name_hint(found, known)
        raise UsageError(f"{option}: expected one of {', '.join(known)}, found '{found}'{hint}")


def _check_takes_several(option: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise UsageError(f"{option} {found} supports one objective only; these support several: {', '.join(known)}")
