"""Seconds from a network's settings to the end of its first training step: 4 levels, 16 filters, batch 16.

Building the network, its optimizer and its input, tracing and one step; imports and data loading are not timed. Plain
Keras builds, compiles and fits one batch. Every figure comes from a fresh process, ours and the peer's interleaved.
"""

from benchmarks.processes import side
from benchmarks.results import Promise, Result
from benchmarks.sides.settings import Settings
from benchmarks.turns import take_turns
from marsseg.training.runtime import available_cores

_REPEATS = 7


def main() -> None:
    """Compares with plain Keras."""
    settings = Settings("first_step", threads=available_cores())
    names: dict[str, str] = {}

    def measure(name: str) -> float:
        with side(name, settings) as process:
            names[name] = process.about["name"]
            return float(process.ask())

    figures, peer_figures = take_turns(lambda: measure("marsexp"), lambda: measure("plain_keras"), _REPEATS)
    Result(
        "first_step",
        f"16 filters, {names['marsexp']}",
        "s",
        figures,
        peer_figures,
        names["plain_keras"],
        promise=Promise(3.0, "ratio"),
    ).report()


if __name__ == "__main__":
    main()
