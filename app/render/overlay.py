"""``render_frames``: everybody's 2D skeleton over the picture and the 3D panel beside it; frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from app.biomechanics.joint_angles import joint_angles
from app.geometry.unseen_joints import unseen_keypoints
from app.render.drawing import OUTLINE, WHITE, make_label, person_color, running_mean, stamp
from app.render.layout import layout_of
from app.render.scene3d import QUIET, Scene3D
from app.render.scene_floor import SKY
from app.render.skeleton_2d import draw_skeleton
from app.results import PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter.skeletons import COCO17

LEAST_TEXT = 0.65  # of the usual size; smaller people have no angles written, for nobody could read them
WRITTEN = (
    ("knee_flexion", "knee"),
    ("hip_flexion", "hip"),
    ("elbow_flexion", "elbow"),
    ("shoulder_elevation", "shoulder"),
)  # fmt: skip - angle, and the keypoint it is written at


def output_size(info: VideoInfo, result: PoseResult) -> tuple[int, int]:
    """Return (height, width) of what ``render_frames`` yields: even with people, the video's own without."""
    if not result.tracks:
        return info.height, info.width
    layout = layout_of(info.width, info.height, result.options)
    return layout.height, layout.width


def render_frames(frames: Iterable[np.ndarray], result: PoseResult) -> Iterator[np.ndarray]:
    """Yield each RGB frame with all 2D skeletons drawn in and the 3D panel beside it; lazily, one by one.

    Style and shape are those of the result's options. The panel is level by the estimated tilt of the camera unless the
    options take the camera to be level. With nobody in the whole clip the frames pass unchanged. Otherwise all pictures
    have ``output_size``; an odd height grows by repeating the last row. Unseen joints are not drawn.

    Args:
        frames: Pictures in the size of ``result.video``.
        result: What is drawn.

    Raises:
        ValueError: A frame has not the size of ``result.video``.
    """
    overlay = Overlay(result)
    for index, frame in enumerate(frames):
        yield overlay.draw(frame, index)


class Overlay:
    """Draws pictures of an overlay, in any order; panels and sizes of lines stay the same.

    Args:
        result: What is drawn; style and shape are those of its options.
    """

    def __init__(self, result: PoseResult) -> None:
        self._result = result
        self._layout = layout_of(result.video.width, result.video.height, result.options)
        self._keypoints = [
            np.where(unseen_keypoints(pose)[..., None], np.nan, track.keypoints) for track, pose in result.people
        ]
        self._sizes = [_steady_size(track) for track in result.tracks]
        self._angles = [joint_angles(result, i) if result.options.has_angles else {} for i in range(len(result.tracks))]
        shot_of = [result.shots.index(result.shot_of(track)) for track in result.tracks]
        self._people_of_shot = [[i for i, own in enumerate(shot_of) if own == k] for k in range(len(result.shots))]
        self._scenes: dict[int, Scene3D] = {}
        self._text_px = max(9.0, 0.024 * min(result.video.height, 1.4 * result.video.width))

    def draw(self, frame: np.ndarray, index: int) -> np.ndarray:
        """Return the (H, W, 3) uint8 RGB picture of the video's frame ``index``; the frame itself if nobody is shown.

        Raises:
            ValueError: The frame has not the size of the video.
        """
        if not self._result.tracks:
            return frame
        info, layout = self._result.video, self._layout
        if frame.shape != (info.height, info.width, 3):
            raise ValueError(f"frame {index} has shape {frame.shape}, expected {(info.height, info.width, 3)}")
        canvas = np.empty((layout.height, layout.width, 3), np.uint8)
        canvas[:] = SKY
        if layout.picture is not None:
            box = layout.picture
            picture = canvas[box.top : box.top + box.height, box.left : box.left + box.width]
            picture[:] = frame
            self.draw_people(picture, index)
            if box.height + 1 == layout.height:
                canvas[-1:, box.left : box.left + box.width] = picture[-1:]
        if layout.panel is not None:
            box = layout.panel
            panel = self._scene(index).draw(index)
            self._draw_time(panel, index)
            canvas[box.top : box.top + box.height, box.left : box.left + box.width] = panel
        return canvas

    def _scene(self, index: int) -> Scene3D:
        """Return the panel of the shot that a frame is in; only one is held."""
        shots, panel = self._result.shots, self._layout.panel
        assert panel is not None
        shot = max(k for k, each in enumerate(shots) if each.start <= index or k == 0)
        if shot not in self._scenes:
            self._scenes = {shot: Scene3D(self._result, self._people_of_shot[shot], panel.height, panel.width)}
        return self._scenes[shot]

    def draw_people(self, picture: np.ndarray, index: int) -> None:
        """Draw everybody's 2D skeleton in frame ``index`` into a picture of the video, in place."""
        tracks = self._result.tracks
        shown = [(p, index - int(track.frames[0])) for p, track in enumerate(tracks)]
        shown = [(p, t) for p, t in shown if 0 <= t < len(tracks[p].frames) and tracks[p].valid[t]]
        for person, t in shown:
            track = tracks[person]
            is_observed, size_px = bool(track.observed[t]), float(self._sizes[person][t])
            draw_skeleton(
                picture, self._keypoints[person][t], track.scores[t], is_observed=is_observed, size_px=size_px
            )
        for person, t in shown:
            if self._angles[person]:
                self._write_angles(picture, person, t)
            if len(tracks) > 1:
                _draw_tag(picture, tracks[person], t, self._text_px)

    def _write_angles(self, picture: np.ndarray, person: int, t: int) -> None:
        """Write degrees beside the joints, outside of the body; none where there is no number."""
        points = self._result.tracks[person].keypoints[t]
        text_px = min(round(0.042 * float(np.median(self._sizes[person]))), 1.2 * self._text_px)  # steady
        if text_px < LEAST_TEXT * self._text_px:
            return
        middle = float(points[5:13, 0].mean())
        for angle, part in WRITTEN:
            for side in ("left", "right"):
                value = self._angles[person][f"{side}_{angle}"][t]
                if not np.isfinite(value):
                    continue
                label = make_label(f"{value:.0f}°", text_px, WHITE, OUTLINE)
                x, y = points[COCO17.index(f"{side}_{part}")]
                away = (0.6 * text_px + label.shape[1] / 2) * (1 if x >= middle else -1)
                stamp(picture, label, float(x) + away, float(y))

    def _draw_time(self, panel: np.ndarray, index: int) -> None:
        seconds = float(self._result.video.timestamps_s[index])
        text = f"{int(seconds // 60)}:{seconds % 60:04.1f}"
        label = make_label(text, self._text_px, QUIET, None)
        stamp(panel, label, panel.shape[1] - label.shape[1] / 2 - 0.3 * self._text_px, 1.2 * self._text_px)


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
