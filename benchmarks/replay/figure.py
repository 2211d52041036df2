"""The results of the search replay, as a plot and a table, from the benchmark's lines."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

OURS = "freeze-thaw"
_DPI = 120
_COLUMNS = 2
_COLOURS, _DASHES = colormaps["tab20b"], ("-", "--", ":")
_OUR_STYLE = {"color": "#d62f2f", "linewidth": 2.5, "zorder": 3}


def draw_regret(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plots regret vs. budget, a panel for each currency and subset of the curves; ours with its 95 % band.

    Args:
        results: The benchmark's lines.
        path: The PNG file.
    """
    cases = _by_case(results)
    num_rows = math.ceil(len(cases) / _COLUMNS)
    figure = Figure(figsize=(6 * _COLUMNS, 4.2 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, (case, rows) in zip(panels, cases.items(), strict=False):
        shares = [float(share) for share in rows]
        for index, name in enumerate(next(iter(rows.values()))["policies"]):
            bands = [row["policies"][name]["regret"] for row in rows.values()]
            style: dict[str, Any] = (
                _OUR_STYLE if name == OURS else {"color": _COLOURS(index), "linestyle": _DASHES[index % 3]}
            )
            axes.plot(shares, [band["mean"] for band in bands], marker="o", markersize=3, label=name, **style)
            if name == OURS:
                lows, highs = ([band[end] for band in bands] for end in ("low", "high"))
                axes.fill_between(shares, lows, highs, color="#d62f2f", alpha=0.2)
        axes.set(title=f"budget in {case}", xlabel="share of full training", xscale="log", ylim=(0, 0.2))
        axes.set_xticks(shares, [str(share) for share in rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_ylabel("regret (val_mean_iou_foreground)")
    panels[1].legend(fontsize=7, loc="upper right", ncols=2)
    figure.savefig(path, dpi=_DPI)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Mean regrets as Markdown, a row per policy, with the paired 95 % band of how far it is behind ours."""
    parts = []
    for case, rows in _by_case(results).items():
        shares = " | ".join(map(str, rows))
        parts.append(f"| budget in {case} | {shares} |\n|---|{'---|' * len(rows)}\n")
        for name in next(iter(rows.values()))["policies"]:
            cells = [_cell(row["policies"][name]) for row in rows.values()]
            parts.append(f"| {f'**{name}**' if name == OURS else name} | {' | '.join(cells)} |\n")
        parts.append("\n")
    return "".join(parts)


def _cell(policy: Mapping[str, Any]) -> str:
    text = f"{policy['regret']['mean']:.3f}"
    behind = policy.get("behind_ours")
    if behind is None:
        return f"**{text}**"
    if behind["low"] > 0:
        return f"{text} (+{behind['low']:.3f} … +{behind['high']:.3f})"
    return f"{text} (ahead)" if behind["high"] < 0 else f"{text} (level)"


def _by_case(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[Fraction, Mapping[str, Any]]]:
    found: dict[str, dict[Fraction, Mapping[str, Any]]] = {}
    for result in results:
        case = f"{result['currency']}, curves {result['curves']}"
        found.setdefault(case, {})[Fraction(result["share"])] = result
    return found
