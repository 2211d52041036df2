"""Command lines shown in documents, parsed as if they were run."""

import shlex
from typing import Any

import typer
from typer.main import get_command


def parse_example(app: typer.Typer, example: str) -> typer.Context:
    """Parses a command line as if it were run, but runs nothing.

    Args:
        app: The application that has the commands.
        example: For example `marsexp show best`.

    Returns:
        The context in which the command would run.

    Raises:
        ValueError: If it names no command.
        Exception: The parser's usage error, if an option or a value is wrong.
    """
    program, *words = shlex.split(example)
    command: Any = get_command(app)
    if program != command.name:
        raise ValueError(f"expected a command line that begins with '{command.name}', found '{example}'")
    name, context = program, None
    while words and words[0] in getattr(command, "commands", {}):
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
        command = command.commands[words[0]]
        name, *words = words
    if hasattr(command, "commands"):
        raise ValueError(f"expected a command of '{name}' in '{example}', found none")
    parsed: typer.Context = command.make_context(name, words, parent=context)
    return parsed
