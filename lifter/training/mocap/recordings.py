"""Motion capture in the formats of other programs (BVH, Acclaim asf/amc) as clips of H36M-17 joints at 50 fps.

What a user's own file goes through: read, find joints by name, cut where the recording jumps, bring to 50 fps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline, make_interp_spline

from lifter.skeletons import H36M17, MOTION_FPS, joints_from_bones
from lifter.training.mocap.acclaim import read_amc
from lifter.training.mocap.bvh import read_bvh
from lifter.training.mocap.rigs import h36m17_from, is_cmu

READERS = {".bvh": read_bvh, ".amc": read_amc}
# Trials of the CMU database recorded at 60 fps, by its own list; their files say 120 or nothing.
CMU_60_FPS = re.compile(r"(60|61|87|88|89)_\d\d")
CMU_TRIAL = re.compile(r"(\d\d\d?)_\d\d")
MAX_SPEED = 16.0  # meters per second of any joint; above it the recording jumped
MIN_SECONDS = 0.8  # shorter pieces are dropped
SMOOTHED_FPS = 99.5  # from here on each frame is first averaged with its neighbors


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Clips of one file.

    Attributes:
        subject: "cmu_05" for a trial of the CMU database in the database's own skeleton, else None.
        clips: H36M-17 joints (F, 17, 3) float32 by name, meters, z up, 50 fps; "walk", or "walk#0", "walk#1" and so
            on where glitches were cut out.
    """

    subject: str | None
    clips: dict[str, np.ndarray]


def read_recording(path: Path) -> Recording:
    """Return the clips of a .bvh or .amc file.

    Raises:
        FileNotFoundError: No such file, or no .asf for an .amc.
        ValueError: The file is malformed or too large, its skeleton is unknown, or nothing of it can be used.
    """
    take = READERS[path.suffix.lower()](path)
    if CMU_60_FPS.match(path.stem) and abs(take.fps - 120) < 1:
        take = replace(take, fps=60.0)
    joints = h36m17_from(take)
    pieces = [joints[part] for part in contiguous_segments(joints, take.fps)]
    clips = [resample(piece, take.fps) for piece in pieces]
    clips = [clip for clip in clips if len(clip) >= MIN_SECONDS * MOTION_FPS]
    if not clips:
        seconds = len(joints) / take.fps
        raise ValueError(f"in its {seconds:.1f} s there are no {MIN_SECONDS} s without joints over {MAX_SPEED:g} m/s")
    whole = len(pieces) == 1 and len(pieces[0]) == len(joints)
    names = [path.stem] if whole else [f"{path.stem}#{i}" for i in range(len(clips))]
    trial = CMU_TRIAL.match(path.stem) if is_cmu(take) else None
    return Recording(f"cmu_{trial.group(1)}" if trial else None, dict(zip(names, clips, strict=True)))


def contiguous_segments(joints: np.ndarray, fps: float) -> list[slice]:
    """Return the segments of joints (F, 17, 3), meters, in which none is faster than ``MAX_SPEED``.

    Between two frames that are too far apart both are left out, and one more on either side.
    """
    outliers = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1, initial=0) * fps > MAX_SPEED  # (F - 1,)
    bad = np.zeros(len(joints), bool)
    for shift in (-1, 0, 1, 2):
        places = np.flatnonzero(outliers) + shift
        bad[places[(places >= 0) & (places < len(joints))]] = True
    borders = np.flatnonzero(np.diff(np.concatenate([[True], bad, [True]]).astype(np.int8)))
    return [slice(int(start), int(end)) for start, end in borders.reshape(-1, 2)]


def resample(joints: np.ndarray, fps: float) -> np.ndarray:
    """Return joints (F, 17, 3) of a recording at ``fps`` at 50 fps, with their own bone lengths.

    From 100 fps on frames are averaged over three, so that noise is not aliased, and taken linearly; below that a
    cubic curve runs through them.
    """
    if abs(fps / MOTION_FPS - 1) < 1e-3 or len(joints) < 2:
        return joints
    frames = np.arange(len(joints))
    places = np.arange(int((len(joints) - 1) / fps * MOTION_FPS + 1e-6) + 1) * (fps / MOTION_FPS)
    if fps >= SMOOTHED_FPS:
        smooth = joints.copy()
        smooth[1:-1] = (joints[:-2] + joints[1:-1] + joints[2:]) / 3
        curve = make_interp_spline(frames, smooth, k=1)
    else:
        curve = CubicHermiteSpline(frames, joints, np.gradient(joints, axis=0))  # Catmull-Rom
    lengths = make_interp_spline(frames, bone_lengths(joints), k=1)
    return with_lengths(curve(places).astype(np.float32), lengths(places).astype(np.float32))


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """Return the lengths (F, 16) of the bones that end at joints 1 to 16."""
    return np.linalg.norm(joints[:, 1:] - joints[:, H36M17.parents[1:]], axis=-1)


def with_lengths(joints: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return joints (F, 17, 3) with bones of the given lengths (F, 16); pelvis and directions stay."""
    bones = joints[:, 1:] - joints[:, H36M17.parents[1:]]
    scale = lengths / np.maximum(np.linalg.norm(bones, axis=-1), 1e-9)
    return np.stack(joints_from_bones(joints[:, 0], scale[..., None] * bones), axis=1)
