"""Seconds to validate 250 tiles of 64×128: 4 levels, 16 filters.

Ours predicts and counts the confusion matrix of all images, as after every epoch; plain Keras evaluates with its
loss and its `MeanIoU`, at its own batch size of 32. Each side has a process of its own; their runs are interleaved.
"""

from benchmarks.processes import side
from benchmarks.results import Promise, Result
from benchmarks.sides.settings import Settings
from benchmarks.turns import take_turns
from marsseg.training.runtime import available_cores

_REPEATS = 9


def main() -> None:
    """Compares with plain Keras."""
    settings = Settings("validate", num_images=250, threads=available_cores())
    with side("marsexp", settings) as ours, side("plain_keras", settings) as peer:
        figures, peer_figures = take_turns(ours.ask, peer.ask, _REPEATS, warm_up=1)
        Result(
            "validation",
            f"16 filters, {ours.about['name']}",
            "s",
            figures,
            peer_figures,
            peer.about["name"],
            promise=Promise(3.0, "ratio"),
        ).report()


if __name__ == "__main__":
    main()
