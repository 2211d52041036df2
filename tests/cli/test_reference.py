"""docs/cli.md and the help texts that it is generated from."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from marsseg.cli.app import app
from marsseg.cli.reference import CommandHelp, describe_commands, main, render_reference
from tests.cli.command_lines import parse_example

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
COMMANDS = describe_commands(app)


def of_each_command(*, groups: bool) -> pytest.MarkDecorator:
    chosen = [command for command in COMMANDS if groups or not command.is_group]
    return pytest.mark.parametrize("command", chosen, ids=lambda command: command.name)


def test_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(app), "docs/cli.md is stale; run: make docs"


def test_page_is_written_the_same_on_a_narrow_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERMINAL_WIDTH", "40")
    main(str(tmp_path / "cli.md"))
    assert (tmp_path / "cli.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


@of_each_command(groups=True)
def test_every_command_and_parameter_has_help(command: CommandHelp) -> None:
    assert command.about.endswith(".")
    assert all(meaning.strip() for _, meaning in command.parameters)


@of_each_command(groups=False)
def test_every_command_has_an_example_that_parses(command: CommandHelp) -> None:
    assert command.example, f"{command.name}: expected a paragraph 'Example: {command.name} …' in its docstring"
    context = parse_example(app, command.example)
    assert context.command_path == command.name


@of_each_command(groups=False)
def test_example_stands_on_a_line_of_its_own_in_the_help(command: CommandHelp) -> None:
    done = CliRunner().invoke(app, [*command.path[1:], "--help"], terminal_width=80)
    assert done.exit_code == 0
    assert f"Example: {command.example}" in [line.strip() for line in done.output.splitlines()]


@pytest.mark.parametrize(
    "example",
    [
        "marsexp search --budgets 40",
        "marsexp search --budget 40 --workers many",
        "marsexp serch --budget 40",
        "marsexp data inspct",
        "marsexp data",
        "marsexp show",
        "marsexp data clean --out a.npz b.npz",
        "mars search --budget 40",
    ],
)
def test_wrong_examples_do_not_parse(example: str) -> None:
    with pytest.raises(Exception, match=r"[a-z]"):
        parse_example(app, example)


def test_examples_in_the_readme_parse() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ").partition("#")[0] for line in readme.splitlines() if line.startswith("$ marsexp ")]
    assert len(lines) > 5
    for line in lines:
        parse_example(app, line)


def test_links_and_pictures_in_the_readme_exist() -> None:
    root = PAGE.parents[1]
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", (root / "README.md").read_text(encoding="utf-8"))
    assert "docs/pictures/leaderboard.png" in targets
    assert [target for target in targets if not (root / target).exists()] == []


def test_groups_within_groups_and_cells_with_bars() -> None:
    outer, inner = typer.Typer(name="outer", help="Holds."), typer.Typer(help="Holds more.")

    @inner.command()
    def work(mode: str = typer.Option("a", help="Either a|b.")) -> None:
        """Work.

        Example: outer inner work --mode b
        """
        raise AssertionError("parsing must not run it")

    inner.command("idle")(lambda: None)
    outer.add_typer(inner, name="inner")
    assert parse_example(outer, "outer inner work --mode b").params == {"mode": "b"}
    page = render_reference(outer)
    assert "  - [`outer inner work`](#outer-inner-work): Work." in page
    assert "### outer inner work" in page
    assert "Either a\\|b." in page
    assert shlex.split(describe_commands(outer)[2].example) == ["outer", "inner", "work", "--mode", "b"]
