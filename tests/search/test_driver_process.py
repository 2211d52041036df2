"""Workers of a driver that is a process of its own: signals that reach it, and its death."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.search.test_executor import wait_until_gone

IMPORTS = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    "from tests.search.test_executor import FINAL, serve\n"
    "from marsseg.search.executor import LocalExecutor\n"
)


def test_a_worker_ends_when_its_driver_is_killed() -> None:
    script = (
        f"{IMPORTS}"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(serve, 1, FINAL)\n"
        "    executor.submit('task', ('sleep', 600))\n"
        "    while not (messages := executor.poll(0.2)):\n"
        "        pass\n"
        "    print(messages[0].body, flush=True)\n"
        "    executor.poll(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        worker = int(driver.stdout.readline())
        assert psutil.pid_exists(worker)
        driver.kill()
    wait_until_gone(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process' blocked signals from /proc")
def test_what_a_terminal_sends_reaches_no_worker_not_even_the_first() -> None:
    # The first worker of a process starts multiprocessing's resource tracker, too.
    script = (
        f"{IMPORTS}"
        "executor = LocalExecutor(serve, 2, FINAL)\n"
        "pids = []\n"
        "for key in 'ab':\n"
        "    executor.submit(key, ('count', 0), runtime=key)\n"
        "while len(pids) < 2:\n"
        "    pids += [message.body for message in executor.poll(5) if message.kind == 'done']\n"
        "for pid in pids:\n"
        "    status = open(f'/proc/{pid}/status').read()\n"
        "    print(int(status.split('SigBlk:')[1].split()[0], 16))\n"
        "executor.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    masks = [int(line) for line in done.stdout.split()]
    assert len(masks) == 2
    assert all(mask >> (signal.SIGINT - 1) & 1 for mask in masks)
