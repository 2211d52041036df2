"""Learning curves as a file."""

import json
from pathlib import Path
from typing import Any

from marsseg.jobs.curves import record_curves
from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger
from tests.jobs.toy_study import build_settings


def epoch(number: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {"epoch": number, "metrics": metrics, "train_s": 1.0, "epoch_s": 2.0}


def test_a_class_that_is_nowhere_has_no_score_and_leaves_the_others_in_their_places(tmp_path: Path) -> None:
    ledger = Ledger(Home(tmp_path).ledger)
    ledger.create_search("toy", build_settings().to_dict())
    with ledger.drive("toy") as writer:
        writer.append("proposed", 0, values={"model.num_blocks": 2}, cost={"epoch": 1.0, "start": 1.0})
        writer.append_epoch(0, 1, epoch(1, {"loss": 1.0, "val_iou_soil": 0.1, "val_iou_sand": 0.3}))
        writer.append_epoch(0, 2, epoch(2, {"loss": 0.5, "val_iou_soil": 0.2, "val_iou_big_rock": 0.4}))
    assert record_curves(Home(tmp_path), "toy", tmp_path / "curves.jsonl") == 1
    (curve,) = map(json.loads, (tmp_path / "curves.jsonl").read_text(encoding="utf-8").splitlines())
    assert [each["val_iou"] for each in curve["history"]] == [[0.1, None, 0.3, None], [0.2, None, None, 0.4]]
    assert [each["loss"] for each in curve["history"]] == [1.0, 0.5]
