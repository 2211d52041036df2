"""The modelled cost: fitted to measured steps, checked on steps of configurations that the fit has not seen.

Draws configurations from the space `cpu`, and some from `report` at the sizes of `cpu`, measures a step of each and the
time from its config to the end of its first step and first validation, as many at a time as a search trains, and fits
one non-negative coefficient per kind of work (`marsseg/models/operations.py`) in each precision. Further configurations
are drawn, measured and predicted: rank correlation and relative error.
Measurements are kept in `benchmarks/steps.jsonl`, so that an interrupted run resumes and another cost model needs no
new measurements; `--write` writes the coefficients that the package ships.
"""

import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import spearmanr

from benchmarks.remembered import remembered
from benchmarks.results import Promise, Result
from marsseg.config import ExperimentConfig
from marsseg.jobs.devices import default_workers
from marsseg.jobs.shipped import find_space
from marsseg.models.cost import load_coefficients, step_seconds, step_work
from marsseg.search.engines import build_proposer
from marsseg.search.space_file import load_space
from marsseg.training.measure import build_step, random_batch
from marsseg.training.runtime import configure_runtime, resolve_auto
from marsseg.training.step import Evaluator

_MEASURED = Path(__file__).with_name("steps.jsonl")
_SHIPPED = Path(__file__).parents[1] / "marsseg" / "models" / "coefficients.json"
_IMAGE_SHAPE = 64, 128
# For each space, the number of configurations to fit and the number of further ones to check.
_DRAWN = {"cpu": (50, 30), "report": (20, 10)}
_SMALL = {"model.base_filters": (8, 16), "model.max_filters": (64,), "training.batch_size": (8, 16, 32)}
_WARM_UP, _REPEATS = 2, 7
_PRECISIONS = ("bfloat16", "float32")
# The fields that a step depends on; a space fixes more than these.
_GROUPS = ("model.", "loss.", "optimizer.", "training.batch_size")


def main() -> None:
    """Measures what is missing, then fits on request, then checks."""
    rows = {space: measure(space) for space in _DRAWN}
    if "--write" in sys.argv:
        fitted = [row for space, (count, _) in _DRAWN.items() for row in rows[space][: count * len(_PRECISIONS)]]
        coefficients = {precision: fit(_of(fitted, precision)) for precision in _PRECISIONS}
        _SHIPPED.write_text(json.dumps(coefficients, indent=2) + "\n", encoding="utf-8")
        load_coefficients.cache_clear()
    for space, (count, _) in _DRAWN.items():
        for precision in _PRECISIONS:
            report(space, precision, _of(rows[space][count * len(_PRECISIONS) :], precision))


def _of(rows: Sequence[Mapping[str, Any]], precision: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["config"]["training.precision"] == precision]


def draw(name: str) -> Iterator[dict[str, Any]]:
    """Values of random configurations, the first to fit, the rest to check; each in every precision."""
    space = load_space(find_space(name))
    proposer = build_proposer("optuna", "random", space)
    for number in range(sum(_DRAWN[name])):
        drawn = {**space.fixed, **proposer.propose([], number)}
        if name == "report":
            drawn |= {path: sizes[number % len(sizes)] for path, sizes in _SMALL.items()}
        values = {path: value for path, value in drawn.items() if path.startswith(_GROUPS)}
        for precision in _PRECISIONS:
            yield {**values, "training.precision": precision, "training.threads": _threads()}


def _threads() -> int:
    """The number of threads that a search gives each of the trials it trains at a time."""
    return int(resolve_auto(ExperimentConfig(), default_workers()).training.threads)


def measure(space: str) -> list[dict[str, Any]]:
    """One row per configuration: `config`, and seconds of `step`, `start` and `prediction` of as many images."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(default_workers(), configure_runtime, (_threads(),)) as pool:
        return pool.map(_row, draw(space), chunksize=1)


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    return remembered(_MEASURED, {"config": values}, partial(_measure, ExperimentConfig().with_values(values)))


def _measure(config: ExperimentConfig) -> dict[str, float]:
    images, labels = random_batch(config, _IMAGE_SHAPE)
    batch = images.numpy(), labels.numpy().astype(np.uint8)
    # The previous network is held by reference cycles.
    gc.collect()
    begin = time.perf_counter()
    model, step = build_step(config, _IMAGE_SHAPE)
    float(step(images, labels))
    evaluator = Evaluator(model, len(images))
    evaluator.confusion_matrix(*batch)
    first = time.perf_counter() - begin
    seconds = {
        "step": _median_seconds(lambda: float(step(images, labels))),
        "prediction": _median_seconds(lambda: evaluator.confusion_matrix(*batch)),
    }
    return {**seconds, "start": first - seconds["step"] - seconds["prediction"]}


def _median_seconds(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_WARM_UP + _REPEATS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[_WARM_UP:]))


def fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coefficients that minimise the relative error."""
    configs = [ExperimentConfig().with_values(row["config"]) for row in rows]
    work = [step_work(config, _IMAGE_SHAPE) for config in configs]
    steps = np.array([row["step"] for row in rows])
    starts = [{"layers": each["layers"], "constant": 1.0} for each in work]
    shares = [row["prediction"] / row["step"] for row in rows]
    return {
        "step": _least_squares(work, steps),
        "start": _least_squares(starts, np.array([row["start"] for row in rows])),
        "prediction_share": round(float(np.median(shares)), 3),
    }


def _least_squares(work: Sequence[Mapping[str, float]], seconds: np.ndarray) -> dict[str, float]:
    kinds = sorted({kind for each in work for kind in each})
    matrix = np.array([[each.get(kind, 0.0) for kind in kinds] for each in work])
    coefficients, _ = nnls(matrix / seconds[:, None], np.ones(len(seconds)))
    return {kind: float(f"{value:.3g}") for kind, value in zip(kinds, coefficients, strict=True)}


def report(space: str, precision: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Predicts steps that were measured; the common factor of another machine is divided out."""
    predicted = np.array([step_seconds(ExperimentConfig().with_values(row["config"]), _IMAGE_SHAPE) for row in rows])
    measured = np.array([row["step"] for row in rows])
    ratio = measured / predicted
    scale = float(np.median(ratio))
    errors = np.abs(ratio / scale - 1)
    Result(
        "step_cost",
        f"rank correlation over {len(rows)} random configurations of {space}, {precision}",
        "",
        [float(spearmanr(predicted, measured).statistic)],
        higher_is_better=True,
        promise=Promise(0.9),
        details={
            "measured": min(row["measured"] for row in rows),
            "median_relative_error": round(float(np.median(errors)), 3),
            "largest_relative_error": round(float(errors.max()), 3),
            "machine_factor": round(scale, 3),
        },
    ).report()


if __name__ == "__main__":
    main()
