"""`marsexp data inspect`, `clean` and `synth`."""

from pathlib import Path
from typing import Annotated

import typer

from marsseg.cli import options
from marsseg.cli.output import print_json

app = typer.Typer(help="Look at data, clean it, make some.", no_args_is_help=True, rich_markup_mode=None)

_Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The new file.")]
_CleanOut = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The new .npz file, or a .csv list of what is left out and why.")
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
    height: Annotated[int, typer.Option("--height", min=16, metavar="PIXELS", help="Of a tile.")] = 64,
    width: Annotated[int, typer.Option("--width", min=16, metavar="PIXELS", help="Of a tile.")] = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Decides everything.")] = 0,
    outliers: Annotated[int, typer.Option("--outliers", min=0, metavar="N", help="Wrong images among them.")] = 0,
    debug: options.Debug = False,
) -> None:
    """Make synthetic Mars terrain.

    Example: marsexp data synth --images 600 --out terrain.npz
    """
    from marsseg.jobs.data import write_synthetic

    print(write_synthetic(out, images, height, width, seed, outliers))
