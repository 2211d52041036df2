"""The individual checks of `marsexp doctor`: each returns what was found, its state and what to do.

They are read-only. Nothing is created, opened for writing or repaired, and an unreadable file is a result, not an
error.
"""

import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement

from marsseg import __version__
from marsseg.config import SYNTHETIC
from marsseg.errors import MarsexpError, first_line, kind_and_first_line
from marsseg.jobs.home import ENVIRONMENT_VARIABLE, Home
from marsseg.jobs.inputs import DATA_VARIABLE
from marsseg.tracking.provenance import environment
from marsseg.training.precision import choose_precision
from marsseg.training.runtime import available_cores, has_gpu_driver, this_machine

State = Literal["ok", "warning", "problem"]

_PACKAGES = {
    "TensorFlow": "tensorflow",
    "Keras": "keras",
    "Optuna": "optuna",
    "Keras Tuner": "keras-tuner",
    "MLflow": "mlflow",
}
_GIB = 1024**3
# Two workers with TensorFlow need about 3 GiB; the driver half a GiB.
_LITTLE_MEMORY_GIB = 4.0
_LITTLE_DISK_GIB, _NO_DISK_GIB = 5.0, 0.5
_BUSY_TIMEOUT_S = 2.0
_SERVER_TIMEOUT_S = "5"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        topic: The group that it belongs to.
        name: What was checked.
        state: How serious it is.
        found: What was found, in words.
        advice: What to do; empty where all is well.
        facts: Plain values for scripts.
    """

    topic: str
    name: str
    state: State
    found: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def check_software() -> list[Check]:
    """Versions, compared with this package's requirements."""
    needs = _requirements()
    checks = [
        Check("software", "marsexp", "ok", __version__, facts={"version": __version__}),
        Check("software", "Python", "ok", platform.python_version(), facts={"version": platform.python_version()}),
    ]
    for title, name in _PACKAGES.items():
        checks.append(_check_package(title, name, needs.pop(name, None)))
    others = [_check_package(name, name, need) for name, need in needs.items()]
    wrong = [check for check in others if check.state != "ok"]
    if others and not wrong:
        found = f"{len(others)} more packages, as required"
        checks.append(Check("software", "others", "ok", found, facts={"packages": len(others)}))
    return checks + wrong


def _requirements() -> dict[str, Requirement]:
    """The installed package's requirements by name in lower case; empty where it runs without installation."""
    try:
        texts = metadata.requires("marsexp") or []
    except metadata.PackageNotFoundError:
        return {}
    requirements = [Requirement(text) for text in texts]
    return {need.name.lower(): need for need in requirements if need.marker is None or need.marker.evaluate()}


def _check_package(title: str, name: str, need: Requirement | None) -> Check:
    expected = str(need.specifier) if need else ""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        facts = {"version": None, "expected": expected}
        if need is None:
            return Check("software", title, "ok", "not installed, and not needed", facts=facts)
        return Check("software", title, "problem", "not installed", f"python -m pip install '{need}'", facts)
    facts = {"version": version, "expected": expected}
    if need and not need.specifier.contains(version, prereleases=True):
        found = f"{version}, expected {expected}"
        return Check("software", title, "problem", found, f"python -m pip install '{need}'", facts)
    return Check("software", title, "ok", version, facts=facts)


def check_machine(threads: int) -> list[Check]:
    """CPU, memory, and the values that `auto` resolves to on this machine.

    Args:
        threads: The number that `auto` resolves to.
    """
    cores, usable = os.cpu_count() or 1, available_cores()
    name = environment()["processor"]
    memory = psutil.virtual_memory()
    free, total = memory.available / _GIB, memory.total / _GIB
    little = free < _LITTLE_MEMORY_GIB
    machine = this_machine()
    choice = choose_precision(machine)
    return [
        Check(
            "machine",
            "processor",
            "ok",
            f"{name}; {usable} of {cores} cores usable",
            facts={"name": name, "cores": cores, "usable_cores": usable},
        ),
        Check(
            "machine",
            "memory",
            "warning" if little else "ok",
            f"{free:.1f} of {total:.1f} GiB available",
            "close other programs, and search with --workers 1" if little else "",
            {"available_bytes": memory.available, "total_bytes": memory.total},
        ),
        Check(
            "machine",
            "precision",
            "ok",
            str(choice),
            facts={"precision": choice.precision, "reason": choice.reason, "cpu_flags": machine.bfloat16_flags},
        ),
        Check("machine", "threads", "ok", f"{threads}, divided among --workers", facts={"threads": threads}),
    ]


def check_gpus(names: tuple[str, ...]) -> Check:
    """The GPUs that TensorFlow sees, and whether there is one that it does not see."""
    facts = {"gpus": list(names)}
    if names:
        return Check("machine", "GPU", "ok", ", ".join(names), facts=facts)
    if has_gpu_driver():
        advice = "python -m pip install 'tensorflow[and-cuda]', and check that the driver is not older than its CUDA"
        return Check("machine", "GPU", "warning", "present, but TensorFlow does not see it", advice, facts)
    return Check("machine", "GPU", "ok", "none; training runs on the CPU", facts=facts)


def check_home(home: Home) -> list[Check]:
    """The folder, its disk and its two databases."""
    path = home.path
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    checks = [_check_folder(path, nearest), _check_disk(nearest)]
    searches = "SELECT count(*) FROM searches"
    checks.append(_check_database("ledger", home.ledger, searches, "searches and training studies"))
    runs = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
    checks.append(_check_database("MLflow store", path / "mlflow.db", runs, "runs"))
    return checks


def _check_folder(path: Path, nearest: Path) -> Check:
    facts = {"path": str(path), "exists": path.exists()}
    if not nearest.is_dir():
        advice = f"set {ENVIRONMENT_VARIABLE} to another folder"
        return Check("storage", "home", "problem", f"{nearest} is not a folder", advice, facts)
    if not os.access(nearest, os.W_OK | os.X_OK):
        advice = f"change its permissions, or set {ENVIRONMENT_VARIABLE} to another folder"
        return Check("storage", "home", "problem", f"{nearest} is not writable", advice, facts)
    shown = str(path) if path.exists() else f"{path}, not there yet; the first search creates it"
    return Check("storage", "home", "ok", shown, facts=facts)


def _check_disk(nearest: Path) -> Check:
    usage = shutil.disk_usage(nearest)
    free = usage.free / _GIB
    state: State = "problem" if free < _NO_DISK_GIB else "warning" if free < _LITTLE_DISK_GIB else "ok"
    advice = "" if state == "ok" else f"free some disk space, or set {ENVIRONMENT_VARIABLE} to a folder on another disk"
    facts = {"free_bytes": usage.free, "total_bytes": usage.total}
    return Check("storage", "disk", state, f"{free:.1f} of {usage.total / _GIB:.1f} GiB free", advice, facts)


def _check_database(name: str, path: Path, count: str, what: str) -> Check:
    facts: dict[str, Any] = {"path": str(path), "exists": path.exists(), "entries": None}
    if not path.exists():
        return Check("storage", name, "ok", "not there yet", facts=facts)
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            (facts["entries"],) = connection.execute(count).fetchone()
    except sqlite3.Error as error:
        return Check("storage", name, *_explain(error, path), facts)
    return Check("storage", name, "ok", f"{what}: {facts['entries']:,}", facts=facts)


def _explain(error: sqlite3.Error, path: Path) -> tuple[State, str, str]:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_BUSY"):
        return "warning", "another process is writing", "run marsexp doctor again when it is done"
    if code == "SQLITE_READONLY_ROLLBACK":
        return "warning", "its last write was cut off", "nothing: the next command that opens it rolls that write back"
    if "no such table" in str(error):
        return "warning", "holds nothing yet", "nothing: the next search fills it"
    advice = f"restore {path} from a backup, or move it away to start fresh"
    return "problem", f"{path} cannot be read ({first_line(error)})", advice


def check_server(tracking_uri: str) -> Check:
    """Whether a tracking server answers, or a database file given as the tracking URI can be read."""
    facts = {"uri": tracking_uri}
    scheme, _, rest = tracking_uri.partition("://")
    if scheme == "sqlite" and rest.startswith("/"):
        runs = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
        return _check_database("tracking URI", Path(rest[1:]).resolve(), runs, "runs")
    if scheme not in ("http", "https"):
        found, advice = f"{tracking_uri} was not checked", "check the database itself, or give a server's address"
        return Check("storage", "tracking URI", "warning", found, advice, facts)
    try:
        _ask_server(tracking_uri)
    except Exception as error:
        found = f"{tracking_uri} does not answer ({_first_cause(error)})"
        advice = "start it, or drop --tracking-uri and unset MLFLOW_TRACKING_URI to use the embedded store"
        return Check("storage", "tracking URI", "problem", found, advice, facts)
    return Check("storage", "tracking URI", "ok", f"{tracking_uri} answers", facts=facts)


def _ask_server(tracking_uri: str) -> None:
    before = dict(os.environ)
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": _SERVER_TIMEOUT_S}
    try:
        from mlflow import MlflowClient

        MlflowClient(tracking_uri).search_experiments(max_results=1)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _first_cause(error: BaseException) -> str:
    """The innermost message: the layers above repeat the address and the number of attempts."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return first_line(error)


def check_data(source: str | None) -> Check:
    """Whether the data that `MARSEXP_DATA` names can be read."""
    from marsseg.data.sources import load_tiles

    if source is None or source == SYNTHETIC:
        shown = "synthetic Mars terrain" if source else "not set; the default is synthetic Mars terrain"
        return Check("data", DATA_VARIABLE, "ok", shown, facts={"source": source})
    path = Path(source).expanduser().resolve()
    facts: dict[str, Any] = {"source": str(path)}
    try:
        # The number of classes is set per command; this is the maximum.
        tiles = load_tiles(path, num_classes=255)
    except (MarsexpError, OSError) as error:
        advice = f"set {DATA_VARIABLE} to a data set (.npz), or unset it for synthetic terrain"
        return Check("data", DATA_VARIABLE, "problem", str(error), advice, facts)
    count, height, width = tiles.images.shape
    facts |= {"images": count, "height": height, "width": width}
    return Check("data", DATA_VARIABLE, "ok", f"{path}: {count:,} images of {height}x{width}", facts=facts)


def attempt(topic: str, name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """Turns an error of a check into a result of its own, so that the other checks still run."""
    try:
        return look()
    except MarsexpError as error:
        return [Check(topic, name, "problem", str(error), "as the message says")]
    except OSError as error:
        return [Check(topic, name, "problem", str(error), "check its permissions and that its disk is mounted")]
    except Exception as error:
        found = f"unexpected {kind_and_first_line(error)}"
        return [Check(topic, name, "problem", found, "a bug in marsexp; please report it")]
