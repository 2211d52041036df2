"""Ctrl-C, SIGTERM or a closed terminal as a request to stop work between two writes, not in the middle of one."""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def forget_closed_terminal(number: int) -> None:
    """After a SIGHUP, discards all output: writing to a terminal that is gone would be an error."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            # A terminal that is gone is not a terminal any more, but still a device.
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
        os.close(nowhere)


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """Turns the first interruption into an event that is set; a second one interrupts at once.

    An exception raised wherever the interpreter happens to be can be swallowed there, for example in a library's
    clean-up.

    Yields:
        The event, for the block to check.
    """
    requested = threading.Event()

    def request(number: int, _: Any) -> None:
        forget_closed_terminal(number)
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    # Under nohup it is ignored.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
