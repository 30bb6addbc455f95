"""``convert``: files out of an existing pose.json; no network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.export import write_formats
from app.export.character.fbx import blender_command, write_fbx
from app.geometry.feet import lock_feet
from app.geometry.smoothing import low_pass
from app.motion import Pose3D, contiguous_segments, join_segments
from app.options import APPLICABLE, FBX, FORMATS, Options
from app.person_selection import select_people
from app.pose_reader import read_result
from app.results import PoseResult
from detectors.people import Track
from lifter.skeletons import with_rigid_bones


@dataclass(frozen=True)
class Target:
    """Where files go.

    Attributes:
        folder: Made if it does not exist; what else is in it stays.
        formats: Of ``FORMATS``, or "fbx".
        blender: Program or Python that fbx is written with; None for what is found.
    """

    folder: Path
    formats: Sequence[str]
    blender: Path | None = None


def convert(source: Path, target: Target, options: Options) -> dict[str, Path]:
    """Write files from a pose.json; return their paths by kind, as ``app.export.export`` does.

    Args:
        source: A pose.json, or a folder with one.
        target: Where files go, and which.
        options: Those in ``APPLICABLE`` are applied; smoothing and constant bones come on top of what the file has.

    Raises:
        FileNotFoundError: There is no pose.json.
        ValueError: It is damaged or of another version, nobody is in it, or it would be overwritten.
        RuntimeError: fbx was asked for and Blender is missing, or failed.
    """
    source = source / "pose.json" if source.is_dir() else source
    if unknown := [name for name in target.formats if name not in (*FORMATS, FBX)]:
        raise ValueError(f"unknown format {unknown[0]!r}; choose from {', '.join((*FORMATS, FBX))}")
    if "json" in target.formats and (target.folder / "pose.json").resolve() == source.resolve():
        raise ValueError(f"{source} would be overwritten by what is made of it; give another folder with --out")
    if FBX in target.formats:
        blender_command(target.blender)  # before anything is written
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a pose.json or a folder with one")
    result = read_result(source)
    if not result.tracks:
        raise ValueError(f"nobody is in {source}; there is nothing to convert")
    result = edit(result, options)
    target.folder.mkdir(parents=True, exist_ok=True)
    written = write_formats(result, target.folder, [name for name in target.formats if name != FBX])
    if FBX in target.formats:
        written[FBX] = target.folder / "pose.fbx"
        write_fbx(result, written[FBX], target.blender)
    return written


def edit(result: PoseResult, options: Options) -> PoseResult:
    """Return a result under those of ``options`` that are ``APPLICABLE``."""
    chosen = {track.person_id for track in select_people(result.tracks, options.people)}
    kept = [index for index, track in enumerate(result.tracks) if track.person_id in chosen]
    tracks = [result.tracks[index] for index in kept]
    poses = [_edited(result, result.tracks[index], result.poses[index], options) for index in kept]
    applied = {name: getattr(options, name) for name in APPLICABLE}
    recorded = dict(result.provenance.get("options", {}))
    made_with = {
        **result.provenance,
        "options": recorded | {k: v for k, v in applied.items() if v or k not in recorded},
    }
    is_moved = options.lock_feet or options.has_rigid_bones or options.smooth_hz is not None
    kept_options = replace(result.options, **applied)
    changed = replace(result, tracks=tracks, poses=poses, options=kept_options, provenance=made_with)
    if options.lock_feet:
        changed = lock_feet(changed)
    quality = tuple(result.quality[index] for index in kept)
    if is_moved:  # a file does not tell which joints had changed sides
        again = zip(changed.quality, quality, strict=True)
        quality = tuple(replace(new, sides_repaired=old.sides_repaired) for new, old in again)
    else:
        vars(changed)["floors"] = tuple(result.floors[index] for index in kept)
    vars(changed).update(video_sha256=result.video_sha256, quality=quality)
    return changed


def _edited(result: PoseResult, track: Track, pose: Pose3D, options: Options) -> Pose3D:
    joints, root, cutoff_hz = pose.joints, pose.root, options.smooth_hz
    if cutoff_hz is not None:
        segments = contiguous_segments(track, result.video)
        times = [result.video.timestamps_s[track.frames[segment]] for segment in segments]

        def smooth(values: np.ndarray) -> np.ndarray:
            parts = [low_pass(values[s], t, cutoff_hz) for s, t in zip(segments, times, strict=True)]
            return join_segments(np.concatenate(parts), segments, len(values)).astype(np.float32)

        joints, root = smooth(joints), None if root is None else smooth(root)
    if options.has_rigid_bones or options.lock_feet:
        joints = with_rigid_bones(joints)
    return replace(pose, joints=joints, root=root)
