"""The whole data flow, top to bottom: video -> frames -> people -> tracks -> COCO-17 -> H36M-17 -> windows -> 3D."""

from __future__ import annotations

import functools
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lifter as lifters
from app import __version__
from app.geometry.feet import lock_feet
from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.geometry.smoothing import low_pass
from app.geometry.unseen_joints import unseen_joints
from app.motion import ModelInfo, Pose3D, Shot, contiguous_segments, join_segments
from app.options import Options
from app.person_selection import check_heights, select_people
from app.progress import Clock, Progress, silent
from app.quality.sideways import sideways_hint
from app.results import PoseResult
from app.video.reader import VideoReader
from app.video.video_info import VideoInfo
from detectors import Choice, Detector, choose_detector, load_chosen
from detectors.people import People, Track
from detectors.prefetch import prefetch
from detectors.tracking.build_tracks import build_tracks
from detectors.tracking.frame_observer import FrameObserver
from lifter.lift import Sequence2D, lift
from lifter.load import Lifter
from lifter.skeletons import NOMINAL_HEIGHT_M, coco17_to_h36m17, with_rigid_bones


def estimate(path: Path | str, options: Options = Options(), progress: Progress = silent) -> PoseResult:
    """Return the 3D motion of everybody in a video.

    A clip without people gives a result without people. Frames are streamed; only keypoints are kept.

    Args:
        path: Any video file.
        options: Settings.
        progress: Wraps the iterables of the stages "2D" and "3D"; raise from it to cancel.

    Raises:
        FileNotFoundError: No such video, or weights are missing.
        ValueError: Not a video, no frame of it decodes, or a person was asked for who is not in it.
        RuntimeError: A package, device or backend that was asked for is not there.
    """
    reader = VideoReader(path, options)
    summary = describe_models(options)
    lifter, detector = cached_models(options)
    clock = Clock()
    _, found, footage = watch_people(reader, detector, options, progress)
    info = reader.info
    check_heights(found, options.height)
    tracks = select_people(found, options.people)
    clock.lap("2D")
    if hint := sideways_hint(tracks):
        info = replace(info, warnings=(*info.warnings, hint))
    poses = lift_tracks(lifter, tracks, info, options, progress)
    poses = [estimate_root_trajectory(track, pose, info, options) for track, pose in zip(tracks, poses, strict=True)]
    shots = find_shots(footage, tracks, poses, info)
    clock.lap("3D")
    models = ModelInfo(lifter.name, lifter.unit, lifter.window, lifter.fps, summary)
    made_with = provenance(options, detector, lifter)
    result = PoseResult(info, tracks, poses, options, models, shots, made_with, clock.seconds, num_found=len(found))
    return lock_feet(result) if options.lock_feet else result


def cached_models(options: Options) -> tuple[Lifter, Detector]:
    """Return the networks that ``options`` name, loaded."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    return lifter, detector_of(options, str(lifter.device))


def detector_of(options: Options, device: str) -> Detector:
    """Return the detector that ``options`` name, loaded."""
    return cached_detector(choice_of(options), device, options.detection_interval)


def choice_of(options: Options) -> Choice:
    """Return the detector and the weights that ``options`` mean, given the weights that are here."""
    return choose_detector(options.detector, options.detector_weights, options.quality)


def describe_models(options: Options) -> str:
    """Return in one line which networks ``options.quality`` means, given the weights that are here."""
    flip = "flip averaging" if options.use_flip else "no flip averaging"
    return f"quality {options.quality}: {choice_of(options).about}; {flip}"


@functools.lru_cache(maxsize=2)
def cached_lifter(name_or_path: str, device: str, backend: str) -> Lifter:
    """Return a loaded lifter, the same one for every clip of a batch."""
    return lifters.load_lifter(name_or_path, device, backend)


@functools.lru_cache(maxsize=1)
def cached_detector(choice: Choice, device: str, detection_interval: int = 1) -> Detector:
    """Return a loaded detector, the same one for every clip of a batch."""
    return load_chosen(choice, device, detection_interval)


def watch_people(
    reader: VideoReader, detector: Detector, options: Options, progress: Progress = silent
) -> tuple[list[People], list[Track], FrameObserver]:
    """Read a video to its end; return what the detector sees in every frame, everybody's track, and the footage.

    Detector and tracking see what lies inside burnt-in borders; the answers are in pixels of the whole picture.
    """
    footage = FrameObserver()
    inner = (reader.bars.crop(frame) for frame in reader)
    frames = footage.watch(progress(prefetch(inner), "2D", reader.approx_num_frames))
    people = list(footage.note(detector(frames)))
    tracks = track_people(people, footage, reader.info, options)
    if not any(reader.bars):
        return people, tracks, footage
    origin = reader.bars.origin
    people = [replace(p, boxes=p.boxes + np.tile(origin, 2), keypoints=p.keypoints + origin) for p in people]
    return people, [replace(track, keypoints=track.keypoints + origin) for track in tracks], footage


def track_people(people: list[People], footage: FrameObserver, info: VideoInfo, options: Options) -> list[Track]:
    """Return everybody's track inside burnt-in borders; seconds are counted in the video's usual frames.

    Unless the options keep everybody, a person is somebody who was seen twice: at a few frames per second, a single
    sight can be a mistake.
    """
    least = max(round(options.min_track_s * info.median_fps), 2 if options.min_track_s else 1)
    return build_tracks(
        people,
        max_gap_frames=round(options.max_gap_s * info.median_fps),
        min_track_frames=min(least, info.num_frames),
        fps=info.median_fps,
        cuts=footage.cuts,
        appearance=footage.appearance,
        picture=info.inner_size,
    )


def lift_tracks(
    lifter: Lifter, tracks: list[Track], info: VideoInfo, options: Options, progress: Progress = silent
) -> list[Pose3D]:
    """Return one pose per track, on the track's frames.

    Every contiguous segment of a track is lifted by itself; between two of them joints move in a straight line, so that
    all frames carry numbers, and ``Track.valid`` says which to trust.
    """
    segments = [contiguous_segments(track, info) for track in tracks]
    sequences = [
        Sequence2D(
            track.keypoints[run] - info.bars.origin,
            info.timestamps_s[track.frames[run]],
            *info.inner_size,
            track.scores[run],
        )
        for track, runs in zip(tracks, segments, strict=True)
        for run in runs
    ]
    lifted = lift(
        lifter,
        sequences,
        fov_degrees=options.fov_degrees,
        use_flip=options.use_flip,
        progress=lambda batches, total: progress(batches, "3D", total),
    )
    if options.smooth_hz is not None:
        lifted = [low_pass(x, s.timestamps_s, options.smooth_hz) for x, s in zip(lifted, sequences, strict=True)]
    remaining = iter(lifted)
    poses = []
    for track, runs in zip(tracks, segments, strict=True):
        joints = np.concatenate([next(remaining) for _ in runs])
        if options.has_rigid_bones or options.lock_feet:
            joints = with_rigid_bones(joints)
        height = options.height_of(track.person_id) if lifter.unit == "m" else None
        scale = (height or NOMINAL_HEIGHT_M) / NOMINAL_HEIGHT_M
        joints = (scale * join_segments(joints, runs, len(track.frames))).astype(np.float32)
        scores = coco17_to_h36m17(track.scores[..., None])[..., 0]
        unseen = unseen_joints(track, info)
        poses.append(Pose3D(track.person_id, track.frames, joints, scores, lifter.unit, unseen=unseen))
    return poses


def find_shots(footage: FrameObserver, tracks: list[Track], poses: list[Pose3D], info: VideoInfo) -> tuple[Shot, ...]:
    """Return what lies between the cuts, with what is known of the camera."""
    starts = sorted({0, *(cut for cut in footage.cuts if 0 < cut < info.num_frames)})
    shots = []
    for start, stop in zip(starts, [*starts[1:], info.num_frames], strict=True):
        people = [i for i, track in enumerate(tracks) if start <= track.frames[0] < stop]
        shot = Shot(start, stop, footage.cameras[start].is_moving)
        shots.append(estimate_gravity(shot, [tracks[i] for i in people], [poses[i] for i in people], info))
    return tuple(shots)


def shareable(options: Options) -> dict[str, Any]:
    """Return options ready for JSON, with the names of weights files alone: where they lie is nobody's business."""
    weights = [Path(weights).name for weights in options.detector_weights]
    return {**asdict(options), "detector_weights": weights, "lifter": Path(options.lifter).name}


def provenance(options: Options, detector: Detector, lifter: Lifter) -> dict[str, Any]:
    """Return everything needed to make the same numbers again, ready for JSON."""
    return {
        "app": {"name": "posemamba-wild", "version": __version__},
        "detector": dict(detector.provenance),
        "lifter": lifter.provenance,
        "options": shareable(options),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
        },
    }
