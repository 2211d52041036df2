"""The command `marsexp`: its groups, and the boundary where errors become one line and an exit status."""

import atexit
import gc
import io
import os
import signal
import sys
import traceback

import typer

from marsseg import __version__
from marsseg.cli import data, doctor, runs, search, train
from marsseg.jobs.interrupts import forget_closed_terminal

# New objects after which Python collects garbage; its default is 700.
_MANY_OBJECTS = 100_000

app = typer.Typer(
    name="marsexp",
    help="Finds, tracks and reproduces the best segmentation network you can afford.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"marsexp {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Finds, tracks and reproduces the best segmentation network you can afford."""


for _command in (
    *(search.search, train.train),
    *(runs.leaderboard, runs.show, runs.reproduce, runs.evaluate, runs.ui),
    doctor.doctor,
):
    app.command()(_command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Runs the command; errors raised on purpose become one line and an exit status."""
    _open_missing_streams()
    # Imported modules and nearly all data live until the end: collecting garbage among them takes a fifth of a
    # command's time, and another half a second at exit.
    gc.set_threshold(_MANY_OBJECTS)
    atexit.register(gc.freeze)
    # MLflow would send telemetry, and its progress bars get in the way of results.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # By default it retries an unreachable server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # A terminal that cannot show an ellipsis or an arrow must not cost the result.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _interrupt)
    # Sent when the terminal is closed; ignored under nohup.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    debug = "--debug" in sys.argv
    try:
        status = app(standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        message, status = _describe(error)
        print(message, file=sys.stderr)
    sys.exit(status)


def _open_missing_streams() -> None:
    """Sends to nowhere what was closed when the process started; no other file may get the number of such a stream."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            # Closed by nobody, as the streams that it stands for.
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _interrupt(number: int, _: object) -> None:
    """SIGTERM and SIGHUP stop the command as cleanly as Ctrl-C."""
    forget_closed_terminal(number)
    raise KeyboardInterrupt


def _describe(error: Exception) -> tuple[str, int]:
    """An error as one line and an exit status."""
    from marsseg.errors import MarsexpError, UsageError, kind_and_first_line

    if isinstance(error, MarsexpError):
        return f"marsexp: {error}", 2 if isinstance(error, UsageError) else 1
    if isinstance(error, OSError) and error.strerror:
        return f"marsexp: {error.filename or 'input or output'}: {error.strerror.lower()}", 1
    # The command line parser's errors come from a private module, so they are recognised by their method.
    if format_message := getattr(error, "format_message", None):
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            return str(format_message()), 2
        command = context.command_path if context else "marsexp"
        return f"marsexp: {' '.join(format_message().split())}; see {command} --help", 2
    return f"marsexp: unexpected {kind_and_first_line(error)}; --debug shows where", 1


if __name__ == "__main__":
    main()
