"""`marsexp search`."""

from pathlib import Path
from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import exit_status, print_json, print_leaderboard, print_plan

# Options allowed with --resume: the others were fixed when the search was started.
_BESIDE_RESUME = {"resume", "budget", "data", "record", "confirm", "seeds", "tracking_uri", "json", "debug"}


def search(
    context: typer.Context,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="B", help="How much to spend: 40 (configurations), 500epochs, 30min or 2h."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="F", help="A space file or a shipped space; default: unet with a GPU, cpu without."
        ),
    ] = None,
    data: options.Data = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="E", help="Library that proposes configurations: optuna or keras-tuner.")
    ] = "optuna",
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="S",
            help="Sampler: with optuna tpe (the default), gp, cmaes, nsga2 or random, with keras-tuner bayesian (the "
            "default) or random.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="S",
            help="Scheduler that allocates epochs to trials: freeze-thaw (the default), asha (the default for several "
            "objectives), hyperband, median, topk or none.",
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="M",
            help="Objective: val_mean_iou; repeat the option to add params or flops, for a Pareto front.",
        ),
    ] = None,
    min_epochs: Annotated[
        int | None,
        typer.Option(
            "--min-epochs",
            min=1,
            metavar="N",
            help="Epochs after which a new trial is first paused; default: the space's.",
        ),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option("--max-epochs", min=1, metavar="N", help="Epochs of a full training run; default: the space's."),
    ] = None,
    reduction_factor: Annotated[
        int | None,
        typer.Option(
            "--reduction-factor",
            min=2,
            metavar="N",
            help="Successive-halving factor of asha, hyperband and topk; default: the space's.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, metavar="N", help="Trials at a time; default: one per GPU, or two without a GPU."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the plan, its cost and the first configurations.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Name the search.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="N", help="Resume the search N.")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="S", help="Random seed of the proposals and of the trials' seeds.")
    ] = 0,
    assignments: options.Set = None,
    max_params: Annotated[
        int | None,
        typer.Option("--max-params", min=1, metavar="N", help="Reject networks with more than N parameters."),
    ] = None,
    max_flops: Annotated[
        int | None,
        typer.Option("--max-flops", min=1, metavar="N", help="Reject networks with more than N FLOPs per image."),
    ] = None,
    max_step_ms: Annotated[
        float | None,
        typer.Option(
            "--max-step-ms",
            min=0.0,
            metavar="N",
            help="Reject networks with a training step above N ms on this machine.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Write all learning curves to a new file, one JSON line each."),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option("--confirm", min=1, metavar="K", help="After the search, retrain the K best with new seeds."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, metavar="S", help="Number of new seeds per configuration for --confirm; default: 3."
        ),
    ] = None,
    tracking_uri: options.TrackingUri = None,
    author: options.Author = "",
    tag: options.Tag = None,
    note: options.Note = "",
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Search for the best network.

    Example: marsexp search --budget 40
    """
    from marsseg.errors import UsageError
    from marsseg.jobs.home import open_home
    from marsseg.jobs.search import Afterwards, SearchOptions, plan_search, resume_search, start_search
    from marsseg.jobs.settings import Filters
    from marsseg.search.budget import Budget

    if seeds is not None and confirm is None:
        raise UsageError("--seeds: expected --confirm K with it, as in: --confirm 3 --seeds 5")
    afterwards = Afterwards(record, confirm, seeds or 3)
    limit = Budget.parse(budget) if budget is not None else None
    if resume is not None:
        options.check_beside_resume(context, _BESIDE_RESUME)
        moved_to = tracking_uri if options.is_given(context, "tracking_uri") else None
        document = resume_search(open_home(), resume, limit, data, moved_to, afterwards)
    else:
        if limit is None:
            raise UsageError("expected --budget, as in: marsexp search --budget 40")
        search_options = SearchOptions(
            budget=limit,
            space=space,
            data=data,
            engine=engine,
            sampler=sampler,
            scheduler=scheduler,
            objectives=objective,
            min_epochs=min_epochs,
            max_epochs=max_epochs,
            reduction_factor=reduction_factor,
            workers=workers,
            seed=seed,
            name=name,
            assignments=assignments or (),
            filters=Filters(max_params, max_flops, max_step_ms),
            afterwards=afterwards,
            provenance=options.build_provenance(author, tag, note, tracking_uri),
        )
        if dry_run:
            plan = plan_search(open_home(), search_options)
            (print_json if json else print_plan)(plan)
            return
        document = start_search(open_home(), search_options)
    if json:
        print_json(document)
    else:
        print_leaderboard(document, top=10)
    raise typer.Exit(exit_status(document))
