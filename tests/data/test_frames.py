"""Which image belongs to which mask, in every layout that AI4Mars has had and in a plain folder."""

from pathlib import Path

import pytest

from marsseg.data.frames import FoundFrames, find_ai4mars_frames, find_folder_frames
from marsseg.errors import DataError, NotFoundError

MSL, MER, M2020 = "NLA_397681339EDR_F0020000AUT_04096M1", "1n129697839eff0338p1931l0m1", "NLF_0009_0667755959_167ECM_01"
LAYOUTS = {
    "Curiosity": (f"msl/ncam/images/edr/{MSL}.JPG", f"msl/ncam/labels/train/{MSL}.png"),
    "Curiosity, first release": (f"msl/images/edr/{MSL}.JPG", f"msl/labels/train/{MSL}.png"),
    "older rovers": (f"mer/images/eff/{MER}.JPG", f"mer/labels/train/merged-unmasked/{MER}_merged6.png"),
    "older rovers, flat": (f"mer/images/eff/{MER}.JPG", f"mer/labels/train/{MER}_merged12.png"),
    "Perseverance": (f"m2020/images/ncam/{M2020}.jpeg", f"m2020/labels/NAV/{M2020}_merged60.png"),
    "two folders": ("images/a.JPG", "labels/a.png"),
    "numbers behind merged": ("msl/images/a.jpg", "msl/labels/train/a_15033_merged.png"),
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def pairs_of(found: FoundFrames, root: Path) -> dict[str, list[str]]:
    """The names of each image's masks, by the image's path below the root."""
    shown = {frame.image: list(frame.masks) for frame in found.frames}
    return {image.relative_to(root).as_posix(): [mask.name for mask in masks] for image, masks in shown.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    image, label = LAYOUTS[layout]
    touch(tmp_path, image, label)
    found = find_ai4mars_frames(tmp_path)
    assert pairs_of(found, tmp_path) == {image: [Path(label).name]}
    assert found.frames[0].name == image.rpartition(".")[0]
    assert found.notices == ()


@pytest.mark.parametrize("start", [".", "ai4mars-dataset-merged-0.6", "ai4mars-dataset-merged-0.6/msl/ncam"])
def test_the_tree_is_found_from_its_top_or_from_within(tmp_path: Path, start: str) -> None:
    image, label = LAYOUTS["Curiosity"]
    touch(tmp_path / "ai4mars-dataset-merged-0.6", image, label)
    (frame,) = find_ai4mars_frames(tmp_path / start).frames
    assert frame.image.name == f"{MSL}.JPG"


def test_a_release_with_all_its_rovers(tmp_path: Path) -> None:
    for layout in ("Curiosity", "older rovers", "Perseverance"):
        touch(tmp_path, *LAYOUTS[layout])
    touch(tmp_path, "msl/mcam/images/c.JPG", "msl/mcam/labels/train/c.png", "info.md", "label_keys.json")
    touch(tmp_path, f"m2020/labels/M2020_GEO/{M2020}_merged3.png")
    found = find_ai4mars_frames(tmp_path)
    assert [Path(frame.name).parts[0] for frame in found.frames] == ["m2020", "mer", "msl"]
    assert found.notices == (
        "m2020: left out labels/M2020_GEO (1 labels), which --labels would import",
        "left out msl/mcam: its images are in colour; name its folder to import it",
    )
    assert len(find_ai4mars_frames(tmp_path / "msl" / "mcam").frames) == 1


def test_the_test_part_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    gold = "mer/labels/test/masked-gold-min3-100agree"
    touch(
        tmp_path,
        *LAYOUTS["older rovers"],
        "mer/images/eff/t.JPG",
        "mer/images/test/t.JPG",
        f"{gold}/t_16_T0_merged.png",
    )
    found = find_ai4mars_frames(tmp_path)
    assert pairs_of(found, tmp_path) == {f"mer/images/eff/{MER}.JPG": [f"{MER}_merged6.png"]}
    assert found.notices == ("mer: left out labels/test (1 labels), which --labels would import",)
    gold_part = find_ai4mars_frames(tmp_path, "test/masked-gold-min3-100agree")
    assert pairs_of(gold_part, tmp_path) == {"mer/images/eff/t.JPG": ["t_16_T0_merged.png"]}


def test_a_training_label_of_a_test_image_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.JPG", "images/b.JPG", "labels/train/a.png", "labels/train/b.png")
    touch(tmp_path, "labels/test/masked-gold-min1-100agree/b_merged.png")
    found = find_ai4mars_frames(tmp_path)
    assert [frame.name for frame in found.frames] == ["images/a"]
    assert f"{tmp_path.name}: images left out that are also in the test split: 1" in found.notices


@pytest.mark.parametrize("labels", ["train", "train/merged-unmasked"])
def test_naming_the_training_labels_brings_no_test_image_in(tmp_path: Path, labels: str) -> None:
    touch(tmp_path, "images/a.JPG", "images/b.JPG", f"labels/{labels}/a.png", f"labels/{labels}/b.png")
    touch(tmp_path, "labels/test/masked-gold-min1-100agree/b_merged.png")
    assert [frame.name for frame in find_ai4mars_frames(tmp_path, labels).frames] == ["images/a"]


def test_images_without_a_label_are_refused_or_counted(tmp_path: Path) -> None:
    touch(tmp_path, *LAYOUTS["Curiosity"], "msl/ncam/images/edr/other.JPG", "msl/ncam/images/edr/more.JPG")
    # Masks of the rover, masks of distant terrain and an archive's hidden companion files are not images.
    touch(tmp_path, "msl/ncam/images/mxy/x.png", "msl/ncam/images/rng-30m/y.png", "msl/ncam/images/edr/._other.JPG")
    with pytest.raises(DataError) as caught:
        find_ai4mars_frames(tmp_path)
    images, labels = tmp_path / "msl/ncam/images/edr", tmp_path / "msl/ncam/labels/train"
    assert str(caught.value).startswith(f"{images}/more.JPG: expected its label below {labels}, found none (and for 1 ")
    found = find_ai4mars_frames(tmp_path, skip_missing=True)
    assert found.notices == ("msl/ncam: images left out without a label: 2",)


def test_a_label_that_may_belong_to_two_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/sol1/a.JPG", "images/sol2/a.JPG", "labels/train/sol2/a.png")
    with pytest.raises(DataError, match=r"sol2/a\.png: expected one image of its name, found .*sol1.* and .*sol2"):
        find_ai4mars_frames(tmp_path)


def test_several_labels_of_one_image_are_one_frame(tmp_path: Path) -> None:
    touch(tmp_path, "mer/images/eff/a.JPG", *(f"mer/labels/train/a_merged{number}.png" for number in (6, 13)))
    found = find_ai4mars_frames(tmp_path)
    assert pairs_of(found, tmp_path) == {"mer/images/eff/a.JPG": ["a_merged13.png", "a_merged6.png"]}
    assert "1 images have several labels" in found.notices[0]


@pytest.mark.parametrize(
    ("files", "named", "expected"),
    [
        (("images/a.JPG", "labels/train/b.png"), "labels/train/b.png", "expected its image below"),
        (("images/a.JPG", "labels/train/a_1.png"), "labels/train/a_1.png", "expected its image below"),
        (
            ("images/a.JPG", "labels/test/a.png"),
            "",
            "labels (.png) below labels/train or labels/NAV, found none; below",
        ),
        (("images/a.JPG", "labels/readme.txt"), "", "below labels there is nothing else"),
        (("notes.txt", "pictures/a.png"), "", "folders images and labels side by side, found notes.txt, pictures"),
        ((), "", "found nothing in it"),
    ],
)
def test_trees_that_are_refused(tmp_path: Path, files: tuple[str, ...], named: str, expected: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError) as caught:
        find_ai4mars_frames(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / named}: ")
    assert expected in str(caught.value)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    touch(tmp_path, *LAYOUTS["Curiosity"])
    with pytest.raises(DataError, match=r"below labels/test/gold, found none; below labels there is train"):
        find_ai4mars_frames(tmp_path, "test/gold")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for find in (find_ai4mars_frames, find_folder_frames):
        with pytest.raises(NotFoundError, match="nothing there"):
            find(tmp_path / "none")
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="found a file"):
            find(tmp_path / "file")


def test_plain_folder(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.JPEG", "images/sol 7/a.tif", "images/.hidden.png", "images/notes.txt")
    touch(tmp_path, "masks/a.png", "masks/b.png", "masks/sol 7/a.png")
    found = find_folder_frames(tmp_path)
    assert [(frame.name, frame.image.name) for frame in found.frames] == [
        ("a", "a.png"),
        ("b", "b.JPEG"),
        ("sol 7/a", "a.tif"),
    ]
    assert [frame.masks for frame in found.frames] == [
        (tmp_path / "masks" / name,) for name in ("a.png", "b.png", "sol 7/a.png")
    ]


@pytest.mark.parametrize(
    ("files", "named", "expected"),
    [
        (("images/a.png", "masks/b.png"), "images/a.png", "expected its mask"),
        (("images/a.png", "masks/a.png", "masks/b.png"), "masks/b.png", "expected its image"),
        (("images/a.png", "images/a.jpg", "masks/a.png"), "images/a.png", "found {}/images/a.jpg too"),
        (("images/a.png", "masks/a.png", "masks/a.tif"), "masks/a.tif", "found {}/masks/a.png too"),
        (("images/a.png", "labels/a.png"), "", "folders images and masks in it, found images, labels"),
        (("images/notes.txt", "masks/a.png"), "images", "expected images (.png, .jpg or .tif)"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: tuple[str, ...], named: str, expected: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError) as caught:
        find_folder_frames(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / named}: ")
    assert expected.format(tmp_path) in str(caught.value)
