"""``pose.coco.json``: the 2D keypoints in the format of COCO keypoint annotations.

An image per frame of the video ("clip/000012.jpg", with ``frame`` and ``time_s``), an annotation per person in it, with
``track_id``. Pixels of the upright picture; the center of the first pixel is (0, 0). Visibility: 2 where the detector
saw the joint, 1 where it was unsure or the joint was filled in or repaired. ``keypoint_scores`` has the scores. People
have no annotation in frames where they are not ``valid``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from app.results import PoseResult
from detectors.people import Track
from lifter.skeletons import COCO17

SURE = 0.3  # a score from which on a joint counts as seen


def write_coco(result: PoseResult, path: Path) -> None:
    """Write all people of ``result``."""
    video = result.video
    stem = video.path.stem.encode("utf-8", "backslashreplace").decode()
    found = [annotation for track in result.tracks for annotation in annotations_of(track)]
    document = {
        "info": {"description": f"{stem}, 2D keypoints by posemamba-wild", "provenance": result.provenance},
        "licenses": [],
        "images": [
            {
                "id": frame,
                "file_name": f"{stem}/{frame:06d}.jpg",
                "width": video.width,
                "height": video.height,
                "frame": frame,
                "time_s": round(float(time), 6),
            }
            for frame, time in enumerate(video.timestamps_s)
        ],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO17.names),
                "skeleton": [[a + 1, b + 1] for a, b in COCO17.edges],
            }
        ],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(found, start=1)],
    }
    path.write_text(json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def annotations_of(track: Track) -> list[dict[str, Any]]:
    """Return an annotation for every valid frame of a track, without ``id``."""
    is_seen = track.observed[:, None] & ~track.repaired & (track.scores >= SURE)
    found = []
    for t in np.flatnonzero(track.valid):
        points = track.keypoints[t].astype(np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        width, height = high - low
        flags = np.where(is_seen[t], 2, 1).tolist()
        triples = zip(np.round(points, 2).tolist(), flags, strict=True)
        found.append(
            {
                "image_id": int(track.frames[t]),
                "category_id": 1,
                "track_id": track.person_id,
                "keypoints": [value for point, flag in triples for value in (*point, flag)],
                "keypoint_scores": np.round(track.scores[t].astype(np.float64), 3).tolist(),
                "num_keypoints": len(points),
                "score": round(float(track.scores[t].mean()), 3),
                "bbox": np.round([*low, width, height], 2).tolist(),
                "area": round(float(width * height), 2),
                "iscrowd": 0,
            }
        )
    return found
