"""The page of all results: one table per machine, and how each benchmark measures, from its own docstring."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.replay.figure import draw_regret, table

_FOLDER = Path(__file__).parent
_INTRO = """# Benchmarks

Made by `make bench` from [benchmarks/](../benchmarks): one script per figure, most beside a peer that is measured in
the same run. A figure is a median, with the quartiles of its repeats below it; the ratio says how many times better our
figure is than the peer's. `make bench ARGS="cli_start"` measures one benchmark again, reusing remembered measurements
that take hours. Each row is from the day that it names; the descriptions of the benchmarks below are as of today.
"""
_HEADER = "| benchmark | | ours | peer | ratio | promise | kept | day | more |\n|---|---|---|---|---|---|---|---|---|\n"
_IN_COLUMNS = {
    *("benchmark", "case", "unit", "ours", "peer", "peer_name", "ratio", "repeats", "ours_quartiles", "peer_quartiles"),
    *("target", "met", "machine", "measured", "share", "currency", "curves"),
}
_KEPT = {True: "yes", False: "**no**", None: ""}


def render_page(results: Iterable[Mapping[str, Any]], order: Sequence[str]) -> str:
    """The page as Markdown.

    Args:
        results: Lines of the benchmarks, as `Result.line` makes them.
        order: The benchmarks' names, in the order of the page.

    Returns:
        Text that ends with a line break.
    """
    results = sorted(results, key=lambda result: order.index(result["benchmark"]))
    by_machine: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_machine.setdefault(json.dumps(result["machine"], sort_keys=True), []).append(result)
    parts = [_INTRO]
    for rows in by_machine.values():
        parts.append(f"## On {_machine(rows[0]['machine'])}\n\n{_HEADER}{''.join(map(_row, rows))}")
    parts.append("## How each is measured\n")
    for name in dict.fromkeys(result["benchmark"] for result in results):
        parts.append(f"### {name}\n\n{_docstring(name)}\n")
        replayed = _replayed(results, name)
        if replayed:
            parts.append(f"![Regret vs. budget](pictures/{name}.png)\n\n{table(replayed)}")
    return "\n".join(parts)


def draw_pictures(results: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draws the plots of the page.

    Args:
        results: Lines of the benchmarks.
        folder: Where the plots are written.
    """
    for name in dict.fromkeys(result["benchmark"] for result in results if "policies" in result):
        draw_regret(_replayed(results, name), folder / f"{name}.png")


def _replayed(results: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The lines with all policies, from the machine that replayed last: another one may lack a peer."""
    found = [result for result in results if result["benchmark"] == name and "policies" in result]
    return [result for result in found if result["machine"] == found[-1]["machine"]]


def _machine(machine: Mapping[str, Any]) -> str:
    versions = f"Python {machine['python']}, TensorFlow {machine['tensorflow']}, Keras {machine['keras']}"
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['os']}; {versions}"


def _row(result: Mapping[str, Any]) -> str:
    unit = result["unit"]
    ours = _figure(result["ours"], result["ours_quartiles"], unit)
    peer = f"{result['peer_name']}: not installed" if result["peer_name"] else ""
    if result["peer"] is not None:
        peer = f"{_figure(result['peer'], result['peer_quartiles'], unit)}<br>{result['peer_name']}"
    ratio = "" if result["ratio"] is None else f"{result['ratio']:.3g}"
    promise = (result["target"] or "", _KEPT[result["met"]], result["measured"])
    cells = (result["benchmark"], result["case"], ours, peer, ratio, *promise, _details(result))
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"


def _details(result: Mapping[str, Any]) -> str:
    single = {name: value for name, value in result.items() if name not in _IN_COLUMNS}
    return ", ".join(f"{name} {value}" for name, value in single.items() if isinstance(value, int | float | str))


def _figure(median: float, quartiles: Sequence[float], unit: str) -> str:
    first, third = quartiles
    spread = f"<br>{_short(first)}–{_short(third)}" if first != third else ""
    return f"{_short(median)} {unit}".rstrip() + spread


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"


def _docstring(benchmark: str) -> str:
    source = (_FOLDER / f"{benchmark}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""
