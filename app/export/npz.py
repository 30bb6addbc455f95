"""``pose.npz``: the same numbers as pose.json in full precision, read with ``numpy.load`` and no pickle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from app.export.json import camera, coordinates, models
from app.pose_schema import SCHEMA
from app.results import PoseResult
from lifter.skeletons import COCO17, H36M17


def write_npz(result: PoseResult, path: Path) -> None:
    """Write arrays of all people over the whole clip (F frames, P people).

    ``keypoints_2d`` (F, P, 17, 3) float32 x, y, score in px; ``joints_3d`` (F, P, 17, 3) float32; ``joints_score`` (F,
    P, 17) float32; ``root`` (F, P, 3) float32, NaN without meters; ``present``, ``observed``, ``valid`` (F, P) bool;
    ``repaired`` and ``unseen`` (F, P, 17) bool; ``person_ids`` (P,) int64; ``camera_height`` (P,) float64, NaN without
    a floor; ``timestamps_s`` (F,) float64; ``fps``; ``start_s``, ``slow_motion`` float64: time t is at ``start_s +
    slow_motion * t`` of the clip; ``coco17_names``, ``h36m17_names``, ``h36m17_parents``; ``meta``, a JSON string with
    schema, coordinates, camera, models and provenance as in pose.json. Where a person is not present, numbers are NaN.
    """
    frames, people = result.video.num_frames, len(result.tracks)
    arrays = {
        "keypoints_2d": np.full((frames, people, 17, 3), np.nan, np.float32),
        "joints_3d": np.full((frames, people, 17, 3), np.nan, np.float32),
        "joints_score": np.full((frames, people, 17), np.nan, np.float32),
        "root": np.full((frames, people, 3), np.nan, np.float32),
        **{name: np.zeros((frames, people), bool) for name in ("present", "observed", "valid")},
        **{name: np.zeros((frames, people, 17), bool) for name in ("repaired", "unseen")},
    }
    for p, (track, pose) in enumerate(result.people):
        rows = track.frames
        arrays["keypoints_2d"][rows, p, :, :2] = track.keypoints
        arrays["keypoints_2d"][rows, p, :, 2] = track.scores
        arrays["joints_3d"][rows, p] = pose.joints
        arrays["joints_score"][rows, p] = pose.scores
        if pose.root is not None:
            arrays["root"][rows, p] = pose.root
        arrays["present"][rows, p] = True
        arrays["observed"][rows, p] = track.observed
        arrays["valid"][rows, p] = track.valid
        arrays["repaired"][rows, p] = track.repaired
        arrays["unseen"][rows, p] = pose.unseen
    meta = {
        "schema": SCHEMA,
        "coordinates": coordinates(result),
        "camera": camera(result),
        "models": models(result),
        "provenance": result.provenance,
    }
    heights = [result.camera_height(p) for p in range(people)]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            **arrays,
            person_ids=np.array([track.person_id for track in result.tracks], np.int64),
            camera_height=np.array([np.nan if height is None else height for height in heights], np.float64),
            timestamps_s=result.video.timestamps_s,
            fps=np.float64(result.video.fps),
            start_s=np.float64(result.video.start_s),
            slow_motion=np.float64(result.video.slow_motion),
            coco17_names=np.array(COCO17.names),
            h36m17_names=np.array(H36M17.names),
            h36m17_parents=np.array(H36M17.parents),
            meta=np.array(json.dumps(meta)),
        )
