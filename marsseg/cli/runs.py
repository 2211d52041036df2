"""`marsexp leaderboard`, `show`, `reproduce`, `evaluate` and `ui`: shows runs, and runs them again."""

from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import print_json, print_leaderboard

_Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run ID or a unique prefix of one, 'best' (the winner of the most recently started search or training) "
        "or 'best:NAME'.",
    ),
]

_OwnData = Annotated[
    str | None,
    typer.Option("--data", metavar="D", help="A data set (.npz) or 'synthetic'; default: the run's own data set."),
]


def leaderboard(
    search: Annotated[
        str | None, typer.Argument(metavar="SEARCH", help="Default: the most recently started search or training.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Show only the first N.")] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="METRIC",
            help="best_val_mean_iou, best_epoch, epochs, params, duration_s or trial; completed trials come first.",
        ),
    ] = "best_val_mean_iou",
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    optuna: Annotated[
        str | None,
        typer.Option("--optuna", metavar="URL", help="Also write the trials to this database, for optuna-dashboard."),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Show a search's trials, best first.

    Example: marsexp leaderboard --top 5
    """
    from marsseg.errors import UsageError
    from marsseg.jobs.home import open_home
    from marsseg.jobs.leaderboard import load_leaderboard

    if json and csv:
        raise UsageError("expected --json or --csv, found both")
    document = load_leaderboard(open_home(), search, sort)
    if optuna is not None:
        from marsseg.jobs.optuna_export import export_study

        export_study(open_home(), document["search"], optuna)
    if json or csv:
        document["trials"] = document["trials"][:top]
    if json:
        print_json(document)
    elif csv:
        from marsseg.report.leaderboard import render_csv

        print(render_csv(document), end="")
    else:
        print_leaderboard(document, top)


def show(
    run: _Run,
    tracking_uri: options.TrackingUri = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show a run's config, scores and provenance.

    Example: marsexp show best
    """
    from marsseg.jobs.home import open_home
    from marsseg.jobs.show import describe_run, render_run

    document = describe_run(open_home(), run, tracking_uri)
    if json:
        print_json(document)
    else:
        print(render_run(document), end="")


def reproduce(
    run: _Run,
    data: _OwnData = None,
    assignments: options.Set = None,
    tracking_uri: options.TrackingUri = None,
    author: options.Author = "",
    tag: options.Tag = None,
    note: options.Note = "",
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Train a run again and compare it bit for bit.

    Example: marsexp reproduce best
    """
    from marsseg.jobs.home import open_home
    from marsseg.jobs.reproduce import reproduce_run

    provenance = options.build_provenance(author, tag, note, tracking_uri)
    document = reproduce_run(open_home(), run, data, assignments or (), provenance)
    if json:
        print_json(document)
    else:
        print(f"{document['verdict']}: {document['summary']}")
    if document["verdict"] == "diverged":
        raise typer.Exit(1)


def evaluate(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run IDs or unique prefixes of them, 'best' (the winner of the most recently started search or "
            "training) or 'best:NAME'.",
        ),
    ],
    data: _OwnData = None,
    split: Annotated[str, typer.Option("--split", metavar="S", help="validation, test or all images.")] = "validation",
    tta: Annotated[
        bool, typer.Option("--tta", help="Test-time augmentation: average over each image and its mirror images.")
    ] = False,
    tracking_uri: options.TrackingUri = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Score a run, or several as an ensemble.

    Example: marsexp evaluate best --split test
    """
    from marsseg.jobs.evaluate import evaluate_runs, render_evaluation
    from marsseg.jobs.home import open_home

    document = evaluate_runs(open_home(), runs, data, split, tracking_uri, tta)
    if json:
        print_json(document)
    else:
        print(render_evaluation(document), end="")


def ui(
    search: Annotated[
        str | None, typer.Argument(metavar="SEARCH", help="Show this search's trials; default: all trained runs.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, metavar="P", help="The port.")] = 5000,
    tracking_uri: options.TrackingUri = None,
    debug: options.Debug = False,
) -> None:
    """Serve the MLflow UI and print the leaderboard's address; if the store is a server, only print it.

    Example: marsexp ui
    """
    from marsseg.jobs.home import open_home
    from marsseg.jobs.ui import open_ui

    raise typer.Exit(open_ui(open_home(), search, port, tracking_uri))
