"""`marsexp train`."""

from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import exit_status, print_json, print_leaderboard

# Options allowed with --resume: the others were fixed when the training was started.
_BESIDE_RESUME = {"resume", "data", "tracking_uri", "json", "debug"}


def train(
    context: typer.Context,
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE", help="Recipe files, folders of them, or names of shipped recipes, such as final_unet."
        ),
    ] = None,
    data: options.Data = None,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Name the training.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="N", help="Resume the training N.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="S", help="Train each recipe with S seeds.")] = 1,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, metavar="N", help="Distribute each training run over N GPUs.")
    ] = None,
    assignments: options.Set = None,
    tracking_uri: options.TrackingUri = None,
    author: options.Author = "",
    tag: options.Tag = None,
    note: options.Note = "",
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Train fixed recipes.

    Example: marsexp train experiments/final_unet.toml
    """
    from marsseg.errors import UsageError
    from marsseg.jobs.home import open_home
    from marsseg.jobs.train import resume_training, start_training

    if resume is not None:
        options.check_beside_resume(context, _BESIDE_RESUME)
        moved_to = tracking_uri if options.is_given(context, "tracking_uri") else None
        document = resume_training(open_home(), resume, data, moved_to)
    else:
        if not recipes:
            raise UsageError("expected a recipe, as in: marsexp train experiments/final_unet.toml")
        provenance = options.build_provenance(author, tag, note, tracking_uri)
        document = start_training(open_home(), recipes, data, name, seeds, gpus, assignments or (), provenance)
    if json:
        print_json(document)
    else:
        print_leaderboard(document, top=None)
    raise typer.Exit(exit_status(document))
