"""Worker processes, real ones: order, reuse, renewal, death, silence, and nothing left behind."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from marsseg.errors import TrainingError
from marsseg.search.executor import LocalExecutor, Message

FINAL = frozenset({"done"})
PATIENCE_S = 60.0


def serve(connection: Connection) -> None:
    """Does what its task says: `count`, `die`, `exit`, `start late`, `sleep`, `tell`, `tick` or `renew once`."""
    while True:
        try:
            action, amount = connection.recv()
        except EOFError:
            return
        if action == "count":
            for number in range(amount):
                connection.send(("number", number))
        elif action == "die":
            connection.send(("number", amount))
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "exit":
            sys.exit(amount)
        elif action == "start late":
            with amount.open("a") as tries:
                tries.write(".")
            if amount.stat().st_size < 3:
                sys.exit(1)
        elif action == "sleep":
            connection.send(("asleep", os.getpid()))
            time.sleep(amount)
        elif action == "tell":
            connection.send(("told", os.environ.get(amount)))
            time.sleep(0.2)
        elif action == "tick":
            for _ in range(amount):
                time.sleep(0.2)
                connection.send(("step", 0.2))
        elif action == "renew once" and not amount.exists():
            amount.touch()
            connection.send(("renew", None))
            continue
        connection.send(("done", os.getpid()))


class KillsWhenSent:
    """A task that ends its worker between the check that it is alive and the handover."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        os.kill(self.pid, signal.SIGKILL)
        wait_until_gone(self.pid)
        return tuple, ((("count", 1)),)


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor(serve, 1, FINAL)
    yield executor
    executor.close()


def collect(executor: LocalExecutor, num_final: int = 1) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(message.kind in ("done", "died") for message in messages) < num_final:
        assert time.monotonic() < deadline, messages
        messages += executor.poll(0.2)
    return messages


def run(executor: LocalExecutor, action: str, amount: float = 0, runtime: Any = None) -> Message:
    executor.submit("task", (action, amount), runtime)
    return collect(executor)[-1]


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        # A process is already a zombie while its other threads are still ending.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def test_messages_come_in_order_under_their_key_and_the_worker_is_free_again(executor: LocalExecutor) -> None:
    assert executor.num_free == 1
    executor.submit(("a", 1), ("count", 30))
    assert executor.num_free == 0
    messages = collect(executor)
    assert [message.body for message in messages[:-1]] == list(range(30))
    assert {message.key for message in messages} == {("a", 1)}
    assert [message.kind for message in messages] == ["number"] * 30 + ["done"]
    assert executor.num_free == 1


def test_one_process_serves_one_task_after_the_other_and_is_renewed_for_another_runtime(
    executor: LocalExecutor,
) -> None:
    first = run(executor, "count", runtime=2).body
    assert first != os.getpid()
    assert run(executor, "count", runtime=2).body == first
    other = run(executor, "count", runtime=1).body
    assert other != first
    wait_until_gone(first)


def test_a_task_goes_to_the_worker_that_had_its_key_before() -> None:
    executor = LocalExecutor(serve, 2, FINAL)
    try:
        for key in ("a", "b"):
            executor.submit(key, ("sleep", 0.1))
        served = {message.key: message.body for message in collect(executor, 2) if message.kind == "done"}
        assert len(set(served.values())) == 2
        for key in ("b", "a", "a", "b"):
            executor.submit(key, ("count", 1))
            assert collect(executor)[-1].body == served[key]
    finally:
        executor.close()


def test_a_worker_whose_key_is_held_is_left_alone_unless_there_is_no_other() -> None:
    executor = LocalExecutor(serve, 3, FINAL)
    try:
        for key in ("a", "b"):
            executor.submit(key, ("sleep", 0.1))
        served = {message.key: message.body for message in collect(executor, 2) if message.kind == "done"}
        executor.submit("c", ("count", 1), held={"a"})
        assert collect(executor)[-1].body == served["b"]
        # A new worker rather than a held one.
        executor.submit("d", ("count", 1), held={"a", "c"})
        fresh = collect(executor)[-1].body
        assert fresh not in served.values()
        # The worker that had the key itself comes first; if all are held, one of them is used.
        executor.submit("a", ("count", 1), held={"c"})
        assert collect(executor)[-1].body == served["a"]
        executor.submit("e", ("count", 1), held={"a", "c", "d"})
        assert collect(executor)[-1].body in {*served.values(), fresh}
    finally:
        executor.close()


def test_two_workers_run_at_once() -> None:
    executor = LocalExecutor(serve, 2, FINAL)
    try:
        for key in ("a", "b"):
            executor.submit(key, ("sleep", 0.2))
        assert executor.num_free == 0
        pids = {message.key: message.body for message in collect(executor, 2) if message.kind == "done"}
        assert len(set(pids.values())) == 2
        assert executor.num_free == 2
    finally:
        executor.close()


def test_each_worker_finds_an_environment_of_its_own_and_its_successor_the_same() -> None:
    executor = LocalExecutor(serve, 2, FINAL, [{"PLACE": "left"}, {"PLACE": "right"}])
    try:
        for _ in range(2):
            for key in ("a", "b"):
                executor.submit(key, ("tell", "PLACE"))
            told = [message.body for message in collect(executor, 2) if message.kind == "told"]
            assert sorted(told) == ["left", "right"]
        executor.submit("dies", ("die", 0))
        executor.submit("stays", ("sleep", 2))
        while "died" not in [message.kind for message in executor.poll(0.2)]:
            pass
        # This takes the place that has become free, whichever it is.
        executor.submit("a", ("tell", "PLACE"))
        first = [message.body for message in collect(executor, 2) if message.kind == "told"]
        executor.submit("a", ("tell", "PLACE"))
        executor.submit("b", ("tell", "PLACE"))
        assert first[0] in ("left", "right")
        told = [message.body for message in collect(executor, 2) if message.kind == "told"]
        assert sorted(told) == ["left", "right"]
        assert "PLACE" not in os.environ
    finally:
        executor.close()


def test_a_worker_that_is_killed_is_reported_with_its_signal_and_the_next_task_works(executor: LocalExecutor) -> None:
    executor.submit("doomed", ("die", 7))
    messages = collect(executor)
    assert messages == [
        Message("doomed", "number", 7),
        Message("doomed", "died", "the worker process ended with signal 9, as the system does where memory runs out"),
    ]
    assert executor.num_free == 1
    assert run(executor, "count").kind == "done"


def test_a_worker_that_ends_by_itself_is_reported_with_its_status(executor: LocalExecutor) -> None:
    run(executor, "count")
    assert run(executor, "exit", 3) == Message("task", "died", "the worker process ended with status 3")


def test_a_worker_that_ends_before_it_can_begin_is_replaced_and_its_task_done(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    executor.submit("late", ("start late", tmp_path / "tries"))
    assert [message.kind for message in collect(executor)] == ["done"]
    assert (tmp_path / "tries").read_text() == "..."


def test_workers_none_of_which_can_begin_are_no_fault_of_their_tasks(executor: LocalExecutor) -> None:
    run(executor, "count")
    assert run(executor, "exit", 3).kind == "died"
    expected = "4 worker processes in a row ended before they could begin, the last one with status 3"
    with pytest.raises(TrainingError, match=expected):
        run(executor, "exit", 3)
    assert executor.num_free == 1


def test_an_idle_worker_that_died_is_replaced(executor: LocalExecutor) -> None:
    pid = run(executor, "count").body
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    assert run(executor, "count").kind == "done"


def test_a_worker_that_dies_while_it_is_handed_a_task_is_reported(executor: LocalExecutor) -> None:
    pid = run(executor, "count").body
    executor.submit("unlucky", KillsWhenSent(pid))
    assert [message.kind for message in collect(executor)] == ["died"]
    assert run(executor, "count").kind == "done"


def test_a_worker_that_wants_to_be_renewed_leaves_its_task_to_one_like_it(tmp_path: Path) -> None:
    executor = LocalExecutor(serve, 2, FINAL, [{"PLACE": "first"}, {"PLACE": "second"}])
    executor.submit("other", ("sleep", 60))
    assert [message.kind for message in executor.poll(PATIENCE_S)] == ["asleep"]
    executor.submit("key", ("count", 0), runtime=2)
    first = collect(executor)[-1].body
    executor.submit("key", ("renew once", tmp_path / "asked"), runtime=2)
    (message,) = collect(executor)
    assert (message.key, message.kind) == ("key", "done")
    assert message.body != first
    wait_until_gone(first)
    executor.submit("key", ("tell", "PLACE"), runtime=2)
    told, done = collect(executor)
    assert (told.body, done.body) == ("second", message.body)
    executor.close()


def test_a_silent_worker_is_ended_and_reported(executor: LocalExecutor) -> None:
    run(executor, "count")
    executor.silence_s = 1.0
    executor.submit("stuck", ("sleep", 60))
    messages = collect(executor)
    assert [message.kind for message in messages] == ["asleep", "died"]
    assert messages[-1].key == "stuck"
    assert "no sign of life for" in messages[-1].body
    wait_until_gone(messages[0].body)
    executor.silence_s = PATIENCE_S
    assert run(executor, "count").kind == "done"


def test_only_while_somebody_listens_is_silence_counted(executor: LocalExecutor) -> None:
    run(executor, "count")
    executor.silence_s = 1.0
    executor.submit("long", ("sleep", 3))
    assert [message.kind for message in executor.poll(PATIENCE_S)] == ["asleep"]
    # As if driver and worker had been suspended together.
    time.sleep(1.5)
    assert executor.poll(0.1) == []
    executor.silence_s = PATIENCE_S
    assert [message.kind for message in collect(executor)] == ["done"]


def test_steps_are_signs_of_life_and_never_told(executor: LocalExecutor) -> None:
    run(executor, "count")
    executor.silence_s = 1.5
    executor.submit("slow", ("tick", 10))
    assert [message.kind for message in collect(executor)] == ["done"]


def test_slow_steps_earn_patience(executor: LocalExecutor) -> None:
    run(executor, "tick", 2)
    executor.silence_s = 0.5
    assert run(executor, "sleep", 1.5).kind == "done"


def test_poll_comes_back_in_time_with_nothing(executor: LocalExecutor) -> None:
    began = time.monotonic()
    assert executor.poll(0.1) == []
    assert time.monotonic() - began < 2


def test_close_leaves_no_process_whatever_it_does() -> None:
    executor = LocalExecutor(serve, 2, FINAL)
    executor.submit("idle", ("count", 1))
    idle = collect(executor)[-1].body
    executor.submit("busy", ("sleep", 60))
    while not (messages := executor.poll(0.2)):
        pass
    executor.close()
    assert not psutil.pid_exists(idle)
    assert not psutil.pid_exists(messages[0].body)
    assert executor.num_free == 2
