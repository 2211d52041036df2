"""Finds frames on disk: images and the masks that belong to them, in an AI4Mars tree or a plain folder of pairs.

No image is opened here: reading lives in `pictures.py`, cutting in `importers.py`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from marsseg.errors import DataError, NotFoundError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
# Below labels/: Curiosity's and the older rovers' crowd-sourced labels, and Perseverance's with the same classes. The
# other folders there hold the experts' test split and labels of other classes.
TRAINING_LABELS = ("train", "NAV")
TEST_LABELS = "test"
# Folders of rover masks and range masks, which lie among the images.
_NO_IMAGES = frozenset({"mxy", "rng", "rng-30m"})
# Their images are in colour; they are imported only if their folder is named.
_COLOUR_CAMERAS = frozenset({"mcam", "zcam"})
# Depth from the folder around an unpacked release down to msl/ncam.
_MAX_DEPTH = 3
# A label's name may be its image's with a suffix: X_merged6 (older rovers, Perseverance), X_16165_T0_merged (test
# splits).
_LABEL_TAILS = (r"_merged\d*$", r"_T\d+$", r"_\d+$")


@dataclass(frozen=True)
class Frame:
    """An image and its masks.

    Args:
        name: its path below the folder it was found in, without suffix.
        image: the image file.
        masks: its mask file; several if it was labelled several times.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class FoundFrames:
    """The frames found in a folder.

    Args:
        frames: ordered by name; at least one.
        notices: what was left out and why, one line each.
    """

    frames: tuple[Frame, ...]
    notices: tuple[str, ...]


def find_ai4mars_frames(root: Path, labels: str | None = None, skip_missing: bool = False) -> FoundFrames:
    """Pairs images and labels of an AI4Mars tree (Swan et al., CVPR Workshops 2021), of any release and rover.

    A rover's camera is a folder that contains `images` and `labels`. The experts' test split is left out unless
    `labels` names it.

    Args:
        root: the unpacked release, a rover's folder, or a camera's.
        labels: a folder below each camera's `labels`, such as `test/masked-gold-min3-100agree`; None means
            the training labels.
        skip_missing: whether to leave out images without a label instead of raising an error; with a test split they
            are always left out.

    Returns:
        The frames.

    Raises:
        DataError: If the folder is not such a tree or has no labels, a label's image is missing or ambiguous, or an
            image's label is missing.
        NotFoundError: If the folder does not exist.
    """
    _check_folder(root)
    cameras = list(_cameras(root, _MAX_DEPTH))
    if not cameras:
        raise DataError(
            f"{root}: expected an AI4Mars tree, which has folders images and labels side by side, found "
            f"{_contents(root)}; name the folder that contains msl, mer or m2020, or a camera's folder"
        )
    frames: list[Frame] = []
    notices: list[str] = []
    for camera in cameras:
        shown = camera.relative_to(root).as_posix().removeprefix(".") or camera.name
        if camera.name in _COLOUR_CAMERAS and camera != root:
            notices.append(f"left out {shown}: its images are in colour; name its folder to import it")
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
    """Pairs `images/NAME.*` and `masks/NAME.*` of a plain folder; both may have the same subfolders.

    Args:
        root: the folder that holds `images` and `masks`.

    Returns:
        The frames.

    Raises:
        DataError: If one of the two folders is missing or empty, or an image or mask has no partner or exists twice.
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
        raise DataError(f"{images}: expected images (.png, .jpg or .tif), found none")
    for name, image in image_of.items():
        if name not in mask_of:
            raise DataError(f"{image}: expected its mask {masks / name}.png, found none; add it or remove the image")
    for name, mask in mask_of.items():
        if name not in image_of:
            raise DataError(f"{mask}: expected its image {images / name}.png, .jpg or .tif, found none; add it")
    return FoundFrames(tuple(Frame(name, image_of[name], (mask_of[name],)) for name in sorted(image_of)), ())


def _frames_of_camera(
    root: Path, camera: Path, labels: str | None, skip_missing: bool
) -> tuple[list[Frame], list[str]]:
    """The frames below one camera's folder, and notices of what was left out."""
    image_of, twin_of = _images_of_camera(camera)
    folder, is_deep = _label_folder(camera, labels)
    masks_of: dict[Path, list[Path]] = {}
    for mask in _files(folder, {".png"}) if is_deep else _files_in(folder, {".png"}):
        if (own := _image_of(mask.stem, image_of)) is None:
            raise DataError(f"{mask}: expected its image below {camera / 'images'}, found none; add it")
        if own.stem in twin_of:
            raise DataError(
                f"{mask}: expected one image of its name, found {own} and {twin_of[own.stem]}; remove one of them"
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
            notices.append(f"images left out that are also in the test split: {len(both)}")
    frames = [
        Frame(image.relative_to(root).with_suffix("").as_posix(), image, tuple(masks))
        for image, masks in masks_of.items()
        if image not in tested
    ]
    several = sum(len(frame.masks) > 1 for frame in frames)
    if several:
        notices.append(f"{several} images have several labels; for each, the one with the most labelled pixels is used")
    if alone := sorted(set(image_of.values()) - masks_of.keys() - tested):
        if masks_of and not is_test and not skip_missing:
            others = f" (and for {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(
                f"{alone[0]}: expected its label below {folder}, found none{others}; add it, or leave such images out "
                "with --skip-missing-labels"
            )
        notices.append(f"images left out without a label: {len(alone)}")
    return frames, notices


def _images_of_camera(camera: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """A camera's images by name, and a second image of the same name if there is one."""
    image_of: dict[str, Path] = {}
    twin_of: dict[str, Path] = {}
    for image in _files(camera / "images", IMAGE_SUFFIXES):
        folders = image.relative_to(camera).parts
        if _NO_IMAGES.intersection(folders):
            continue
        first = image_of.setdefault(image.stem, image)
        # The older rovers' test images exist twice.
        if first != image and TEST_LABELS not in folders:
            twin_of[image.stem] = image
    return image_of, twin_of


def _label_folder(camera: Path, labels: str | None) -> tuple[Path, bool]:
    """The folder of the labels, and whether labels in its subfolders count too."""
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
    """The image that a label's name refers to: the same name, or the name without its suffixes."""
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
    """Files with such a suffix in a folder and its subfolders, ordered by path; none if the folder does not exist."""
    return _visible(folder.rglob("*"), suffixes)


def _files_in(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    return _visible(folder.glob("*"), suffixes)


def _visible(paths: Iterable[Path], suffixes: Iterable[str]) -> Iterator[Path]:
    for path in sorted(paths):
        # Some archives contain a hidden companion of each file.
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            yield path


def _unique_by_name(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{path}: expected one file of this name, found {found[name]} too; remove one of them")
        found[name] = path
    return found


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise NotFoundError(f"{root}: expected a folder, found nothing there; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder, found a file; name the folder that contains it")


def _contents(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "") if names else "nothing in it"
