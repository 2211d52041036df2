"""`marsexp doctor`."""

import typer

from marsseg.cli import options
from marsseg.cli.output import print_json


def doctor(
    tracking_uri: options.TrackingUri = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check that everything a search needs is in place.

    Changes nothing. The exit status is 1 if there is a problem.

    Example: marsexp doctor
    """
    from marsseg.jobs.doctor import examine, render_examination

    document = examine(tracking_uri)
    if json:
        print_json(document)
    else:
        print(render_examination(document), end="")
    raise typer.Exit(1 if document["state"] == "problem" else 0)
