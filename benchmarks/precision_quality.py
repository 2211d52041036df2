"""The quality that bfloat16 costs: `val_mean_iou_foreground`, the mean of the last five of 27 epochs, against float32.

Thirty seeds on real tiles, each seed trained in both precisions: 4 levels, 16 filters, batch 16, 240 training images,
background left out of loss and head, focal Tversky, Adam 1e-3. The interval is that of the paired difference, by
Student's t. `MARSEXP_DATA` names the tiles; without it the built-in synthetic terrain is used instead, and the row says
so. Each training run is kept in `benchmarks/precision_quality.jsonl`. Both runs of a pair come from the same machine,
but not all pairs; seeds that no machine has finished are trained here, one per core at a time. Where the CPU has no
instructions for bfloat16, the same arithmetic is done in float32 (ADR 20).
"""

import json
import multiprocessing
import os
import statistics
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import t

from benchmarks.remembered import recall, remembered
from benchmarks.results import Promise, Result
from marsseg.config import SYNTHETIC, ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.training.runtime import available_cores, configure_runtime
from marsseg.training.trainer import Training

_KEPT = Path(__file__).with_name("precision_quality.jsonl")
_SEEDS, _EPOCHS, _SCORED = range(30), 27, 5
_PRECISIONS = ("bfloat16", "float32")
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
    """Trains the missing pairs, then compares."""
    source = os.environ.get("MARSEXP_DATA", SYNTHETIC)
    with multiprocessing.get_context("spawn").Pool(available_cores(), configure_runtime, (1,)) as pool:
        pairs = pool.map(partial(_pair, source), _SEEDS, chunksize=1)
    scores = {precision: [float(pair[precision]["score"]) for pair in pairs] for precision in _PRECISIONS}
    differences = [ours - peer for ours, peer in zip(scores["bfloat16"], scores["float32"], strict=True)]
    mean = statistics.fmean(differences)
    half_width = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    Result(
        "precision_quality",
        f"lower end of the 95 % interval of bfloat16 − float32, {Path(source).stem}",
        "IoU",
        [mean - half_width],
        higher_is_better=True,
        promise=Promise(-0.02),
        details={
            "pairs": len(differences),
            "mean": round(mean, 4),
            "measured": min(pair[precision]["measured"] for pair in pairs for precision in _PRECISIONS),
            "processors": Counter(pair["float32"]["machine"]["processor"] for pair in pairs),
            "differences": [round(each, 4) for each in differences],
            "scores": {precision: [round(score, 4) for score in found] for precision, found in scores.items()},
        },
    ).report()


def _pair(source: str, seed: int) -> dict[str, dict[str, Any]]:
    """The rows of a seed, by precision: those of a machine that has both, otherwise of this one."""
    subjects = {precision: _subject(source, seed, precision) for precision in _PRECISIONS}
    bfloat16, float32 = (
        {json.dumps(row["machine"]): row for row in recall(_KEPT, subject)} for subject in subjects.values()
    )
    for machine in sorted(bfloat16.keys() & float32.keys()):
        return {"bfloat16": bfloat16[machine], "float32": float32[machine]}
    return {
        precision: remembered(_KEPT, subject, partial(_train, source, subject))
        for precision, subject in subjects.items()
    }


def _subject(source: str, seed: int, precision: str) -> dict[str, Any]:
    return {"seed": seed, "precision": precision, "data": Path(source).stem, **_VALUES}


def _train(source: str, subject: Mapping[str, Any]) -> dict[str, float]:
    values = {
        **_VALUES,
        "data.source": source,
        "seed": subject["seed"],
        "training.precision": subject["precision"],
        "training.threads": 1,
    }
    config = ExperimentConfig().with_values(values)
    history = Training(config, prepare_data(config)).run(_EPOCHS).history
    return {"score": statistics.fmean(each.metrics["val_mean_iou_foreground"] for each in history[-_SCORED:])}


if __name__ == "__main__":
    main()
