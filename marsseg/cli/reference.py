"""The commands' own help as one page: `python -m marsseg.cli.reference docs/cli.md` writes it.

Knows no command by name: whatever the command line parser knows about its commands is what the page says.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

_EXAMPLE = "Example:"
_HEAD = """# The command

<!-- Made by `make docs` from what `--help` says; a change here is lost. -->

{about}

Results go to stdout, progress and notices to stderr. A command ends with status 0 if it did what was asked, 1 if it
failed, 2 if it was used wrongly, 130 if it was interrupted (`marsexp ui`, which runs until then: 0). The documents that
`--json` prints have their schemas in [schemas](schemas).
"""


@dataclass(frozen=True)
class CommandHelp:
    """What one command says about itself.

    Args:
        path: The words that call it, as `("marsexp", "data", "clean")`.
        about: Its help without the example.
        example: A command line, or an empty string.
        usage: As `marsexp show [OPTIONS] RUN`.
        parameters: Arguments and options with their meaning, as `--help` shows them.
        is_group: Whether it only holds other commands.
    """

    path: tuple[str, ...]
    about: str
    example: str
    usage: str
    parameters: tuple[tuple[str, str], ...]
    is_group: bool

    @property
    def name(self) -> str:
        """The words as they are typed."""
        return " ".join(self.path)


def describe_commands(app: typer.Typer) -> list[CommandHelp]:
    """Every command and group below the app, in the order of `--help`, a group before its commands."""
    root = get_command(app)
    context = root.make_context(root.name or "marsexp", [], resilient_parsing=True)
    return [_describe(command, context) for command, context in _walk(root, context)]


def render_reference(app: typer.Typer) -> str:
    """The page, in Markdown."""
    root, *commands = describe_commands(app)
    parts = [_HEAD.format(about=root.about), "\n".join(_contents_line(command) for command in commands) + "\n"]
    parts += [_section(command) for command in commands]
    return "\n".join(parts)


def _walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    yield command, context
    if _is_group(command):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if not child.hidden:
                yield from _walk(child, child.make_context(name, [], parent=context, resilient_parsing=True))


def _describe(command: Any, context: Any) -> CommandHelp:
    paragraphs = [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")]
    examples = [paragraph for paragraph in paragraphs if paragraph.startswith(_EXAMPLE)]
    records = [parameter.get_help_record(context) for parameter in command.params]
    return CommandHelp(
        path=tuple(context.command_path.split()),
        about="\n\n".join(paragraph for paragraph in paragraphs if paragraph not in examples),
        example=examples[0].removeprefix(_EXAMPLE).strip() if examples else "",
        # The parser breaks lines for the terminal at hand.
        usage=" ".join(command.get_usage(context).removeprefix("Usage:").split()),
        parameters=tuple((names, " ".join(meaning.split())) for names, meaning in filter(None, records)),
        is_group=_is_group(command),
    )


def _is_group(command: Any) -> bool:
    return hasattr(command, "commands")


def _contents_line(command: CommandHelp) -> str:
    indent = "  " * (len(command.path) - 2)
    first_line = command.about.partition("\n")[0]
    return f"{indent}- [`{command.name}`](#{'-'.join(command.path)}): {first_line}"


def _section(command: CommandHelp) -> str:
    level = "#" * len(command.path)
    lines = [f"{level} {command.name}", "", command.about, "", f"Usage: `{command.usage}`", ""]
    if command.example:
        lines += ["```console", f"$ {command.example}", "```", ""]
    if command.parameters:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(names)}` | {_cell(meaning)} |" for names, meaning in command.parameters]
        lines += [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(path: str) -> None:
    """Writes the page to a file."""
    from marsseg.cli.app import app

    Path(path).write_text(render_reference(app), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
