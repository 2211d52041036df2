"""Searches as they would be recorded, without any training: for benchmarks of code that uses the record."""

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from marsseg.config import ExperimentConfig
from marsseg.jobs.candidates import BASE
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.shipped import find_space
from marsseg.search.budget import Budget
from marsseg.search.engines import build_proposer
from marsseg.search.ledger import Ledger, LedgerWriter
from marsseg.search.plan import Plan
from marsseg.search.space_file import load_space
from marsseg.training.runtime import resolve_auto

NAME = "recorded"
_SPACE = "unet"
_BEGAN_MS = 1_750_000_000_000
_EPOCH_S = 12.0
_COST = {"epoch": _EPOCH_S, "start": 2.0}
_CLASSES = ("soil", "bedrock", "sand", "big_rock")
_FAILED_SHARE, _REJECTED_SHARE = 0.02, 0.02


def build_settings(budget: int) -> StudySettings:
    """A search of the shipped space with its defaults."""
    space = load_space(find_space(_SPACE))
    base = resolve_auto(ExperimentConfig().with_values({**space.fixed, "training.max_epochs": space.max_epochs}))
    return StudySettings(
        name=NAME,
        uid=sha256(NAME.encode()).hexdigest()[:32],
        kind="search",
        seed=0,
        budget=Budget(budget),
        engine="optuna",
        sampler="tpe",
        scheduler="asha",
        min_epochs=space.min_epochs,
        max_epochs=space.max_epochs,
        reduction_factor=space.reduction_factor,
        workers=1,
        configs={BASE: base.model_dump(mode="json")},
        fingerprint={part: sha256(part.encode()).hexdigest() for part in ("digest", "images", "masks", "split")},
        plan=Plan(7 * budget, budget, 7 * budget * _EPOCH_S),
        space_name=_SPACE,
        space=space.document,
    )


def epoch_record(trial: int, epoch: int, quality: float, luck: random.Random) -> dict[str, Any]:
    """An epoch as a worker reports it."""
    score = quality * (1 - 0.7**epoch) + luck.gauss(0, 0.01)
    names = ("val_mean_iou", "val_mean_iou_foreground", "val_mean_iou_all", *(f"val_iou_{n}" for n in _CLASSES))
    metrics = {"loss": 2 * 0.9**epoch + luck.random(), **{name: score + luck.gauss(0, 0.05) for name in names}}
    return {
        "epoch": epoch,
        "metrics": {**metrics, "val_mean_iou": score},
        "learning_rate": 1e-3,
        "train_s": _EPOCH_S - luck.random(),
        "epoch_s": _EPOCH_S,
        "images_per_second": 40 + luck.random(),
        "finished_ms": _BEGAN_MS + round(1000 * _EPOCH_S * (trial + epoch)),
        "input_wait_s": 0.01 * luck.random(),
    }


def segment_facts(records: Sequence[Mapping[str, Any]], max_epochs: int, luck: random.Random) -> dict[str, Any]:
    """A finished segment as a worker reports it, from all epochs of its trial so far."""
    scores = [record["metrics"]["val_mean_iou"] for record in records]
    return {
        "completed": len(scores) >= max_epochs,
        "epochs": len(scores),
        "scores": scores,
        "best_val_mean_iou": max(scores),
        "best_epoch": scores.index(max(scores)) + 1,
        "params": luck.randrange(100_000, 30_000_000),
        "flops": luck.randrange(10**8, 10**10),
        "duration_s": sum(record["epoch_s"] for record in records),
        "peak_memory_mb": 1500.0,
        "weights_sha256": {which: luck.randbytes(32).hex() for which in ("final", "best")},
    }


def fill_ledger(home: Home, num_trials: int) -> None:
    """Writes a finished search to a fresh ledger: every trial to the first rung, one in three on to the next."""
    settings = build_settings(num_trials)
    Ledger(home.ledger).create_search(NAME, settings.to_dict())
    # The ledger's own writer, over one connection that does not wait for the disk: this ledger may be lost.
    engine = sa.create_engine(f"sqlite:///{home.ledger}", poolclass=sa.StaticPool)
    with engine.connect() as connection:
        for setting in ("synchronous = off", "journal_mode = memory"):
            connection.exec_driver_sql(f"PRAGMA {setting}")
    _fill(LedgerWriter(engine, search_id=1, fence=0), settings, num_trials)
    engine.dispose()


def _fill(writer: LedgerWriter, settings: StudySettings, num_trials: int) -> None:
    luck = random.Random(0)
    proposer = build_proposer("optuna", "random", settings.build_space())
    records: dict[int, list[dict[str, Any]]] = {}
    qualities = [luck.uniform(0.2, 0.8) for _ in range(num_trials)]
    first = settings.rungs.levels[0]
    writer.append("tracked", run_id=luck.randbytes(16).hex())
    for trial in range(num_trials):
        writer.append("proposed", trial, values=proposer.propose([], seed=trial), cost=_COST)
        if luck.random() < _REJECTED_SHARE:
            writer.append("rejected", trial, reason=f"the same as trial {trial // 2}")
            continue
        writer.append("started", trial, until=first)
        writer.append("tracked", trial, run_id=luck.randbytes(16).hex())
        if luck.random() < _FAILED_SHARE:
            writer.append("failed", trial, reason="the loss is NaN after step 12 of epoch 1", epochs=0, active_s=0.0)
            continue
        records[trial] = []
    standing = list(records)
    for until in settings.rungs.levels:
        for trial in standing:
            if until > first:
                writer.append("started", trial, until=until)
            for epoch in range(len(records[trial]) + 1, until + 1):
                records[trial].append(epoch_record(trial, epoch, qualities[trial], luck))
                writer.append_epoch(trial, epoch, records[trial][-1])
            writer.append("finished", trial, **segment_facts(records[trial], settings.max_epochs, luck), active_s=0.0)
        standing.sort(key=lambda trial: records[trial][-1]["metrics"]["val_mean_iou"], reverse=True)
        standing = standing[: len(standing) // settings.reduction_factor]
    writer.append("closed")
