"""`marsexp ui`: the MLflow UI, opened as a leaderboard; served here, unless the store is a server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from marsseg.errors import NotFoundError, TrackingError, UsageError, nearest_name_hint
from marsseg.jobs.home import Home
from marsseg.jobs.progress import notify
from marsseg.jobs.runs import open_existing_store
from marsseg.tracking.store import Store, store_uri
from marsseg.tracking.view import (
    ALL_RUNS,
    experiment_tags,
    search_view,
    varying_choices,
    view_address,
    viewed_searches,
)

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10
# Runs to read: enough to see what varies, and quick to read.
_LOOKED_AT = 200


def open_ui(home: Home, search: str | None, port: int, tracking_uri: str | None) -> int:
    """Prints the address that opens the leaderboard; an embedded store is served until interrupted.

    Args:
        home: Where the store is.
        search: The search whose trials to show, or None for all trained runs.
        port: On 127.0.0.1.
        tracking_uri: A server, or None for the embedded store.

    Returns:
        0 after an interruption or if the store is a server already, 1 if our server ended by itself.

    Raises:
        NotFoundError: If there is no store, or it knows no such search.
        UsageError: If the port is taken.
        TrackingError: If the server does not start.
    """
    uri = store_uri(home.path, tracking_uri)
    is_server = uri.startswith(("http://", "https://"))
    if not is_server:
        _check_port_is_free(port)
    store = open_existing_store(home, tracking_uri)
    view = ALL_RUNS if search is None else _view_of(search, store)
    _update_view(store)
    if is_server:
        print(view_address(uri.rstrip("/"), store.experiment_id, view))
        return 0
    server = f"http://{_HOST}:{port}"
    process = _start_server(home, uri, port)
    try:
        _wait_until_it_answers(server, process)
        print(view_address(server, store.experiment_id, view), flush=True)
        notify("Ctrl-C stops; after a reload pick the view again in the menu 'Views'")
        process.wait()
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(process)


def _view_of(search: str, store: Store) -> str:
    # The store is asked, not the ledger: a server holds other people's searches too.
    names = viewed_searches(store.client.get_experiment(store.experiment_id).tags)
    if search not in names:
        raise NotFoundError(
            f"there is no view of '{search}' in the tracking store{nearest_name_hint(search, names)}; "
            "a training of one run has none: marsexp ui shows it among all"
        )
    return search_view(search)


def _update_view(store: Store) -> None:
    """Sets the columns of the view of all runs to the fields that vary by now."""
    best = store.client.search_runs(
        [store.experiment_id],
        "metrics.`best_val_mean_iou` >= 0",
        max_results=_LOOKED_AT,
        order_by=["metrics.`best_val_mean_iou` DESC"],
    )
    for key, value in experiment_tags(varying_choices([run.data.params for run in best])).items():
        store.client.set_experiment_tag(store.experiment_id, key, value)


def _check_port_is_free(port: int) -> None:
    # The server itself would report success, while another process answers in its place.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise UsageError(f"port {port} is taken; choose another, as in: marsexp ui --port {port + 1}") from None


def _start_server(home: Home, uri: str, port: int) -> subprocess.Popen[bytes]:
    log = home.log("ui")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (home.path / "artifacts").as_uri(), "--no-serve-artifacts"]
    command += ["--host", _HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    with log.open("ab") as file:
        # A session of its own: Ctrl-C is for us, and stopping reaches all of the server's processes.
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def _wait_until_it_answers(server: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise TrackingError("the MLflow server ended at its start; logs/ui.log below MARSEXP_HOME says why")
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackingError(f"the MLflow server has not answered for {_START_TIMEOUT_S} s; see logs/ui.log")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for which in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, which)
            process.wait(_STOP_TIMEOUT_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
