"""Real searches of equal wall-clock time: the winner's score on held-out tiles, after full training.

Ours with its defaults, Keras Tuner's own Hyperband tuner, and Optuna's own loop with TPE and its Hyperband pruner, the
latter two driving the same trainer, with Keras Tuner's promoted trials resuming from checkpoints: 20 minutes each on
the space `cpu` with 400 training images, each in a process of its own with nothing else running; three seeds. Each
winner is then trained in full with a seed that no search used, and scored on tiles that none of them saw: by
`mean_iou`, which all three maximise on the validation split, and by `mean_iou_foreground`. The first counts one more
class, with an IoU of 0, as soon as a single foreground pixel is predicted as background, which costs a fifth of the
score; the second does not. `MARSEXP_DATA` names the tiles; without it the built-in terrain is used instead, and the row
says so. Each search is kept in `benchmarks/search_live.jsonl`, so that the four hours can be split up: an interrupted
run resumes. Two of Keras Tuner's searches are still to be repeated, since from neighbouring seeds it had drawn nearly
the same configurations.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.remembered import remembered
from benchmarks.results import Result
from benchmarks.sides.live_search import SEARCHES
from marsseg.config import SYNTHETIC

_KEPT = Path(__file__).with_name("search_live.jsonl")
_SEEDS, _SECONDS, _SPACE = range(3), 1200.0, "cpu"
_FIXED = {"data.train_limit": 400, "split.validation_images": 160, "split.test_images": 400}
_METRICS = ("test_mean_iou", "test_mean_iou_foreground")


def main() -> None:
    """Runs the missing searches, then compares."""
    source = os.environ.get("MARSEXP_DATA", SYNTHETIC)
    data = Path(source).stem
    scores: dict[str, list[dict[str, float]]] = {who: [] for who in SEARCHES}
    for seed in _SEEDS:
        for who in SEARCHES:
            subject = {"who": who, "seed": seed, "data": data, "seconds": _SECONDS, "space": _SPACE, **_FIXED}
            row = remembered(_KEPT, subject, partial(_search_and_score, source, subject))
            scores[who].append({metric: row[metric] for metric in _METRICS})
            print(f"{who}, seed {seed}: {scores[who][-1]} after {row['trials']} trials", file=sys.stderr)
    ours, *peers = SEARCHES
    for peer in peers:
        for metric in _METRICS:
            mine, theirs = ([score[metric] for score in scores[who]] for who in (ours, peer))
            case, details = f"20 minutes each, {data}", {"peer_searches": len(theirs)}
            Result("search_live", case, metric, mine, theirs, peer, higher_is_better=True, details=details).report()


def _search_and_score(source: str, subject: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {"data.source": source, **_FIXED}
    common = {"space": subject["space"], "fixed": fixed, "seed": subject["seed"]}
    began = time.monotonic()
    found = _run({"who": subject["who"], "seconds": subject["seconds"], **common})
    found["wall_s"] = round(time.monotonic() - began, 1)
    return {**found, **_run({"who": "score", "values": found["values"], **common})}


def _run(task: Mapping[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.sides.live_search", json.dumps(task), str(answer)]
        subprocess.run(command, stdout=sys.stderr, check=True)
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
