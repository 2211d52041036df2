"""`marsexp data inspect`, `clean`, `import` and `synth`."""

from pathlib import Path
from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import print_json

app = typer.Typer(help="Look at data, clean it, import or make some.", no_args_is_help=True, rich_markup_mode=None)
imports = typer.Typer(help="Make a data set from pictures and masks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(imports, name="import")

_Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The new file.")]
_Height = Annotated[int, typer.Option("--height", min=16, metavar="PIXELS", help="Of a tile.")]
_Width = Annotated[int, typer.Option("--width", min=16, metavar="PIXELS", help="Of a tile.")]
_Stride = Annotated[
    int | None,
    typer.Option(
        "--stride", min=1, metavar="PIXELS", help="From tile to tile, down and across; default: tiles side by side."
    ),
]
_Reduce = Annotated[
    int, typer.Option("--reduce", min=1, metavar="N", help="First reduce each frame to 1/N of its height and width.")
]
_Grey = Annotated[bool, typer.Option("--grey", help="Turn pictures in colour into grey ones; else they are refused.")]
_CleanOut = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The new .npz file, or a .csv or .json list of what is left out.")
]


@app.command()
def inspect(
    data: options.Data = None,
    num_classes: Annotated[int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Classes.")] = 5,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Draw each suspected group of outliers here.")
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
    data: options.Data = None,
    num_classes: Annotated[int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Classes.")] = 5,
    debug: options.Debug = False,
) -> None:
    """Leave outliers out.

    Example: marsexp data clean --data tiles.npz --out clean.npz
    """
    from marsseg.jobs.data import clean_data

    print(clean_data(data, num_classes, out))


@app.command()
def synth(
    out: _Out,
    images: Annotated[int, typer.Option("--images", min=1, metavar="N", help="How many tiles.")] = 600,
    height: _Height = 64,
    width: _Width = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Decides everything.")] = 0,
    outliers: Annotated[int, typer.Option("--outliers", min=0, metavar="N", help="Wrong images among them.")] = 0,
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
        typer.Option("--max-frames", min=1, metavar="N", help="Take no more frames, at equal distances; default: all."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAME",
            help="A folder below labels/ in place of the training labels, as test/masked-gold-min3-100agree.",
        ),
    ] = None,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep tiles in which nothing is labelled.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing-labels", help="Leave images without a label out; else they are refused.")
    ] = False,
    grey: _Grey = False,
    debug: options.Debug = False,
) -> None:
    """Cut an AI4Mars tree into tiles.

    Curiosity's 1024x1024 frames are first reduced by 4. Soil, bedrock, sand and big rock
    become 1 to 4, what has no label 0. Tiles without any label and the test part are left out; all tiles of a frame
    stay in one part of a split.

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
    num_classes: Annotated[int, typer.Option("--num-classes", min=2, max=255, metavar="N", help="Classes.")] = 5,
    grey: _Grey = False,
    debug: options.Debug = False,
) -> None:
    """Cut a folder of images and masks into tiles.

    A mask holds a class from 0 (background) up in each pixel. Pictures of a tile's size stay whole; all tiles of a
    picture stay in one part of a split.

    Example: marsexp data import folder pictures --out tiles.npz
    """
    from marsseg.data.importers import Cutting
    from marsseg.jobs.data import import_folder

    print(import_folder(folder, out, Cutting(height, width, stride, reduce, to_grey=grey), num_classes))
