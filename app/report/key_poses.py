"""``key_frames``: the few frames that show best what happens in a clip, and their pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.render.overlay import Overlay
from app.results import PoseResult
from app.video.reader import VideoReader

COUNT = 6
COUNT_OF_MANY = 4  # where several people make the pictures wide
MARGIN = 0.15  # of the people's extent, around them


def key_frames(result: PoseResult) -> list[int]:
    """Return indices of frames with people in poses that differ most from each other, by time; fewer in a short clip.

    Poses are those of whoever is seen longest, relative to the pelvis. The first is the one nearest to the middle of
    all, every other one the farthest from those chosen before.
    """
    if not result.tracks:
        return []
    track, pose = max(result.people, key=lambda pair: int(pair[0].observed.sum()))
    usable = np.flatnonzero(track.observed & track.valid)
    if not len(usable):
        return []
    usable = usable[:: max(1, len(usable) // 600)]
    count = COUNT if len(result.tracks) == 1 else COUNT_OF_MANY
    shapes = np.nan_to_num(pose.joints[usable].astype(np.float64)).reshape(len(usable), -1)
    times = result.video.timestamps_s[track.frames[usable]]
    spread = max(float(np.linalg.norm(shapes.std(axis=0))), 1e-9)
    length = max(float(np.ptp(times)), 1e-9)
    features = np.concatenate([shapes / spread, 2 * times[:, None] / length], axis=1)  # also spread over time
    chosen = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    while len(chosen) < min(count, len(usable)):
        distance = np.linalg.norm(features[:, None] - features[chosen], axis=-1).min(axis=1)
        if distance.max() == 0:
            break
        chosen.append(int(distance.argmax()))
    return sorted(int(track.frames[usable[k]]) for k in chosen)


def key_pictures(result: PoseResult, frames: list[int]) -> list[np.ndarray]:
    """Return RGB pictures (H, W, 3) of frames, with skeletons, cut to where people are.

    Raises:
        ValueError: The video changed since it was analyzed.
    """
    plain = replace(result, options=replace(result.options, has_angles=False))  # they would be too small to read
    overlay, pictures, wanted = Overlay(plain), [], set(frames)
    for index, frame in enumerate(VideoReader(result.video.path, result.options) if frames else ()):
        if index in wanted:
            picture = frame.copy()
            overlay.draw_people(picture, index)
            pictures.append(picture)
        if index >= frames[-1]:
            break
    if len(pictures) != len(frames):
        raise ValueError(f"{result.video.path} has fewer frames than when it was analyzed; analyze it again")
    return _cut(result, frames, pictures)


def _cut(result: PoseResult, frames: list[int], pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Return the parts of pictures with people in them, of one size, as large as the largest needs."""
    if not pictures:
        return []
    size = np.array([result.video.width, result.video.height])
    extents = [_extent(result, frame) for frame in frames]
    largest = np.max([high - low for low, high in extents], axis=0)
    window = np.minimum(np.ceil(largest + 2 * MARGIN * largest.max()), size).astype(int)
    window[1] = min(max(window[1], window[0] // 2), size[1])
    corners = [np.clip((low + high) / 2 - window / 2, 0, size - window).astype(int) for low, high in extents]
    return [picture[y : y + window[1], x : x + window[0]] for picture, (x, y) in zip(pictures, corners, strict=True)]


def _extent(result: PoseResult, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest x and y [px] of everybody in a frame, within the picture."""
    size = np.array([result.video.width, result.video.height])
    points = [
        track.keypoints[frame - int(track.frames[0])]
        for track in result.tracks
        if track.frames[0] <= frame <= track.frames[-1] and track.valid[frame - int(track.frames[0])]
    ]
    inside = np.clip(np.concatenate(points).astype(np.float64), 0, size)
    return inside.min(axis=0), inside.max(axis=0)
