"""Executors: where segments run. Here: worker processes on this machine.

A worker is a fresh process that serves one task after the other through a pipe, so that imports are paid once and a
crash takes nothing else with it. The `serve` function knows what a task means; this module passes messages and watches
for workers that die or fall silent.
"""

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from marsseg.errors import TrainingError

_SILENCE_S = 120.0
_SILENCE_STEPS = 20
_STEPS_REMEMBERED = 50
_GRACE_S = 5.0
# After so many workers in a row have ended over one task without sending a message, the machine is to blame.
_MOST_MUTE_DEATHS = 4
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)

Serve = Callable[[Connection], None]


@dataclass(frozen=True)
class Message:
    """A worker's message about its task.

    Args:
        key: The task's key.
        kind: Chosen by the worker. `step` (body: seconds) and `alive` are signs of life that never leave this module,
            nor does `renew`, upon which a fresh worker takes over the task; `died` is sent on behalf of a dead worker;
            after `failed` the worker is replaced.
        body: Plain values; for `died` the reason.
    """

    key: Hashable
    kind: str
    body: Any


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    runtime: Hashable
    place: int
    key: Hashable | None = None
    last_key: Hashable | None = None
    task: Any = None
    has_spoken: bool = False
    mute_before: int = 0
    silent_s: float = 0.0
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_REMEMBERED))

    @property
    def usual_silence_s(self) -> float:
        return statistics.median(self.step_seconds) * _SILENCE_STEPS if self.step_seconds else 0.0


class LocalExecutor:
    """Runs tasks in worker processes on this machine.

    A worker that ends before its first message is replaced, and its task goes to its successor.

    Args:
        serve: Runs in the worker: takes tasks from the connection until it is closed, sends (kind, body) pairs. A
            task's last message has a kind in `final_kinds`, or it is `renew`, which a fresh worker must not send. A
            worker's first message shows that it was able to start. Must be importable by name.
        num_workers: Number of tasks that run at a time.
        final_kinds: Kinds after which a worker is free again.
        environments: Environment variables of each worker besides ours, one mapping per worker; by default none.
        silence_s: Seconds for which a worker may give no sign of life, unless twenty of its steps take longer.

    Attributes:
        silence_s: As above; may be changed.
    """

    def __init__(
        self,
        serve: Serve,
        num_workers: int,
        final_kinds: frozenset[str],
        environments: Sequence[Mapping[str, str]] = (),
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._serve = serve
        self._num_workers = num_workers
        self._final_kinds = final_kinds
        self._environments = environments or [{}] * num_workers
        self.silence_s = silence_s
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("spawn")

    @property
    def num_free(self) -> int:
        """The number of tasks that can be submitted now."""
        return self._num_workers - sum(worker.key is not None for worker in self._workers)

    def submit(self, key: Hashable, task: Any, runtime: Hashable = None, held: Collection[Hashable] = ()) -> None:
        """Hands a task to a free worker, preferably the last that had its key, which may have kept something for it.

        Args:
            key: Names the task in its messages.
            task: Anything that can be sent to another process.
            runtime: Settings of the whole process, such as its number of threads; a worker serves one of them only.
            held: Keys that will soon be submitted again; workers that had one of them last are chosen last.
        """
        idle = [worker for worker in self._workers if worker.key is None]
        for worker in idle:
            if worker.runtime != runtime or not worker.process.is_alive():
                self._stop(worker)
        idle = [worker for worker in self._workers if worker.key is None]
        idle.sort(key=lambda worker: worker.last_key != key)
        to_spare = [worker for worker in idle if worker.last_key not in held]
        if len(self._workers) == self._num_workers:
            to_spare = to_spare or idle
        self._hand((to_spare or [self._start(runtime)])[0], key, task)

    def poll(self, timeout_s: float) -> list[Message]:
        """Waits for messages; a worker that died or fell silent is reported and replaced.

        Args:
            timeout_s: Returns after this long even if there is nothing.

        Returns:
            Messages in the order they came, possibly none.

        Raises:
            TrainingError: If one worker after the other ends before its first message.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.key is not None}
        messages: list[Message] = []
        began = time.monotonic()
        found = wait(list(busy), timeout_s)
        # Silence counts only while we listen: whatever stops us may stop the workers too.
        listened_s = min(time.monotonic() - began, timeout_s)
        for worker in busy.values():
            worker.silent_s += listened_s
        for ready in found:
            worker = busy[ready]  # type: ignore[index]  # only connections were waited for
            try:
                kind, body = worker.connection.recv()
            except (EOFError, OSError):
                messages += self._bury(worker)
                continue
            worker.silent_s = 0.0
            worker.has_spoken = True
            if kind == "alive":
                continue
            if kind == "step":
                worker.step_seconds.append(body)
                continue
            if kind == "renew":
                self._stop(worker)
                self._start_successor(worker)
                continue
            messages.append(Message(worker.key, kind, body))
            if kind in self._final_kinds:
                worker.key = None
            if kind == "failed":
                # The failure may have left something behind.
                self._stop(worker)
        for worker in [worker for worker in self._workers if worker.key is not None]:
            if worker.silent_s > max(self.silence_s, worker.usual_silence_s):
                reason = f"the worker gave no sign of life for {worker.silent_s:.0f} s"
                messages.append(Message(worker.key, "died", reason))
                self._stop(worker)
        return messages

    def _hand(self, worker: _Worker, key: Hashable, task: Any) -> None:
        worker.key = worker.last_key = key
        worker.task = task
        worker.silent_s = 0.0
        # A worker that died this moment is found by the next poll.
        with suppress(OSError):
            worker.connection.send(task)

    def close(self) -> None:
        """Ends all workers, whatever they are doing."""
        for worker in list(self._workers):
            self._stop(worker)

    def _start(self, runtime: Hashable) -> _Worker:
        ours, theirs = self._context.Pipe()
        place = min(set(range(self._num_workers)) - {worker.place for worker in self._workers})
        arguments = (self._serve, theirs, self._environments[place])
        process = self._context.Process(target=_serve_until_parent_dies, args=arguments, daemon=True)
        # Starting it, as the first worker would, ends with these signals let through.
        resource_tracker.ensure_running()
        # These signals reach every process of a terminal, but a worker's driver decides what happens to it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TERMINAL)
        theirs.close()
        worker = _Worker(process, ours, runtime, place)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> list[Message]:
        worker.process.join(_GRACE_S)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        if code == -signal.SIGKILL:
            how += ", as the system does where memory runs out"
        self._stop(worker)
        if worker.has_spoken:
            return [Message(worker.key, "died", f"the worker process ended with {how}")]
        # Whatever the cause, the task had not begun.
        mute = worker.mute_before + 1
        if mute == _MOST_MUTE_DEATHS:
            raise TrainingError(
                f"{mute} worker processes in a row ended before they could begin, the last one with {how}"
            )
        self._start_successor(worker).mute_before = mute
        return []

    def _start_successor(self, worker: _Worker) -> _Worker:
        """Starts a worker in place of a stopped one and hands it the task."""
        successor = self._start(worker.runtime)
        self._hand(successor, worker.key, worker.task)
        return successor

    def _stop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.terminate()
        worker.process.join(_GRACE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve_until_parent_dies(serve: Serve, connection: Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    exit_with_parent()
    serve(connection)


def exit_with_parent() -> None:
    """Ends this process as soon as the process that started it has ended, for whatever reason."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def _exit_with(sentinel: int) -> None:
    wait([sentinel])
    # The trainer may be in a long computation; there is nobody left to report its results to.
    os._exit(1)
