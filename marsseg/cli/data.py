"""`marsexp data inspect`, `clean`, `import` and `synth`."""

from pathlib import Path
from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import print_json

app = typer.Typer(help="Inspect, clean, import or generate data.", no_args_is_help=True, rich_markup_mode=None)
imports = typer.Typer(help="Make a data set from images and masks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(imports, name="import")

_Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The new file.")]
_Height = Annotated[int, typer.Option("--height", min=16, metavar="PIXELS", help="Tile height.")]
_Width = Annotated[int, typer.Option("--width", min=16, metavar="PIXELS", help="Tile width.")]
_Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        min=1,
        metavar="PIXELS",
        help="Distance between neighbouring tiles, down and across; default: tiles side by side.",
    ),
]
_Reduce = Annotated[
    int, typer.Option("--reduce", min=1, metavar="N", help="First downsample each frame by a factor of N.")
]
_Grey = Annotated[bool, typer.Option("--grey", help="Convert colour images to greyscale; otherwise they are rejected.")]
_CleanOut = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The new .npz file, or a .csv or .json list of the outliers.")
]
_CleanData = Annotated[
    str | None, typer.Option("--data", metavar="D", help="A data set (.npz); default: MARSEXP_DATA.")
]


@app.command()
def inspect(
    data: options.Data = None,
    num_classes: Annotated[
        int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Number of classes.")
    ] = 5,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Draw each suspected group of outliers into this folder."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Count classes, find outliers and duplicates.

    Example: marsexp data inspect --data tiles.npz
    """
    from marsseg.jobs.data import inspect_data, render_inspection

    document = inspect_data(data, num_classes, pictures)
    if json:
        print_json(document)
    else:
        print(render_inspection(document), end="")


@app.command()
def clean(
    out: _CleanOut,
    data: _CleanData = None,
    num_classes: Annotated[
        int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Number of classes.")
    ] = 5,
    debug: options.Debug = False,
) -> None:
    """Write a data set without its outliers, or a list of them.

    Example: marsexp data clean --data tiles.npz --out clean.npz
    """
    from marsseg.jobs.data import clean_data

    print(clean_data(data, num_classes, out))


@app.command()
def synth(
    out: _Out,
    images: Annotated[int, typer.Option("--images", min=1, metavar="N", help="Number of tiles.")] = 600,
    height: _Height = 64,
    width: _Width = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Random seed.")] = 0,
    outliers: Annotated[int, typer.Option("--outliers", min=0, metavar="N", help="Number of planted outliers.")] = 0,
    debug: options.Debug = False,
) -> None:
    """Make synthetic Mars terrain.

    Example: marsexp data synth --images 600 --out terrain.npz
    """
    from marsseg.jobs.data import write_synthetic

    print(write_synthetic(out, images, height, width, seed, outliers))


@imports.command()
def ai4mars(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The unpacked release, a rover's folder in it, or a camera's.")
    ],
    out: _Out,
    height: _Height = 64,
    width: _Width = 128,
    stride: _Stride = None,
    reduce: _Reduce = 4,
    max_frames: Annotated[
        int | None,
        typer.Option("--max-frames", min=1, metavar="N", help="Import at most N frames, evenly spaced; default: all."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAME",
            help="A folder below labels/ in place of the training labels, such as test/masked-gold-min3-100agree.",
        ),
    ] = None,
    keep_unlabelled: Annotated[bool, typer.Option("--keep-unlabelled", help="Keep tiles without any label.")] = False,
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing-labels", help="Leave out images without a label; otherwise they are rejected."),
    ] = False,
    grey: _Grey = False,
    debug: options.Debug = False,
) -> None:
    """Cut an AI4Mars tree into tiles.

    Frames are first downsampled by 4 (--reduce). Soil, bedrock, sand and big rock become classes 1 to 4,
    unlabelled pixels class 0. Tiles without any label and the release's test split are left out; all tiles of a frame
    stay together when the data set is split.

    Example: marsexp data import ai4mars ai4mars/msl --out tiles.npz
    """
    from marsseg.data.importers import Cutting
    from marsseg.jobs.data import import_ai4mars

    cutting = Cutting(height, width, stride, reduce, keep_unlabelled, grey)
    print(import_ai4mars(folder, out, cutting, labels, skip_missing, max_frames))


@imports.command(name="folder")
def plain_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds images/NAME.png (or .jpg, .tif) and masks/NAME.png.")
    ],
    out: _Out,
    height: _Height = 64,
    width: _Width = 128,
    stride: _Stride = None,
    reduce: _Reduce = 1,
    num_classes: Annotated[
        int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Number of classes.")
    ] = 5,
    grey: _Grey = False,
    debug: options.Debug = False,
) -> None:
    """Cut a folder of images and masks into tiles.

    Each mask pixel holds a class number, from 0 (background) up. Images of a tile's size stay whole; all tiles of an
    image stay together when the data set is split.

    Example: marsexp data import folder pictures --out tiles.npz
    """
    from marsseg.data.importers import Cutting
    from marsseg.jobs.data import import_folder

    print(import_folder(folder, out, Cutting(height, width, stride, reduce, to_grey=grey), num_classes))
