"""A reproduction's own run and folder, and what a killed one has left of both."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from marsseg.errors import first_line
from marsseg.jobs.home import Home
from marsseg.jobs.progress import notify
from marsseg.tracking.recorder import Point, Recorder


class Rerun:
    """A rerun's own run. A store that does not answer leaves a notice: the training and its verdict are worth more.

    Args:
        recorder: The open store.
        run_id: The run.
    """

    def __init__(self, recorder: Recorder, run_id: str) -> None:
        self.recorder = recorder
        self.run_id = run_id
        self._unsent: list[Point] = []

    def send(self, point: Point) -> None:
        """Sends a point, and those that the store has missed."""
        self._unsent.append(point)
        if self.attempt(lambda: self.recorder.log_points(self.run_id, self._unsent)):
            self._unsent.clear()

    def end(self, status: str) -> None:
        """Sets the state in which the run ended."""
        self.attempt(lambda: self.recorder.set_status(self.run_id, status, time.time_ns() // 1_000_000))

    def attempt(self, write: Callable[[], None]) -> bool:
        """Writes to the store; false and a notice if that fails."""
        try:
            write()
        except Exception as error:
            notify(f"run {self.run_id[:12]} could not be written to ({first_line(error)})")
            return False
        return True


@contextmanager
def rerun_folder(home: Home, run_id: str) -> Iterator[Path]:
    """The folder of a rerun's checkpoints and figures, there for as long as it is trained."""
    folder = home.reproductions / run_id
    lock = _lock(folder)
    with lock:
        try:
            yield folder
        finally:
            _remove(folder, lock)


def end_killed_reruns(home: Home, recorder: Recorder) -> None:
    """Removes the folders of reruns whose process was killed; their runs, if this store has them, end as killed."""
    for lock_file in home.reproductions.glob("*.lock"):
        folder = lock_file.with_suffix("")
        lock = _lock(folder)
        with suppress(Timeout), lock.acquire(timeout=0):
            _remove(folder, lock)
            if recorder.is_kept(folder.name):
                Rerun(recorder, folder.name).end("KILLED")


def _lock(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_suffix(".lock"))


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)
