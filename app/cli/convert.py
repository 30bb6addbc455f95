"""``posemamba convert``: an existing pose.json to other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.console import print_result
from app.options import FBX, FORMATS, Options


def convert(
    result: Annotated[Path, typer.Argument(help="A pose.json, or a folder with one.", metavar="RESULT")],
    options: Options,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Formats, with commas between them or repeated: {', '.join((*FORMATS, FBX))}. fbx needs Blender.",
            metavar="FORMAT",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the files; default that of RESULT.")
    ] = None,
    blender: Annotated[
        Path | None,
        typer.Option(help="Blender's program, or a Python with its package bpy, for fbx.", envvar="POSEMAMBA_BLENDER"),
    ] = None,
) -> None:
    """Write other formats from an existing pose.json. No network runs and no video is needed."""
    from app.convert import Target
    from app.convert import convert as convert_result

    folder = result if result.is_dir() else result.parent
    formats = [name.strip() for given in to or () for name in given.split(",") if name.strip()]
    if not formats and options.formats != Options.formats:  # those of --for, but for the file that is read
        formats = [name for name in options.formats if name != "json" or (out and out.resolve() != folder.resolve())]
    if not formats:
        raise typer.BadParameter("name formats with --to, such as --to glb,bvh, or what they are for with --for")
    written = convert_result(result, Target(out or folder, tuple(dict.fromkeys(formats)), blender), options)
    for kind, path in written.items():
        print_result(f"{kind}: {path}")
