"""What a side says and hears; without a library, since PyTorch's Python may have none of ours."""

import json
import sys
from typing import Any


def wait() -> None:
    """Waits for a line; ends the process when there are no more."""
    if not sys.stdin.readline():
        sys.exit()


def tell(value: Any) -> None:
    """Prints the answer to the line that `wait` returned for."""
    print(json.dumps(value), flush=True)
