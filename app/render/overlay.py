"""``render_frames``: everybody's 2D skeleton over the picture and the 3D panel beside it; frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from app.geometry.unseen_joints import unseen_keypoints
from app.geometry.world import seen_level
from app.render.drawing import OUTLINE, make_label, person_color, running_mean, stamp
from app.render.scene3d import Scene3D
from app.render.skeleton_2d import draw_skeleton
from app.results import PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track

PANEL_ASPECT = 0.75
MIN_PANEL_WIDTH = 240


def output_size(info: VideoInfo, result: PoseResult) -> tuple[int, int]:
    """Return (height, width) of what ``render_frames`` yields: even with a panel, the video's own without people."""
    if not result.tracks:
        return info.height, info.width
    height = info.height + info.height % 2
    width = info.width + _panel_width(height, info.width)
    return height, width + width % 2


def render_frames(frames: Iterable[np.ndarray], result: PoseResult) -> Iterator[np.ndarray]:
    """Yield each RGB frame with all 2D skeletons drawn in and the 3D panel to its right; lazily, one by one.

    The panel is turned by the estimated tilt of the camera unless the result's options take the camera to be level.

    With nobody in the whole clip the frames pass unchanged. Otherwise all pictures have ``output_size``; an odd height
    grows by repeating the last row. Unseen joints are not drawn.

    Raises:
        ValueError: A frame has not the size of ``result.video``.
    """
    if not result.tracks:
        yield from frames
        return
    info = result.video
    height, width = output_size(info, result)
    poses = [seen_level(pose, result.world_rotation(result.shot_of(track))) for track, pose in result.people]
    scene = Scene3D(result.tracks, poses, height, width - info.width)
    sizes = [_steady_size(track) for track in result.tracks]
    shown = [np.where(unseen_keypoints(pose)[..., None], np.nan, track.keypoints) for track, pose in result.people]
    tag_px = max(9.0, 0.024 * min(info.height, 1.4 * info.width))
    for index, frame in enumerate(frames):
        if frame.shape != (info.height, info.width, 3):
            raise ValueError(f"frame {index} has shape {frame.shape}, expected {(info.height, info.width, 3)}")
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[: info.height, : info.width] = frame
        picture = canvas[: info.height, : info.width]
        for track, size, keypoints in zip(result.tracks, sizes, shown, strict=True):
            t = index - int(track.frames[0])
            if 0 <= t < len(track.frames) and track.valid[t]:
                is_observed, size_px = bool(track.observed[t]), float(size[t])
                draw_skeleton(picture, keypoints[t], track.scores[t], is_observed=is_observed, size_px=size_px)
                if len(result.tracks) > 1:
                    _draw_tag(picture, track, t, tag_px)
        canvas[info.height :, : info.width] = picture[-1:]
        canvas[:, info.width :] = scene.draw(index)
        yield canvas


def _panel_width(height: int, picture_width: int) -> int:
    """Return about 3/4 of the height, but no giant beside a narrow picture."""
    return max(MIN_PANEL_WIDTH, round(min(PANEL_ASPECT * height, 1.25 * picture_width)))


def _draw_tag(picture: np.ndarray, track: Track, t: int, text_px: float) -> None:
    points = track.keypoints[t]
    color = person_color(track.person_id)
    top = points[points[:, 1].argmin()]
    x = min(max(float(points[:5, 0].mean()), text_px), picture.shape[1] - text_px)
    y = min(max(float(top[1]) - 2.6 * text_px, text_px), picture.shape[0] - text_px)
    stamp(picture, make_label(str(track.person_id), text_px, OUTLINE, color), x, y)


def _steady_size(track: Track) -> np.ndarray:
    """Return (T,) diagonals of the person in pixels, smoothed so that line widths do not flicker."""
    return running_mean(np.hypot(*np.moveaxis(np.ptp(track.keypoints.astype(np.float64), axis=1), -1, 0)))
