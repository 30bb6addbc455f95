"""People for tests: bodies that stand, wave and walk, filmed by a known camera, and whole results of them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from app.options import Options
from app.results import ModelInfo, Pose3D, PoseResult, Shot
from app.video.video_info import VideoInfo
from detectors.blazepose.types import PoseDetection
from detectors.people import People, Track
from lifter.skeletons import H36M17
from lifter.training.augmentation.batches import make_batch
from lifter.training.augmentation.config import CLEAN, AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.augmentation.simulated_detector import coco17_from_h36m17

# H36M-17 standing, meters, z up, facing -y (the left side is at +x).
STANDING = np.array(
    [[0, 0, 0.95], [-0.13, 0, 0.95], [-0.14, 0, 0.5], [-0.15, 0.02, 0.08], [0.13, 0, 0.95], [0.14, 0, 0.5],
     [0.15, 0.02, 0.08], [0, 0, 1.2], [0, 0, 1.45], [0, -0.08, 1.6], [0, -0.02, 1.72],
     [0.17, 0, 1.43], [0.22, 0, 1.15], [0.24, -0.05, 0.9], [-0.17, 0, 1.43], [-0.22, 0, 1.15], [-0.24, -0.05, 0.9]],
    np.float32,
)  # fmt: skip
# The same person as a level camera in front sees him: x right, y down, z away, from the pelvis.
FACING = (STANDING - STANDING[0])[:, [0, 2, 1]] * np.float32([1, -1, 1])
QUIET = replace(AugmentationConfig(), **CLEAN)
STILL = replace(QUIET, speed=(1.0, 1.0), p_splice=0.0, p_bend=0.0, p_tilt=0.0, bone_scale=0.0)

# COCO-17 standing, height 1 from nose to ankles, origin between the hips, y down.
COCO_STANDING = np.array(
    [[0, -0.50], [0.02, -0.52], [-0.02, -0.52], [0.04, -0.51], [-0.04, -0.51],
     [0.11, -0.38], [-0.11, -0.38], [0.14, -0.20], [-0.14, -0.20], [0.15, -0.03], [-0.15, -0.03],
     [0.07, 0.0], [-0.07, 0.0], [0.08, 0.25], [-0.08, 0.25], [0.08, 0.5], [-0.08, 0.5]]
)  # fmt: skip


def standing(x: float, y: float = 300, height: float = 200) -> np.ndarray:
    """Keypoints (17, 2) float32 px of somebody who stands, hips at (x, y)."""
    return (COCO_STANDING * height + (x, y)).astype(np.float32)


def walking(times_s, x: float = 100, speed: float = 0, height: float = 200, phase: float = 0) -> np.ndarray:
    """Keypoints (F, 17, 2) px at times (F,) of a walker from the side: ``speed`` px per second, a stride a second."""
    times = np.asarray(times_s, np.float64)
    poses = COCO_STANDING * height + np.stack([x + speed * times, np.full(len(times), 300.0)], axis=1)[:, None]
    swing = height * np.sin(2 * np.pi * (times + phase))
    for left, reach in ((15, 0.25), (13, 0.12), (9, -0.15), (7, -0.07)):  # legs and arms against each other
        poses[:, left, 0] += reach * swing
        poses[:, left + 1, 0] -= reach * swing
    return poses


def people_at(*poses: np.ndarray, scores=0.9, joint_score: float = 0.9) -> People:
    """What a detector gives for keypoints (17, 2) each: tight boxes, ``scores`` of the boxes, all joints alike."""
    if not poses:
        return People.nobody()
    keypoints = np.stack(poses).astype(np.float32)
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    box_scores = np.broadcast_to(np.float32(scores), len(poses)).copy()
    return People(boxes, box_scores, keypoints, np.full((len(poses), 17), joint_score, np.float32))


def body(x: float, y: float = 240, height: float = 160) -> PoseDetection:
    """Somebody who stands, as the landmark network gives them."""
    return PoseDetection(standing(x, y, height), np.full(17, 0.9, np.float32))


def waving(frames: int, phase: float = 0.0) -> np.ndarray:
    """Somebody who shifts weight and swings both arms, world meters (F, 17, 3)."""
    time = np.arange(frames, dtype=np.float32) / 50
    joints = np.repeat(STANDING[None], frames, axis=0).copy()
    for side, sign in (("left", 1), ("right", -1)):
        swing = 0.6 * np.sin(2 * np.pi * (0.9 * time + phase)) * sign
        shoulder = STANDING[H36M17.index(f"{side}_shoulder")]
        for part in ("elbow", "wrist"):
            arm = STANDING[H36M17.index(f"{side}_{part}")] - shoulder
            y = arm[1] * np.cos(swing) - arm[2] * np.sin(swing)
            z = arm[1] * np.sin(swing) + arm[2] * np.cos(swing)
            joints[:, H36M17.index(f"{side}_{part}"), 1] = shoulder[1] + y
            joints[:, H36M17.index(f"{side}_{part}"), 2] = shoulder[2] + z
    joints[..., 0] += 0.1 * np.sin(2 * np.pi * 0.4 * time)[:, None]
    return joints


def write_mocap(path, clips: dict[str, np.ndarray], fps: float = 50.0):
    joints = np.concatenate(list(clips.values()))
    root = joints[:, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        rel=(joints - root[:, None]).astype(np.float16),
        root=root.astype(np.float32),
        clip_start=np.cumsum([0, *(len(clip) for clip in clips.values())]),
        clip_name=np.array(list(clips)),
        fps=fps,
    )


def batch_of(library, recipe, count=4, frames=27, seed=0):
    return make_batch(library, count, frames, recipe, Rng(seed))


class Filmed(NamedTuple):
    """Somebody before a known camera, seen without error: what the app would know, and the truth."""

    track: Track
    pose: Pose3D  # without root
    video: VideoInfo
    root: np.ndarray
    up: np.ndarray
    fov_degrees: float


def film(
    world, *, pitch=10.0, roll=0.0, eye=(0.0, 1.5, 2.0), fov=50.0, size=(1280, 720), fps=30.0, person_id=0
) -> Filmed:
    """Film joints (T, 17, 3) in meters, y up, with a camera that looks to -z."""
    p, r = np.radians(pitch), np.radians(roll)
    pitched = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    rolled = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turn = rolled @ pitched @ np.diag([1.0, -1, -1])
    joints = (world - eye) @ turn.T
    coco = coco17_from_h36m17(torch.from_numpy(joints)).numpy()
    focal = max(size) / 2 / np.tan(np.radians(fov) / 2)
    keypoints = focal * coco[..., :2] / coco[..., 2:] + (np.array(size) - 1) / 2
    frames, seen = np.arange(len(world)), np.ones((len(world), 17), np.float32)
    track = Track(person_id, frames, keypoints.astype(np.float32), seen, seen[:, 0] > 0, seen[:, 0] > 0)
    pose = Pose3D(person_id, frames, (joints - joints[:, :1]).astype(np.float32), seen, "m")
    video = VideoInfo(Path("filmed.mp4"), *size, fps, len(world), 0, frames / fps)
    return Filmed(track, pose, video, joints[:, 0], turn @ [0, 1, 0], fov)


LATE, EARLY = 20, 10  # frames by which the second walker comes later and leaves earlier
FILLED = slice(10, 14)  # of everybody's own frames
GAP = slice(40, 60)  # of the second walker's own frames
PROVENANCE = {
    "app": {"name": "posemamba-wild", "version": "0"},
    "detector": {"detector": "fake"},
    "lifter": {
        "name": "posemamba-s", "weights": {"file": "w", "sha256": "0" * 64}, "unit": "m", "fps": 50.0, "window": 243,
        "scan_backend": "cpu", "device": "cpu",
    },
    "options": {},
    "environment": {},
}  # fmt: skip


def walkers(world, num_people=2, *, video=None, unit="m", is_camera_moving=False, **options) -> PoseResult:
    """Return a result, placed exactly, with up to two walkers (T, 17, 3) in meters, y up; the second has a gap."""
    count = len(world)
    video = video or film(world).video
    tracks, poses = [], []
    for person, rows in enumerate((slice(0, count), slice(LATE, count - EARLY))[:num_people]):
        seen = film(world + person * np.array([0.9, 0, -0.5]), person_id=person, size=(video.width, video.height))
        frames = seen.track.frames[rows]
        valid, observed = np.ones((2, len(frames)), bool)
        observed[FILLED] = False
        if person:
            valid[GAP] = observed[GAP] = False
        scores = np.linspace(0.6, 1, 17 * len(frames), dtype=np.float32).reshape(-1, 17)
        tracks.append(Track(person, frames, seen.track.keypoints[rows], scores, observed, valid))
        root = seen.root[rows].astype(np.float32) if unit == "m" else None
        poses.append(Pose3D(person, frames, seen.pose.joints[rows], scores, unit, root))
    up, up_from = (film(world).up, "bodies and feet") if num_people else (None, "nothing")
    shots = (Shot(0, count, is_camera_moving, up, up_from),)
    models = ModelInfo("posemamba-s", unit, 243, 50.0, "quality balanced")
    return PoseResult(video, tracks, poses, Options(fov_degrees=50.0, **options), models, shots, PROVENANCE)


def with_options(result: PoseResult, **options) -> PoseResult:
    """Return a result that was asked for with other options."""
    return replace(result, options=replace(result.options, **options))
