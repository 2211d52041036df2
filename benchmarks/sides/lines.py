"""The lines that a side reads and writes; without any library, since PyTorch's Python may have none of ours."""

import json
import sys
from typing import Any


def wait() -> str:
    """Waits for a line and returns it; ends the process when there are no more."""
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    return line


def tell(value: Any) -> None:
    """Prints the answer to the line that `wait` returned for."""
    print(json.dumps(value), flush=True)
