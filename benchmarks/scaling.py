"""How cost grows: images per second in training and the process's memory, with one size changed at a time.

Around 4 levels, 16 filters, batches of 16 and 160 images; epochs as in `throughput`, without a peer. `resident_mib` is
the memory that the process holds after its epochs, libraries included.
"""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.processes import side
from benchmarks.results import Result
from benchmarks.sides.settings import Settings
from marsseg.training.runtime import available_cores

_REPEATS = 3


def main() -> None:
    """Reports one row per size."""
    for name, settings in _sizes(Settings("train", threads=available_cores())):
        with side("marsexp", settings) as ours:
            ours.ask()
            figures = [float(ours.ask()[0]) for _ in range(_REPEATS)]
            Result(
                "scaling",
                f"{name}, {ours.about['name']}",
                "images/s",
                figures,
                higher_is_better=True,
                details={"resident_mib": round(ours.resident_mib)},
            ).report()


def _sizes(middle: Settings) -> Iterator[tuple[str, Settings]]:
    for batch_size in (8, 16, 32, 64):
        yield f"batches of {batch_size}", replace(middle, batch_size=batch_size, num_images=max(160, 4 * batch_size))
    for filters in (8, 16, 32, 64):
        yield f"{filters} filters", replace(middle, filters=filters, num_images=64 if filters == 64 else 160)
    for num_blocks in (3, 4, 5, 6):
        yield f"{num_blocks} levels", replace(middle, num_blocks=num_blocks)
    for num_images in (160, 640, 2560):
        yield f"{num_images} images", replace(middle, num_images=num_images)


if __name__ == "__main__":
    main()
