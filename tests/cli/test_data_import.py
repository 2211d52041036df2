"""`marsexp data import`: from images on disk to a file that the other commands read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jsonschema
import numpy as np
import pytest

from marsseg.cli.app import main
from marsseg.data.sources import load_tiles
from tests.data.conftest import save_frame, save_picture, textured_images

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "data-inspect.json"
NCAM = "msl/ncam"


class Said(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> Said:
        monkeypatch.setattr("sys.argv", ["marsexp", "data", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        code = exit_info.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, *capsys.readouterr())

    return run_command


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three Curiosity training frames of 256x512, and one test frame."""
    root = tmp_path / "release"
    for seed, name in enumerate("abc"):
        images, labels = root / NCAM / "images/edr", root / NCAM / "labels/train"
        save_frame(images / f"{name}.JPG", labels / f"{name}.png", seed, 256, 512, labels=(0, 1, 2, 3, 255))
    gold = root / NCAM / "labels/test/masked-gold-min3-100agree"
    save_frame(root / NCAM / "images/edr/e.JPG", gold / "e_merged.png", 9, 256, 512)
    return root


def test_ai4mars(run: Run, tree: Path) -> None:
    said = run("import", "ai4mars", "release", "--out", "tiles.npz")
    assert (said.status, said.out) == (0, "tiles.npz: 3 tiles of 64x128 from 3 frames\n")
    assert said.err.splitlines() == [
        "msl/ncam: left out labels/test (1 labels), which --labels would import",
    ]
    tiles = load_tiles("tiles.npz")
    assert tiles.images.shape == (3, 64, 128)
    assert tiles.frames is not None
    assert tiles.frames.tolist() == [0, 1, 2]


def test_ai4mars_with_every_option(run: Run, tree: Path) -> None:
    for name in "ab":
        mask = np.full((256, 512), 255, np.uint8)
        mask[:100, :200] = 3
        save_picture(tree / NCAM / "labels/train" / f"{name}.png", mask)
    sizes = ("--height", "48", "--width", "96", "--stride", "100", "--reduce", "1")
    said = run("import", "ai4mars", "release/msl", "--out", "tiles.npz", *sizes, "--max-frames", "2")
    # Windows begin at rows 0, 100, 200 and columns 0, 100, 200, 300, 400; in each frame, two of them contain labels.
    assert said.out == "tiles.npz: 4 tiles of 48x96 from 2 frames, left out 26 without a label\n"
    assert said.err.splitlines()[-1].endswith("% of the pixels lie in no tile: at edges, or between tiles")
    said = run("import", "ai4mars", "release/msl", "--out", "all.npz", *sizes, "--max-frames", "2", "--keep-unlabelled")
    assert said.out == "all.npz: 30 tiles of 48x96 from 2 frames\n"


def test_the_test_part_on_request(run: Run, tree: Path) -> None:
    labels = ("--labels", "test/masked-gold-min3-100agree")
    said = run("import", "ai4mars", "release", "--out", "gold.npz", *labels)
    assert said.out == "gold.npz: 1 tiles of 64x128 from 1 frames\n"
    with np.load("gold.npz") as file:
        assert file["frames"].tolist() == ["msl/ncam/images/edr/e"]


def test_images_without_a_label_on_request(run: Run, tree: Path) -> None:
    (tree / NCAM / "labels/train/b.png").unlink()
    said = run("import", "ai4mars", "release", "--out", "tiles.npz", "--skip-missing-labels")
    assert said.out == "tiles.npz: 2 tiles of 64x128 from 2 frames\n"
    assert said.err.splitlines()[-1] == "msl/ncam: images left out without a label: 1"


def test_folder(run: Run, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        save_frame(tmp_path / f"pairs/images/{name}.png", tmp_path / f"pairs/masks/{name}.png", seed, 140, 270)
    said = run("import", "folder", "pairs", "--out", "tiles.npz")
    assert (said.status, said.out) == (0, "tiles.npz: 12 tiles of 64x128 from 3 frames\n")
    # Tiles cover 128 x 256 of the 140 x 270 pixels.
    assert said.err == "13.3% of the pixels lie in no tile: at edges, or between tiles\n"
    inspected = run("inspect", "--data", "tiles.npz", "--json")
    document = json.loads(inspected.out)
    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert (document["images"], document["frames"]) == (12, 3)
    assert "12 images of 64x128 from 3 frames" in run("inspect", "--data", "tiles.npz").out
    assert run("clean", "--data", "tiles.npz", "--out", "clean.npz").status == 0
    with np.load("tiles.npz") as tiles, np.load("clean.npz") as cleaned:
        assert np.array_equal(tiles["frames"], cleaned["frames"])


def test_colours_on_request(run: Run, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    save_picture(tmp_path / "pairs/images/a.png", colours)
    save_picture(tmp_path / "pairs/masks/a.png", np.ones((64, 128), np.uint8))
    said = run("import", "folder", "pairs", "--out", "tiles.npz")
    assert (said.status, said.out) == (1, "")
    assert "pairs/images/a.png: expected a greyscale image" in said.err
    assert run("import", "folder", "pairs", "--out", "tiles.npz", "--grey").status == 0


def test_exact_and_near_duplicates_are_counted(run: Run) -> None:
    images = textured_images(8)
    images[5] = images[1]
    images[6] = np.clip(images[2] + 20.0, 0, 255)
    np.savez("tiles.npz", training_set=np.stack([images, np.ones_like(images)], axis=1))
    assert "groups of duplicate images: 1 exact, 1 near\n" in run("inspect", "--data", "tiles.npz").out


def spoil(tree: Path, name: str) -> None:
    image, label = tree / NCAM / "images/edr/b.JPG", tree / NCAM / "labels/train/b.png"
    if name == "missing image":
        image.unlink()
    elif name == "missing label":
        label.unlink()
    elif name == "another size":
        save_picture(label, np.zeros((256, 500), np.uint8))
    elif name == "unknown value":
        save_picture(label, np.full((256, 512), 4, np.uint8))
    elif name == "torn image":
        image.write_bytes(image.read_bytes()[:2000])
    elif name == "torn label":
        label.write_bytes(label.read_bytes()[:60])
    elif name == "colours":
        save_picture(image, np.random.default_rng(0).integers(0, 256, (256, 512, 3), np.uint8))
    elif name == "too small":
        save_picture(image, np.zeros((128, 128), np.uint8))
        save_picture(label, np.zeros((128, 128), np.uint8))


SPOILT = {
    "missing image": ("labels/train/b.png", "expected its image below"),
    "missing label": ("images/edr/b.JPG", "expected its label below release/msl/ncam/labels/train, found none; add it"),
    "another size": ("labels/train/b.png", "expected 256x512 pixels like its image"),
    "unknown value": ("labels/train/b.png", "expected labels 0, 1, 2, 3 or 255, found 4 at row 0, column 0"),
    "torn image": ("images/edr/b.JPG", "cannot be read"),
    "torn label": ("labels/train/b.png", "cannot be read"),
    "colours": ("images/edr/b.JPG", "expected a greyscale image, found a colour one"),
    "too small": ("images/edr/b.JPG", "expected at least 64x128 pixels after downsampling by 4, found 32x32"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_which_file(run: Run, tree: Path, tmp_path: Path, name: str) -> None:
    spoil(tree, name)
    file, expected = SPOILT[name]
    said = run("import", "ai4mars", "release", "--out", "tiles.npz")
    assert (said.status, said.out) == (1, "")
    error = said.err.splitlines()[-1]
    assert error.startswith(f"marsexp: release/{NCAM}/{file}: ")
    assert expected in error
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("ai4mars", "release/msl/ncam/images", "--out", "tiles.npz"), 1, "expected an AI4Mars tree"),
        (("ai4mars", "nowhere", "--out", "tiles.npz"), 1, "nowhere: expected a folder, found nothing there"),
        (("folder", "release", "--out", "tiles.npz"), 1, "release: expected folders images and masks in it, found msl"),
        (("ai4mars", "release", "--out", "tiles.zip"), 2, "tiles.zip: expected a file name that ends in .npz"),
        (("ai4mars", "release", "--out", "none/tiles.npz"), 2, "expected an existing folder"),
        (("ai4mars", "release", "--out", "tiles.npz", "--reduce", "0"), 2, "--reduce"),
        (("ai4mars", "release"), 2, "--out"),
        (("mars", "release"), 2, "mars"),
    ],
)
def test_wrong_use(
    run: Run, tree: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, expected: str
) -> None:
    said = run("import", *arguments)
    assert (said.status, said.out) == (status, "")
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_an_existing_file_is_never_overwritten(run: Run, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "tiles.npz").write_bytes(b"precious")
    for importer in ("ai4mars", "folder"):
        said = run("import", importer, "release", "--out", "tiles.npz")
        assert said.status == 2
        assert "tiles.npz: expected a new file" in said.err
    assert (tmp_path / "tiles.npz").read_bytes() == b"precious"
