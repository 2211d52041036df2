"""Command lines that documents show, parsed as running them would."""

import shlex
from typing import Any

import typer
from typer.main import get_command


def parse_example(app: typer.Typer, example: str) -> typer.Context:
    """Parses a command line as running it would, but runs nothing.

    Args:
        app: Whose commands.
        example: As `marsexp show best`.

    Returns:
        The context in which the command would run.

    Raises:
        ValueError: If it names no command.
        Exception: The parser's usage error, where an option or a value is not right.
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
