"""The quality that bfloat16 costs: `val_mean_iou_foreground`, the mean of the last five of 27 epochs, against float32.

Ten seeds on real tiles, each seed trained in both precisions: 4 levels, 16 filters, batch 16, 240 training images,
background left out of loss and head, focal Tversky, Adam 1e-3. The interval is that of the paired difference, by
Student's t. `MARSEXP_DATA` names the tiles; without it the built-in synthetic terrain is used instead, and the row says
so. Each training run is kept in `benchmarks/precision_quality.jsonl`.
"""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import t

from benchmarks.remembered import remembered
from benchmarks.results import Promise, Result
from marsseg.config import SYNTHETIC, ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.training.runtime import available_cores, configure_runtime
from marsseg.training.trainer import Training

_KEPT = Path(__file__).with_name("precision_quality.jsonl")
_SEEDS, _EPOCHS, _SCORED = range(10), 27, 5
_VALUES = {
    "data.train_limit": 240,
    "model.num_blocks": 4,
    "model.base_filters": 16,
    "model.predict_background": False,
    "loss.terms": "focal_tversky",
    "loss.background_weight": 0.0,
    "optimizer.learning_rate": 1e-3,
    "training.batch_size": 16,
    "training.max_epochs": _EPOCHS,
}


def main() -> None:
    """Runs the missing training runs, then compares."""
    source = os.environ.get("MARSEXP_DATA", SYNTHETIC)
    data = Path(source).stem
    rows = {
        precision: [_row(source, {"seed": seed, "precision": precision, "data": data, **_VALUES}) for seed in _SEEDS]
        for precision in ("bfloat16", "float32")
    }
    scores = {precision: [float(row["score"]) for row in found] for precision, found in rows.items()}
    differences = [ours - peer for ours, peer in zip(scores["bfloat16"], scores["float32"], strict=True)]
    half_width = t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    Result(
        "precision_quality",
        f"lower end of the 95 % interval of bfloat16 − float32, {data}",
        "IoU",
        [statistics.fmean(differences) - float(half_width)],
        higher_is_better=True,
        promise=Promise(-0.02),
        details={
            "pairs": len(differences),
            "measured": min(row["measured"] for found in rows.values() for row in found),
            "differences": [round(each, 4) for each in differences],
            "scores": {precision: [round(score, 4) for score in found] for precision, found in scores.items()},
        },
    ).report()


def _row(source: str, subject: Mapping[str, Any]) -> dict[str, Any]:
    return remembered(_KEPT, subject, lambda: _train(source, subject["seed"], subject["precision"]))


def _train(source: str, seed: int, precision: str) -> dict[str, float]:
    values = {
        **_VALUES,
        "data.source": source,
        "seed": seed,
        "training.precision": precision,
        "training.threads": available_cores(),
    }
    config = ExperimentConfig().with_values(values)
    configure_runtime(available_cores())
    history = Training(config, prepare_data(config)).run(_EPOCHS).history
    return {"score": statistics.fmean(each.metrics["val_mean_iou_foreground"] for each in history[-_SCORED:])}


if __name__ == "__main__":
    main()
