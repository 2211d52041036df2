"""Options that several commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from marsseg.jobs.inputs import Provenance

Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="D", help="A data set (.npz) or 'synthetic'; default: MARSEXP_DATA, then synthetic."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Set a field of the experiment config; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _resolve_uri(uri: str | None) -> str | None:
    from marsseg.jobs.home import resolve_tracking_uri

    return resolve_tracking_uri(uri) if uri else None


# Read only here, so that a search keeps the server it was started with, whoever resumes it.
TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="U",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=False,
        callback=_resolve_uri,
        help="An MLflow server instead of the embedded store; default: MLFLOW_TRACKING_URI.",
    ),
]
Author = Annotated[str, typer.Option("--author", metavar="A", help="Who runs this.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag the runs; may be repeated.")]
Note = Annotated[str, typer.Option("--note", metavar="T", help="Why this is run.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter is given on the command line itself, not only in the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_beside_resume(context: typer.Context, allowed: set[str]) -> None:
    """Rejects options that would change what is being resumed.

    Raises:
        UsageError: If there are any.
    """
    from marsseg.errors import UsageError

    for parameter in context.command.params:
        name = parameter.name or ""
        if is_given(context, name) and name not in allowed:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else name.upper()
            raise UsageError(f"--resume keeps the original settings; remove {shown}")


def build_provenance(author: str, tags: list[str] | None, note: str, tracking_uri: str | None) -> "Provenance":
    """Collects author, tags and note.

    Raises:
        UsageError: If a tag has no `=` or a reserved key, or a text is not Unicode.
    """
    from marsseg.jobs.inputs import Provenance, check_text, parse_tags

    check_text("--author", author)
    check_text("--note", note)
    return Provenance(author, parse_tags(tags or []), note, tracking_uri)
