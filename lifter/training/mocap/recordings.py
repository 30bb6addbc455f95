"""Motion capture in the formats of other programs (BVH, Acclaim asf/amc) as clips of H36M-17 joints at 50 fps.

What a user's own file goes through: read, find joints by name, cut where the recording jumps, bring to 50 fps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lifter.skeletons import H36M17, MOTION_FPS
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
    pieces = [joints[part] for part in steady_parts(joints, take.fps)]
    clips = [resample(piece, take.fps) for piece in pieces]
    clips = [clip for clip in clips if len(clip) >= MIN_SECONDS * MOTION_FPS]
    if not clips:
        seconds = len(joints) / take.fps
        raise ValueError(f"in its {seconds:.1f} s there are no {MIN_SECONDS} s without joints over {MAX_SPEED:g} m/s")
    whole = len(pieces) == 1 and len(pieces[0]) == len(joints)
    names = [path.stem] if whole else [f"{path.stem}#{i}" for i in range(len(clips))]
    trial = CMU_TRIAL.match(path.stem) if is_cmu(take) else None
    return Recording(f"cmu_{trial.group(1)}" if trial else None, dict(zip(names, clips, strict=True)))


def steady_parts(joints: np.ndarray, fps: float) -> list[slice]:
    """Return the stretches of joints (F, 17, 3), meters, in which none is faster than ``MAX_SPEED``.

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
    places = np.arange(int((len(joints) - 1) / fps * MOTION_FPS + 1e-6) + 1) * (fps / MOTION_FPS)
    before = np.minimum(places.astype(int), len(joints) - 2)
    part = (places - before)[:, None, None].astype(np.float32)
    padded = with_ends(joints)
    if fps >= SMOOTHED_FPS:
        smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        moved = smooth[before] + part * (smooth[before + 1] - smooth[before])
    else:
        moved = cubic(padded[before], padded[before + 1], padded[before + 2], padded[before + 3], part)
    lengths = bone_lengths(joints)
    return with_lengths(moved, lengths[before] + part[..., 0] * (lengths[before + 1] - lengths[before]))


def with_ends(joints: np.ndarray) -> np.ndarray:
    """Return joints (F, 17, 3) with one frame before and one after, (F + 2, 17, 3), that go on straight."""
    return np.concatenate([2 * joints[:1] - joints[1:2], joints, 2 * joints[-1:] - joints[-2:-1]])


def cubic(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the Catmull-Rom curve through four neighbors, at ``part`` (0 to 1) between the middle two."""
    straight = p2 - p0
    bend = 2 * p0 - 5 * p1 + 4 * p2 - p3
    twist = 3 * (p1 - p2) + p3 - p0
    return p1 + part / 2 * (straight + part * (bend + part * twist))


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """Return the lengths (F, 16) of the bones that end at joints 1 to 16."""
    return np.linalg.norm(joints[:, 1:] - joints[:, H36M17.parents[1:]], axis=-1)


def with_lengths(joints: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return joints (F, 17, 3) with bones of the given lengths (F, 16); pelvis and directions stay."""
    scale = lengths / np.maximum(bone_lengths(joints), 1e-9)
    placed = joints.copy()
    for joint, parent in enumerate(H36M17.parents):  # parents come first
        if parent >= 0:
            placed[:, joint] = placed[:, parent] + scale[:, joint - 1, None] * (joints[:, joint] - joints[:, parent])
    return placed
