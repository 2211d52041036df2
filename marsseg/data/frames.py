"""Finds frames on disk: pictures and the masks that belong to them, in an AI4Mars tree or a plain folder of pairs.

No picture is opened here: reading lives in `pictures.py`, cutting in `importers.py`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from marsseg.errors import DataError, NotFoundError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
# Below labels/: Curiosity's and the older rovers' crowd-sourced labels, and Perseverance's with the same classes. What
# else lies there are the experts' test part and labels of other classes.
TRAINING_LABELS = ("train", "NAV")
TEST_LABELS = "test"
# Masks of the rover and of what is far away, which lie among the images.
_NO_IMAGES = frozenset({"mxy", "rng", "rng-30m"})
# Their pictures are in colour; whoever wants them names their folder.
_COLOUR_CAMERAS = frozenset({"mcam", "zcam"})
# From the folder around an unpacked release down to msl/ncam.
_MAX_DEPTH = 3
# A label's name may go on after its image's: X_merged6 (older rovers, Perseverance), X_16165_T0_merged (test parts).
_LABEL_TAILS = (r"_merged\d*$", r"_T\d+$", r"_\d+$")


@dataclass(frozen=True)
class Frame:
    """A picture and what was labelled in it.

    Args:
        name: its path below the folder it was found in, without suffix.
        image: the picture.
        masks: its mask; several where it was labelled several times.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class FoundFrames:
    """What a folder holds.

    Args:
        frames: ordered by name; at least one.
        notices: what was left out and why, a line each.
    """

    frames: tuple[Frame, ...]
    notices: tuple[str, ...]


def find_ai4mars_frames(root: Path, labels: str | None = None, skip_missing: bool = False) -> FoundFrames:
    """Pairs images and labels of an AI4Mars tree (Swan et al., CVPR Workshops 2021), whichever release and rover.

    A rover's camera is a folder with `images` and `labels` in it. The experts' test part is left out, unless it is what
    `labels` names.

    Args:
        root: the unpacked release, a rover's folder, or a camera's.
        labels: a folder below each camera's `labels`, such as `test/masked-gold-min3-100agree`; None takes the
            training labels.
        skip_missing: whether images without a label are left out; of the test part's they always are.

    Returns:
        The frames.

    Raises:
        DataError: If it is no such tree, has no labels, a label's image is not there or cannot be told from another, or
            an image's label is not there.
        NotFoundError: If the folder does not exist.
    """
    _check_folder(root)
    cameras = list(_cameras(root, _MAX_DEPTH))
    if not cameras:
        raise DataError(
            f"{root}: expected an AI4Mars tree, which has folders images and labels side by side, found "
            f"{_contents(root)}; name the folder that holds msl, mer or m2020, or a camera's"
        )
    frames: list[Frame] = []
    notices: list[str] = []
    for camera in cameras:
        shown = camera.relative_to(root).as_posix().removeprefix(".") or camera.name
        if camera.name in _COLOUR_CAMERAS and camera != root:
            notices.append(f"left out {shown}: its pictures are in colour; name its folder to import it")
            continue
        found, left_out = _frames_of_camera(root, camera, labels, skip_missing)
        frames += found
        notices += [f"{shown}: {text}" for text in left_out]
    if not frames:
        wanted = f"labels/{labels}" if labels else " or ".join(f"labels/{name}" for name in TRAINING_LABELS)
        there = sorted({folder.name for camera in cameras for folder in _folders(camera / "labels")})
        raise DataError(
            f"{root}: expected labels (.png) below {wanted}, found none; below labels there is "
            f"{', '.join(there) or 'nothing else'}"
        )
    return FoundFrames(tuple(sorted(frames, key=lambda frame: frame.name)), tuple(notices))


def find_folder_frames(root: Path) -> FoundFrames:
    """Pairs `images/NAME.*` and `masks/NAME.*` of a plain folder; both may have the same folders below.

    Args:
        root: the folder that holds `images` and `masks`.

    Returns:
        The frames.

    Raises:
        DataError: If one of the two folders is missing or empty, or an image or a mask is alone or there twice.
        NotFoundError: If the folder does not exist.
    """
    _check_folder(root)
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{root}: expected folders images and masks in it, found {_contents(root)}")
    image_of = _unique_by_name(images, _files(images, IMAGE_SUFFIXES))
    mask_of = _unique_by_name(masks, _files(masks, MASK_SUFFIXES))
    if not image_of:
        raise DataError(f"{images}: expected pictures (.png, .jpg or .tif), found none")
    for name, image in image_of.items():
        if name not in mask_of:
            raise DataError(f"{image}: expected its mask {masks / name}.png, found none; add it or take the image away")
    for name, mask in mask_of.items():
        if name not in image_of:
            raise DataError(f"{mask}: expected its image {images / name}.png, .jpg or .tif, found none; add it")
    return FoundFrames(tuple(Frame(name, image_of[name], (mask_of[name],)) for name in sorted(image_of)), ())


def _frames_of_camera(
    root: Path, camera: Path, labels: str | None, skip_missing: bool
) -> tuple[list[Frame], list[str]]:
    """The frames below one camera's folder, and what was left out."""
    image_of, twin_of = _images_of_camera(camera)
    folder, is_deep = _label_folder(camera, labels)
    masks_of: dict[Path, list[Path]] = {}
    for mask in _files(folder, {".png"}) if is_deep else _files_in(folder, {".png"}):
        if (own := _image_of(mask.stem, image_of)) is None:
            raise DataError(f"{mask}: expected its image below {camera / 'images'}, found none; add it")
        if own.stem in twin_of:
            raise DataError(
                f"{mask}: expected one image of its name, found {own} and {twin_of[own.stem]}; take one of them away"
            )
        masks_of.setdefault(own, []).append(mask)
    notices: list[str] = []
    tested: set[Path] = set()
    is_test = labels is not None and Path(labels).parts[:1] == (TEST_LABELS,)
    if labels is None:
        notices += [
            f"left out labels/{other.name} ({count} labels), which --labels would import"
            for other, count in _other_labels(camera, folder)
        ]
    if not is_test:
        tests = list(_files(camera / "labels" / TEST_LABELS, {".png"}))
        tested = {own for mask in tests if (own := _image_of(mask.stem, image_of))}
        if both := tested & masks_of.keys():
            notices.append(f"left out {len(both)} images that are in the test part too")
    frames = [
        Frame(image.relative_to(root).with_suffix("").as_posix(), image, tuple(masks))
        for image, masks in masks_of.items()
        if image not in tested
    ]
    several = sum(len(frame.masks) > 1 for frame in frames)
    if several:
        notices.append(f"{several} images have several labels; of each the one with most labelled pixels is taken")
    if alone := sorted(set(image_of.values()) - masks_of.keys() - tested):
        if masks_of and not is_test and not skip_missing:
            others = f" (and for {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(
                f"{alone[0]}: expected its label below {folder}, found none{others}; add it, or leave such images out "
                "with --skip-missing-labels"
            )
        notices.append(f"left out {len(alone)} images without a label")
    return frames, notices


def _images_of_camera(camera: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """A camera's images by name, and a second one of the same name where there is one."""
    image_of: dict[str, Path] = {}
    twin_of: dict[str, Path] = {}
    for image in _files(camera / "images", IMAGE_SUFFIXES):
        folders = image.relative_to(camera).parts
        if _NO_IMAGES.intersection(folders):
            continue
        first = image_of.setdefault(image.stem, image)
        # The older rovers' test images are there twice.
        if first != image and TEST_LABELS not in folders:
            twin_of[image.stem] = image
    return image_of, twin_of


def _label_folder(camera: Path, labels: str | None) -> tuple[Path, bool]:
    """Where the labels lie, and whether those in folders below count too."""
    if labels is not None:
        return camera / "labels" / labels, True
    for name in TRAINING_LABELS:
        if (camera / "labels" / name).is_dir():
            return camera / "labels" / name, True
    return camera / "labels", False


def _other_labels(camera: Path, taken: Path) -> Iterator[tuple[Path, int]]:
    for folder in _folders(camera / "labels"):
        if folder != taken and (count := sum(1 for _ in _files(folder, {".png"}))):
            yield folder, count


def _image_of(label: str, image_of: dict[str, Path]) -> Path | None:
    """The image of a label's name: of the same name, or of what is left of it without its tails."""
    if label in image_of:
        return image_of[label]
    for tail in _LABEL_TAILS:
        shorter = re.sub(tail, "", label, flags=re.IGNORECASE)
        if tail == _LABEL_TAILS[0] and shorter == label:
            return None
        label = shorter
        if label in image_of:
            return image_of[label]
    return None


def _cameras(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        yield folder
    elif depth:
        for child in _folders(folder):
            yield from _cameras(child, depth - 1)


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _files(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Files with such a suffix in a folder and those below it, ordered by path; none where there is no folder."""
    return _visible(folder.rglob("*"), suffixes)


def _files_in(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    return _visible(folder.glob("*"), suffixes)


def _visible(paths: Iterable[Path], suffixes: Iterable[str]) -> Iterator[Path]:
    for path in sorted(paths):
        # Some archives bring a hidden companion for each file.
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            yield path


def _unique_by_name(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{path}: expected one file of this name, found {found[name]} too; take one of them away")
        found[name] = path
    return found


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise NotFoundError(f"{root}: expected a folder, found nothing there; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder, found a file; name the folder it lies in")


def _contents(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "") if names else "nothing in it"
