"""What both sides are given, as plain values on the command line."""

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """A U-Net and what it works on: tiles of 64×128 pixels with five classes.

    Args:
        task: `train` (answers images a second of an epoch, ours also the share of waiting), `first_step` (seconds from
            the settings to the first step's end, once) or `validate` (seconds for all images).
        filters: At the first level.
        num_blocks: Levels.
        batch_size: Images a step.
        num_images: Images an epoch, or a validation.
        threads: Processor cores to use.
        precision: Ours alone; `auto` by default.
        augmented: Ours alone: every random change of the training images, instead of none.
    """

    task: str
    filters: int = 16
    num_blocks: int = 4
    batch_size: int = 16
    num_images: int = 160
    threads: int = 2
    precision: str = "auto"
    augmented: bool = False

    def to_text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


HEIGHT, WIDTH, NUM_CLASSES = 64, 128, 5


def from_command_line() -> Settings:
    """What this process was started with."""
    return Settings(**json.loads(sys.argv[1]))
