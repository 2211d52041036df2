"""`marsexp evaluate`: scores runs on a split of their data, or on other data; several runs as an ensemble."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import Part, PreparedData, changed_parts, load_cleaned, pixels_digest
from marsseg.data.tiles import class_names
from marsseg.errors import DataError, UsageError, nearest_name_hint
from marsseg.jobs.ensemble import Member, load_members, predict_labels
from marsseg.jobs.home import Home
from marsseg.jobs.inputs import load_data, resolve_source
from marsseg.jobs.progress import notify
from marsseg.metrics import confusion_matrix, segmentation_scores

SPLITS = ("validation", "test", "all")
_SCORES = ("mean_iou", "mean_iou_foreground", "mean_iou_all")
_WIDTH = 100


def evaluate_runs(
    home: Home,
    runs: Sequence[str],
    data_source: str | None,
    split: str,
    tracking_uri: str | None,
    test_time_augmentation: bool = False,
) -> dict[str, Any]:
    """Predicts with the best weights of each run and scores their joint prediction.

    Args:
        home: Where everything is kept.
        runs: Each a run ID or a unique prefix of one, `best` or `best:SEARCH`.
        data_source: The data to score on, or None for the data that the runs were trained on.
        split: `validation`, `test` or `all`.
        tracking_uri: A server, or None for the embedded store.
        test_time_augmentation: Whether each run predicts every image's mirror images too.

    Returns:
        The document that `--json` prints.

    Raises:
        UsageError: If the runs cannot be scored together.
        DataError: If the data is not what the runs were trained on, or the split is empty.
        NotFoundError: If there is no such run, or it kept no weights.
    """
    if split not in SPLITS:
        raise UsageError(
            f"--split: expected one of {', '.join(SPLITS)}, found '{split}'{nearest_name_hint(split, SPLITS)}"
        )
    members = load_members(home, runs, tracking_uri)
    if data_source is None or split != "all":
        _check_same_data(members, split)
    config = members[0].config
    config = config.with_values({"data.source": resolve_source(data_source or config.data.source)})
    if data_source is not None and split == "all":
        part = _load_all(members, config)
    else:
        part = _part_of(_load_own_data(members[0], config), split)
    if split == "all" and pixels_digest(part.images[..., 0]) in [m.record.fingerprint["pixels"] for m in members]:
        notify("all images include the training images: the score says little about new images")
    labels = predict_labels(members, part.images, test_time_augmentation)
    confusion = confusion_matrix(part.masks, labels, config.data.num_classes)
    names = class_names(config.data.num_classes)
    scores = segmentation_scores(confusion, names)
    return {
        "run_ids": [member.record.run_id for member in members],
        "names": [member.record.name for member in members],
        "data": config.data.source,
        "split": split,
        "test_time_augmentation": test_time_augmentation,
        "images": len(part.images),
        **{f"val_{name}": scores[name] for name in _SCORES},
        "iou": {name: scores.get(f"iou_{name}") for name in names[1:]},
        "classes": list(names),
        "confusion_matrix": confusion.tolist(),
    }


def _check_same_data(members: Sequence[Member], split: str) -> None:
    """Rejects runs if one of them may have been trained on images that another is scored on."""
    first = members[0]
    for member in members[1:]:
        changed = changed_parts(first.record.fingerprint, member.record.fingerprint)
        if not changed or (split == "all" and changed == ["split"]):
            continue
        what = "the data" if split == "all" else "data and split"
        raise UsageError(
            f"expected runs that share {what}, found {first.label} and {member.label} with different "
            f"{', '.join(changed)}; score them one by one, or on other images with --data FILE --split all"
        )


def _load_own_data(member: Member, config: ExperimentConfig) -> PreparedData:
    """The data that the run was trained on; any other might be scored on images that the run has learned from."""
    data = load_data(config)
    changed = changed_parts(member.record.fingerprint, data.fingerprint.to_dict())
    if changed:
        raise DataError(
            f"expected {config.data.source} as {member.label} was trained on it, found different "
            f"{', '.join(changed)}, so the run may have been trained on some of these images; score all of them with "
            "--data FILE --split all"
        )
    return data


def _part_of(data: PreparedData, split: str) -> Part:
    if split == "all":
        kept = np.setdiff1d(np.arange(len(data.images)), list(data.removed))
        return Part(data.images[kept][..., None], data.masks[kept])
    part = data.validation if split == "validation" else data.test
    if not len(part.images):
        raise DataError("expected test images, found none (split.test_images = 0); use --split validation or all")
    return part


def _load_all(members: Sequence[Member], config: ExperimentConfig) -> Part:
    """All images of other data, without those that the runs' own cleaning leaves out."""
    for member in members:
        if member.config.cleaning != members[0].config.cleaning:
            raise UsageError(
                f"expected runs that share cleaning, found {members[0].label} and {member.label} with different "
                "settings; score them one by one"
            )
    tiles, removed = load_cleaned(config)
    if removed:
        notify(f"outliers left out: {len(removed)} of {len(tiles)} images (cleaning.remove_outliers = true)")
    kept = np.setdiff1d(np.arange(len(tiles)), list(removed))
    if not len(kept):
        raise DataError(f"{config.data.source}: expected images that are not outliers, found none")
    return Part(tiles.images[kept][..., None], tiles.masks[kept])


def render_evaluation(document: Mapping[str, Any]) -> str:
    """An evaluation as text for people: scores, and how the pixels of each class were predicted."""
    text = io.StringIO()
    who = ", ".join(document["names"])
    print(f"{'ensemble of ' if len(document['names']) > 1 else ''}{who}", file=text)
    part = "all images" if document["split"] == "all" else f"{document['split']} split"
    seen = ", each with its mirror images" if document["test_time_augmentation"] else ""
    print(f"{part} of {document['data']}: {document['images']} images{seen}\n", file=text)
    for name in _SCORES:
        print(f"{f'val_{name}':<24}{document[f'val_{name}']:.4f}", file=text)
    print(file=text)
    console = Console(file=text, width=_WIDTH)
    console.print(_class_table(document), highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _class_table(document: Mapping[str, Any]) -> Table:
    title = "of each class: IoU, pixels, and the shares predicted as …"
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in ("iou", "pixels", *(f"→{name}" for name in document["classes"])):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in zip(document["classes"], document["confusion_matrix"], strict=True):
        iou = document["iou"].get(name)
        shares = [f"{count / sum(row):.1%}" if count else "" for count in row]
        table.add_row(name, "" if iou is None else f"{iou:.4f}", f"{sum(row):,}", *shares)
    return table
