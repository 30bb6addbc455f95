"""``write_person_pictures``: one small picture of everybody who was found, cut out of the overlay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

SIDE_PX = 192
MARGIN = 0.15  # around the keypoints, of the larger side
MAX_PICTURES = 60  # of those who are seen longest: each costs a jump in the video


def write_person_pictures(document: dict[str, Any], overlay: Path, folder: Path) -> set[int]:
    """Write ``<id>.jpg`` (192 x 192 px) of people into ``folder``; return the ids of those who have one.

    Everybody is shown in the frame in which keypoints are surest, and large.

    Args:
        document: ``pose.json``.
        overlay: The overlay of the same result, with the picture at its left edge; nothing is done without one.
        folder: Made if it does not exist.
    """
    people = sorted(document["people"], key=lambda person: -sum(person["observed"]))[:MAX_PICTURES]
    if not people or not overlay.is_file():
        return set()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = sorted((_best_moment(person), person["id"]) for person in people)
    with av.open(str(overlay)) as container:
        times = _times(document["video"])
        for (frame, box), person_id in chosen:
            picture = _frame_at(container, times[frame])
            scale = picture.shape[0] / document["video"]["height"]
            picture = picture[:, : round(scale * document["video"]["width"])]
            rgb = _square(picture, scale * np.array(box))
            cv2.imwrite(str(folder / f"{person_id}.jpg"), rgb[..., ::-1])
    return {person_id for _, person_id in chosen}


def _best_moment(person: dict[str, Any]) -> tuple[int, tuple[float, ...]]:
    """Return the frame in which a person is seen best, and the keypoints' box x0, y0, x1, y1 in pixels there."""
    keypoints = np.array(person["keypoints_2d"])  # (T, 17, 3)
    low, high = keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1)
    worth = keypoints[..., 2].mean(axis=1) * (high - low).max(axis=1) * np.array(person["observed"])
    best = int(worth.argmax())
    return person["frames"][best], (*low[best].tolist(), *high[best].tolist())


def _times(video: dict[str, Any]) -> list[float]:
    return video.get("timestamps_s") or [frame / video["fps"] for frame in range(video["num_frames"])]


def _frame_at(container: av.container.InputContainer, time_s: float) -> np.ndarray:
    """Return the picture (H, W, 3) that is shown at a time."""
    stream = container.streams.video[0]
    assert stream.time_base is not None
    container.seek(int(time_s / stream.time_base), stream=stream)
    shown = None
    for frame in container.decode(stream):
        if shown is not None and frame.time is not None and frame.time > time_s + 1e-4:
            break
        shown = frame
    if shown is None:
        raise ValueError(f"the overlay shows nothing at {time_s:.3f} s")
    return shown.to_ndarray(format="rgb24")


def _square(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the square around a box, SIDE_PX wide; it may reach over the edge of the picture, which is black there."""
    center, half = (box[:2] + box[2:]) / 2, (0.5 + MARGIN) * max(float((box[2:] - box[:2]).max()), 8.0)
    scale = SIDE_PX / (2 * half)
    move = np.array([[scale, 0, scale * (half - center[0])], [0, scale, scale * (half - center[1])]])
    return np.asarray(cv2.warpAffine(picture, move, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA), np.uint8)
