"""The settings of both sides, as plain values on the command line."""

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """A U-Net and its data: tiles of 64×128 pixels with five classes.

    Args:
        task: `train` (answers images per second of an epoch, ours also the share of waiting), `first_step` (seconds
            from the settings to the first step's end, once) or `validate` (seconds for all images).
        filters: Filters at the first level.
        num_blocks: Number of levels.
        batch_size: Images per step.
        num_images: Images per epoch, or per validation.
        threads: CPU cores to use.
        precision: For our side alone; `auto` by default.
        peer_precision: For the peers alone: `float32`, or `bfloat16` mixed with it.
        augmented: For our side alone: every kind of augmentation, instead of none.
    """

    task: str
    filters: int = 16
    num_blocks: int = 4
    batch_size: int = 16
    num_images: int = 160
    threads: int = 2
    precision: str = "auto"
    peer_precision: str = "float32"
    augmented: bool = False

    def to_text(self) -> str:
        """The settings as a command-line argument."""
        return json.dumps(asdict(self))


HEIGHT, WIDTH, NUM_CLASSES = 64, 128, 5


def from_command_line() -> Settings:
    """The settings that this process was started with."""
    return Settings(**json.loads(sys.argv[1]))
