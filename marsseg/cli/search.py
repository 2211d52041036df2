"""`marsexp search`."""

from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import exit_status, print_json, print_leaderboard


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("search")(search)


# What may stand beside --resume: the rest was settled when the search began.
_BESIDE_RESUME = {"resume", "budget", "data", "json", "debug"}


def search(
    context: typer.Context,
    budget: Annotated[int | None, typer.Option("--budget", min=1, metavar="N", help="Configurations to try.")] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="F", help="A space file or a shipped space; default: unet, without a GPU cpu."),
    ] = None,
    data: options.Data = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="E", help="Who proposes: optuna or keras-tuner.")
    ] = "optuna",
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="S",
            help="How: tpe, gp, cmaes, nsga2 or random with optuna, bayesian or random with keras-tuner.",
        ),
    ] = None,
    scheduler: Annotated[str, typer.Option("--scheduler", metavar="S", help="Who gets epochs: asha or none.")] = "asha",
    min_epochs: Annotated[int | None, typer.Option("--min-epochs", min=1, metavar="N", help="The first rung.")] = None,
    max_epochs: Annotated[int | None, typer.Option("--max-epochs", min=1, metavar="N", help="A full training.")] = None,
    reduction_factor: Annotated[
        int | None, typer.Option("--reduction-factor", min=2, metavar="N", help="One trial in N goes on.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Trials at a time; default: one a GPU, without a GPU one."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Name the search.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="N", help="Go on with the search N.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Decides proposals and trials' seeds.")] = 0,
    assignments: options.Set = None,
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
    from marsseg.jobs.search import SearchOptions, resume_search, start_search

    if resume is not None:
        options.check_beside_resume(context, _BESIDE_RESUME)
        document = resume_search(open_home(), resume, budget, data)
    else:
        if budget is None:
            raise UsageError("expected --budget, as in: marsexp search --budget 40")
        document = start_search(
            open_home(),
            SearchOptions(
                budget=budget,
                space=space,
                data=data,
                engine=engine,
                sampler=sampler,
                scheduler=scheduler,
                min_epochs=min_epochs,
                max_epochs=max_epochs,
                reduction_factor=reduction_factor,
                workers=workers,
                seed=seed,
                name=name,
                assignments=assignments or (),
                provenance=options.build_provenance(author, tag, note, tracking_uri),
            ),
        )
    if json:
        print_json(document)
    else:
        print_leaderboard(document, top=10)
    raise typer.Exit(exit_status(document))
