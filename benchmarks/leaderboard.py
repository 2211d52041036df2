"""Seconds from requesting the leaderboard of a search of 10,000 trials to receiving it.

The search is written by the ledger's own functions as a search of the space `unet` would write it: rejected and failed
trials, promotions, 67,000 epochs. *In process* is reading and ranking in a fresh process, without its imports; the
commands are timed as a whole, including start-up, with all trials printed.

The peer is Optuna, since its study is what our ledger is: the search's own record in SQLite. It holds as many trials
of the same space with the same scores per epoch, the first 500 added by `study.add_trials`, the others copies of them.
In process it is queried as its documentation teaches, by `optuna.load_study` and `study.trials_dataframe`; the command
is `optuna trials`.
"""

import os
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import optuna

from benchmarks.processes import run_fresh, wall_seconds
from benchmarks.recorded import NAME, build_settings, fill_ledger
from benchmarks.results import Promise, Result
from benchmarks.turns import take_turns
from marsseg.jobs.home import ENVIRONMENT_VARIABLE, Home
from marsseg.jobs.leaderboard import load_leaderboard
from marsseg.search.ledger import Ledger
from marsseg.search.optuna_proposer import build_distribution
from marsseg.search.state import replay

NUM_TRIALS = 10_000
# The peer takes fifteen seconds each time.
REPEATS = 3
COMMANDS = {
    "the command, printing JSON": (["leaderboard", "--json"], "json"),
    "the command, printing a table": (["leaderboard"], "table"),
}
STUDY_FILE = "optuna.db"
_ADDED = 500
_TRIAL_TABLES = ("trials", "trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes")


def fill_study(home: Home, study_file: Path) -> None:
    """Writes an Optuna study with as many trials as the ledger below `home` holds."""
    ledger, space = Ledger(home.ledger), build_settings(NUM_TRIALS).build_space()
    distributions = {path: build_distribution(parameter.domain) for path, parameter in space.by_path.items()}
    finished = [trial for trial in replay(ledger.events(NAME)).trials if trial.facts]
    study = optuna.create_study(study_name=NAME, storage=f"sqlite:///{study_file}", direction="maximize")
    for trial in random.Random(0).sample(finished, _ADDED):
        scores = [record["metrics"]["val_mean_iou"] for record in ledger.epochs(NAME, trial.number)]
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.best_val_mean_iou,
                params=dict(trial.values),
                distributions={path: distributions[path] for path in trial.values},
                intermediate_values=dict(enumerate(scores, start=1)),
                user_attrs={name: trial.facts[name] for name in ("best_epoch", "params", "duration_s")},
            )
        )
    with closing(sqlite3.connect(study_file)) as connection, connection:
        for table in _TRIAL_TABLES:
            _copy_rows(connection, table, NUM_TRIALS // _ADDED)


def _copy_rows(connection: sqlite3.Connection, table: str, times: int) -> None:
    """Copies rows until each trial is there this many times, each copy as a trial of its own."""
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    # A table's own key is its first column; SQLite generates it, except in the trials' table.
    names = names if table == "trials" else names[1:]
    for copy in range(1, times):
        shifted = [f"{name} + {copy * _ADDED}" if name in ("trial_id", "number") else name for name in names]
        originals = f"SELECT {', '.join(shifted)} FROM {table} WHERE trial_id <= {_ADDED}"
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) {originals}")


def read_ledger(home: Home) -> float:
    start = time.perf_counter()
    trials = load_leaderboard(home, NAME)["trials"]
    seconds = time.perf_counter() - start
    if len(trials) != NUM_TRIALS:
        raise RuntimeError(f"expected {NUM_TRIALS} trials, found {len(trials)}")
    return seconds


def read_study(study_file: Path) -> float:
    start = time.perf_counter()
    trials = optuna.load_study(study_name=NAME, storage=f"sqlite:///{study_file}").trials_dataframe()
    trials = trials.sort_values("value", ascending=False)
    seconds = time.perf_counter() - start
    if len(trials) != NUM_TRIALS:
        raise RuntimeError(f"expected {NUM_TRIALS} trials, found {len(trials)}")
    return seconds


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        home, study_file = Home(Path(folder)), Path(folder) / STUDY_FILE
        fill_ledger(home, NUM_TRIALS)
        fill_study(home, study_file)
        figures = take_turns(
            partial(run_fresh, __file__, "ledger", folder), partial(run_fresh, __file__, "study", folder), REPEATS
        )
        _report("in process", *figures)
        environ = {**os.environ, ENVIRONMENT_VARIABLE: folder}
        for case, (arguments, output) in COMMANDS.items():
            ours = [str(programs / "marsexp"), *arguments]
            peer = [str(programs / "optuna"), "trials", "--storage", f"sqlite:///{study_file}", "--study-name", NAME]
            peer += ["--format", output]
            _report(case, *take_turns(partial(wall_seconds, ours, environ), partial(wall_seconds, peer), REPEATS))


def _report(case: str, ours: list[float], peer: list[float]) -> None:
    Result(
        benchmark="leaderboard",
        case=f"{NUM_TRIALS:,} trials, {case}",
        unit="s",
        ours=ours,
        peer=peer,
        peer_name=f"Optuna {optuna.__version__}",
        promise=Promise(1.0),
    ).report()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ledger", folder]:
            print(read_ledger(Home(Path(folder))))
        case ["study", folder]:
            print(read_study(Path(folder) / STUDY_FILE))
        case _:
            main()
