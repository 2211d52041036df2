"""Which GPUs a study's workers see, and whether the machine has enough for it."""

import os
from collections.abc import Mapping

from marsseg.config import ExperimentConfig
from marsseg.errors import UsageError
from marsseg.jobs.progress import notify
from marsseg.training.runtime import available_cores, this_machine

# Building and tracing keep only one core busy, and the steps of small networks not even two.
_ON_A_PROCESSOR = 2
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def default_workers() -> int:
    """Default number of trials at a time: one per GPU, or two that share the CPU's cores."""
    return len(this_machine().gpus) or min(_ON_A_PROCESSOR, available_cores())


def check_gpus(wanted: int, by: str) -> None:
    """Rejects training on more GPUs than there are.

    Args:
        wanted: GPUs that one training run is distributed over.
        by: What requires them, as named in messages.

    Raises:
        UsageError: If there are fewer.
    """
    found = len(this_machine().gpus)
    if wanted > found:
        raise UsageError(
            f"{by}: expected at most as many GPUs as there are, found {found or 'none'} that TensorFlow can use; "
            "see marsexp doctor"
        )


def check_config_gpus(config: ExperimentConfig, whose: str) -> None:
    """Rejects a config for more GPUs than there are; a config for one GPU also trains on the CPU.

    Args:
        config: Says how many GPUs.
        whose: Recipe or run, as named in messages.

    Raises:
        UsageError: If there are fewer.
    """
    if config.training.gpus > 1:
        check_gpus(config.training.gpus, f"{whose} has training.gpus = {config.training.gpus}")


def worker_environments(num_workers: int, gpus_each: int = 1) -> list[dict[str, str]]:
    """The environment variables of each worker, so that it sees its own GPUs and no others.

    If there are fewer GPUs than the workers need, they share them, with a notice.

    Args:
        num_workers: Workers at a time.
        gpus_each: GPUs that each of them trains on.

    Returns:
        A mapping for each worker; empty ones on a machine without GPUs.
    """
    names = visible_gpus(len(this_machine().gpus), os.environ)
    if names and num_workers * gpus_each > len(names):
        notify(f"{num_workers} workers share {len(names)} GPU{'s' if len(names) > 1 else ''} and their memory")
    return share_out(names, num_workers, gpus_each)


def visible_gpus(count: int, environment: Mapping[str, str]) -> list[str]:
    """CUDA's names for this process' GPUs: numbers, or those that the environment restricts it to."""
    chosen = environment.get(_VISIBLE)
    return [name.strip() for name in chosen.split(",")][:count] if chosen else [str(number) for number in range(count)]


def share_out(names: list[str], num_workers: int, gpus_each: int) -> list[dict[str, str]]:
    """Assigns GPUs to workers in turn, `gpus_each` per worker, starting over where they run out."""
    if not names:
        return [{} for _ in range(num_workers)]
    turns = [[(worker * gpus_each + gpu) % len(names) for gpu in range(gpus_each)] for worker in range(num_workers)]
    return [{_VISIBLE: ",".join(names[number] for number in dict.fromkeys(turn))} for turn in turns]
