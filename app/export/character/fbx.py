"""``pose.fbx``: what is in pose.glb, by way of Blender, which has to be installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from app.export.character.glb import write_glb
from app.export.frame_times import frame_rate
from app.results import PoseResult
from checkpoints import atomic_write

SCRIPT = Path(__file__).with_name("blender_fbx.py")
TIMEOUT_S = 600


def write_fbx(result: PoseResult, path: Path, blender: Path | None = None) -> None:
    """Write all people of ``result`` at the clip's frame rate.

    Args:
        result: Of somebody.
        path: Of the file.
        blender: Blender's program, or a Python that has its package bpy; None for the one that is found.

    Raises:
        RuntimeError: Blender is missing, or failed.
    """
    command = blender_command(blender)
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as part:
        source, made = Path(folder, "pose.glb"), Path(folder, "pose.fbx")
        write_glb(result, source)
        video = result.video
        arguments = [str(source), str(made), repr(frame_rate(video)), str(video.num_frames), video.path.stem]
        try:
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"Blender ({command[0]}) did not write {path.name}: {error}") from error
        if done.returncode or not made.exists():
            reason = next(iter(reversed((done.stderr or done.stdout).strip().splitlines())), "it said nothing")
            raise RuntimeError(f"Blender ({command[0]}) did not write {path.name}: {reason}")
        shutil.copyfile(made, part)


def blender_command(blender: Path | None = None) -> list[str]:
    """Return the command that runs ``SCRIPT`` in Blender; RuntimeError if there is no Blender."""
    program = str(blender) if blender else shutil.which("blender")
    if program is None and importlib.util.find_spec("bpy"):
        program = sys.executable
    if program is None or shutil.which(program) is None:
        raise RuntimeError(
            f"fbx is written by Blender, and {f'there is no program {program}' if program else 'none was found'}; "
            "install it from blender.org, or name its program with --blender"
        )
    if Path(program).name.startswith("python"):
        return [program, str(SCRIPT)]
    return [program, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(SCRIPT), "--"]
