"""``write_preview``: the liveliest seconds of the overlay as a small moving picture that can be sent to anybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from app.motion import contiguous_segments
from app.render.overlay import Overlay
from app.results import PoseResult
from app.video.reader import VideoReader
from app.video.writer import write_video

LONGEST_S = 8.0
LARGEST_BYTES = 8_000_000
WIDTH = 960  # pixels, at most
HEIGHTS = {"gif": 360, "webp": 480, "mp4": 480}  # pixels, at most
RATES = {"gif": 10.0, "webp": 15.0, "mp4": 30.0}  # frames per second, at most; GIF counts in hundredths of a second
SHRINKS = (1.0, 0.8, 0.6, 0.45, 0.3)  # of the size, until the file is small enough
WEBP_QUALITY = 70
NUM_TRIED = 6  # pictures that tell how large the file will be


def write_preview(result: PoseResult, path: Path, kind: str) -> None:
    """Write the preview of a result, at most 8 s and 8 MB; it loops.

    Args:
        result: Of ``app.pipeline.estimate``; style and shape are those of its options.
        path: File to write.
        kind: "gif", "webp" or "mp4".

    Raises:
        ValueError: The video changed since it was analyzed.
    """
    frames = _chosen_frames(result, RATES[kind])
    pictures = _draw(result, frames, HEIGHTS[kind])
    times = result.video.timestamps_s[frames]
    if kind == "mp4":
        height, width = pictures[0].shape[:2]
        info = replace(result.video, width=width, height=height, fps=_rate(times, result), num_frames=len(frames),
                       timestamps_s=times - times[0], has_constant_rate=False)  # fmt: skip
        write_video(path, pictures, info)
        return
    tried = np.unique(np.linspace(0, len(frames) - 1, NUM_TRIED).astype(int))
    for shrink in SHRINKS:
        sample = _encoded([_scaled(pictures[i], shrink) for i in tried], kind, times[tried], result)
        if len(sample) / len(tried) * len(frames) > 1.25 * LARGEST_BYTES and shrink != SHRINKS[-1]:
            continue  # more changes between these than between neighbors
        content = _encoded([_scaled(picture, shrink) for picture in pictures], kind, times, result)
        if len(content) <= LARGEST_BYTES:
            break
    path.write_bytes(content)


def liveliest(result: PoseResult, seconds: float) -> slice:
    """Return the frames of the stretch, at most so long, in which people move most; all if the video is shorter.

    How lively a frame is, is the sum over people of the mean speed of their joints, in the world where it is known.
    """
    times, activity = result.video.timestamps_s, np.zeros(result.video.num_frames)
    for index, (track, pose) in enumerate(result.people):
        joints = pose.joints if pose.root is None else result.world_joints(index, up="y")
        for run in contiguous_segments(track, result.video):
            if run.stop - run.start > 1:
                at = times[track.frames[run]]
                speed = np.linalg.norm(np.gradient(joints[run].astype(np.float64), at, axis=0), axis=-1).mean(axis=-1)
                activity[track.frames[run]] += np.nan_to_num(speed) * np.gradient(at)
    total = np.concatenate([[0], np.cumsum(activity)])
    stops = np.searchsorted(times, times + seconds, side="left")
    start = int(np.argmax(total[stops] - total[:-1]))
    latest = int(np.searchsorted(times, times[-1] - seconds, side="right"))
    start = min(start, max(0, latest - 1) if stops[start] == len(times) else start)  # as long as can be
    return slice(start, int(stops[start]))


def _chosen_frames(result: PoseResult, rate: float) -> np.ndarray:
    """Return indices of frames, ``rate`` a second or fewer."""
    part = liveliest(result, LONGEST_S)
    times = result.video.timestamps_s[part]
    ticks = np.floor((times - times[0]) * rate + 1e-6)
    return part.start + np.flatnonzero(np.diff(ticks, prepend=-1) > 0)


def _draw(result: PoseResult, frames: np.ndarray, height: int) -> list[np.ndarray]:
    overlay, pictures, wanted = Overlay(result), [], set(frames.tolist())
    for index, frame in enumerate(VideoReader(result.video.path, result.options)):
        if index in wanted:
            picture = overlay.draw(frame, index)
            pictures.append(_scaled(picture, min(1.0, height / picture.shape[0], WIDTH / picture.shape[1])))
        if index >= frames[-1]:
            break
    if len(pictures) != len(frames):
        raise ValueError(f"{result.video.path} has fewer frames than when it was analyzed; analyze it again")
    return pictures


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return picture
    height, width = (max(2, 2 * round(scale * side / 2)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _rate(times: np.ndarray, result: PoseResult) -> float:
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else result.video.fps


def _encoded(pictures: list[np.ndarray], kind: str, times: np.ndarray, result: PoseResult) -> bytes:
    import imageio.v3 as iio

    step_ms = 10 if kind == "gif" else 1
    ends = np.append(times, times[-1] + 1 / _rate(times, result)) - times[0]
    milliseconds = np.maximum(step_ms, step_ms * np.diff(np.rint(1000 * ends / step_ms))).astype(int).tolist()
    duration = milliseconds if len(pictures) > 1 else milliseconds[0]
    about = {"quality": WEBP_QUALITY, "method": 2} if kind == "webp" else {"optimize": False}
    encoded: bytes = iio.imwrite(
        "<bytes>", np.stack(pictures), extension=f".{kind}", plugin="pillow", duration=duration, loop=0, **about
    )
    return encoded
