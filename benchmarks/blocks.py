"""Milliseconds of a training step with each option of the space `unet` alone: 4 levels, 16 filters, batch 16.

Forward, loss, backward and update. The peer of each row is our own network with every hyperparameter at its default, in
the same process, with interleaved steps: a block may cost at most twice the plain network's step.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.results import Promise, Result
from benchmarks.turns import take_turns
from marsseg.config import ExperimentConfig
from marsseg.jobs.shipped import find_space
from marsseg.search.space_file import load_space
from marsseg.training.measure import build_step, random_batch
from marsseg.training.runtime import configure_runtime, resolve_auto

_IMAGE_SHAPE = 64, 128
_PLAIN = {"model.num_blocks": 4, "model.base_filters": 16, "training.batch_size": 16}
_REPEATS, _WARM_UP = 9, 2
# Fields that set the size of everything, and fields that a step does not depend on.
_NOT_BLOCKS = {*_PLAIN, "optimizer.learning_rate", "optimizer.weight_decay", "augmentation.flips"}


def main() -> None:
    """Reports one row per option."""
    plain = resolve_auto(ExperimentConfig().with_values(_PLAIN))
    configure_runtime(plain.training.threads)
    plain_step = _step(plain)
    for name, values in choices():
        config = plain.with_values(values)
        if config == plain:
            continue
        figures, peer_figures = take_turns(_step(config), plain_step, _REPEATS, _WARM_UP)
        Result(
            "blocks",
            f"{name}, {config.training.precision}",
            "ms",
            figures,
            peer_figures,
            "the plain network",
            promise=Promise(0.5, "ratio"),
        ).report()


def choices() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each option of each parameter, its parents at the last value under which it is active."""
    space = load_space(find_space("unet"))
    for parameter in space.parameters:
        if parameter.path in _NOT_BLOCKS:
            continue
        parents = {parent: allowed[-1] for parent, allowed in parameter.when.items()}
        for option in parameter.domain.bounds():
            values = {**parents, parameter.path: option}
            yield ", ".join(f"{path.split('.')[1]} = {value}" for path, value in values.items()), values


def _step(config: ExperimentConfig) -> Callable[[], float]:
    images, labels = random_batch(config, _IMAGE_SHAPE)
    _, step = build_step(config, _IMAGE_SHAPE)
    return partial(_milliseconds, lambda: float(step(images, labels)))


def _milliseconds(call: Callable[[], float]) -> float:
    begin = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
