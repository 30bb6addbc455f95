"""Drawing: ``overlay_2d`` over a picture, ``Scene3D`` beside it, ``render_frames`` for both; frame in, frame out.

Blue is the person's left, orange the right, white the middle. What is uncertain is fainter, what was filled in is
dashed. The 3D panel has one camera, one scale and one floor for the whole clip, so nothing pulses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np

from app.results import Pose3D, PoseResult, VideoInfo
from detectors.people import Track
from lifter.skeletons import COCO17, H36M17, Skeleton

Color = tuple[int, int, int]  # RGB

LEFT: Color = (56, 190, 255)
RIGHT: Color = (255, 146, 43)
MIDDLE: Color = (238, 240, 245)
WHITE: Color = (255, 255, 255)
OUTLINE: Color = (14, 16, 22)
PERSON_COLORS: tuple[Color, ...] = (
    (178, 152, 255), (126, 226, 150), (250, 218, 94), (255, 138, 188), (120, 214, 214), (214, 190, 160),
)  # fmt: skip
SKY: Color = (17, 20, 29)
GROUND: Color = (44, 51, 68)
GRID: Color = (134, 154, 190)

FULL_SCORE = 0.5  # detectors call a point found from about here on: drawn solid
FAINTEST = 0.15
FILLED_IN_OPACITY = 0.6
NUM_LEVELS = 5  # steps of opacity; each step in use costs one blend
FAR_PX = 1e5  # points beyond are a failure of a model, not a place
SUBPIXEL = 4  # fractional bits of OpenCV's coordinates

PANEL_ASPECT = 0.75
MIN_PANEL_WIDTH = 240
VIEW_TURN = math.radians(24)
VIEW_DROP = math.radians(13)
LIGHT_SLANT = (0.30, 0.22)  # how far a shadow falls right and back per unit of height
FEET_BELOW_ANKLES = 0.045  # of body height
SMOOTHING_FRAMES = 9


def _side_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    left, right = ({pair[side] for pair in skeleton.left_right} for side in (0, 1))
    return tuple(LEFT if j in left else RIGHT if j in right else MIDDLE for j in range(len(skeleton.names)))


def _bones(edges: Iterable[tuple[int, int]], colors: Sequence[Color]) -> tuple[tuple[int, int, Color], ...]:
    """Return (joint, joint, colour); a bone has its side's colour unless it joins the two sides."""
    bones = []
    for a, b in edges:
        sides = {colors[a], colors[b]} - {MIDDLE}
        bones.append((a, b, sides.pop() if len(sides) == 1 else MIDDLE))
    return tuple(bones)


# Drawn in 2D: COCO-17 and a neck between the shoulders, which carries the head instead of two lines to the nose.
NECK = 17
_NOSE = COCO17.index("nose")
_SHOULDERS = (COCO17.index("left_shoulder"), COCO17.index("right_shoulder"))
COLORS_2D = (*_side_colors(COCO17), MIDDLE)
BONES_2D = _bones(
    [edge for edge in COCO17.edges if edge not in [(_NOSE, s) for s in _SHOULDERS]] + [(NECK, _NOSE)], COLORS_2D
)
FACE_2D = frozenset(COCO17.index(name) for name in ("left_eye", "right_eye", "left_ear", "right_ear"))
COLORS_3D = _side_colors(H36M17)
BONES_3D = _bones(H36M17.edges, COLORS_3D)
_HEAD = H36M17.index("head")
_ANKLES = (H36M17.index("left_ankle"), H36M17.index("right_ankle"))


def overlay_2d(
    frame: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, observed: bool, *, size_px: float | None = None
) -> np.ndarray:
    """Return a copy of an RGB picture with one COCO-17 skeleton drawn over it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        keypoints: (17, 2) pixels; points that are not finite or absurdly far are left out.
        scores: (17,) in [0, 1]; lower is fainter.
        observed: False draws dashed and fainter: the frame was filled in.
        size_px: Diagonal of the person that sets the line width; None measures it in this frame.
    """
    canvas = frame.copy()
    _draw_person(canvas, keypoints, scores, bool(observed), size_px)
    return canvas


def _draw_person(
    canvas: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, is_observed: bool, size_px: float | None
) -> None:
    points = np.vstack([keypoints, keypoints[_SHOULDERS, :].mean(axis=0)]).astype(np.float64)  # (18, 2) with the neck
    opacity = _opacity(np.append(scores, scores[_SHOULDERS,].min()))
    usable = np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX).all(axis=1)
    if not usable.any():
        return
    picture = math.sqrt(canvas.shape[0] * canvas.shape[1])
    size = _diagonal(points[usable]) if size_px is None else size_px
    width = min(max(0.0105 * size, 0.0018 * picture, 1.0), 0.009 * picture + 1)
    levels = np.ceil(opacity * (1.0 if is_observed else FILLED_IN_OPACITY) * NUM_LEVELS).astype(int)
    bone_levels = [min(levels[a], levels[b]) if usable[a] and usable[b] else 0 for a, b, _ in BONES_2D]
    joint_levels = [levels[j] if usable[j] and j != NECK else 0 for j in range(NECK)]
    for level in sorted({*bone_levels, *joint_levels} - {0}):  # solid lines lie over faint ones
        strokes = _Strokes(width, is_dashed=not is_observed)
        for (a, b, color), bone_level in zip(BONES_2D, bone_levels, strict=True):
            if bone_level == level:
                strokes.bone(points[a], points[b], color, 0.6 if {a, b} & FACE_2D else 1.0, canvas.shape)
        for j, joint_level in enumerate(joint_levels):
            if joint_level == level:
                strokes.joint(points[j], COLORS_2D[j], 0.7 if j in FACE_2D else 1.2)
        strokes.draw(canvas, level / NUM_LEVELS)


class _Strokes:
    """Lines and dots of one opacity; all their dark outlines lie below all their colours."""

    def __init__(self, width: float, is_dashed: bool) -> None:
        self._width = width
        self._rim = max(1.0, 0.3 * width)
        self._is_dashed = is_dashed
        self._lines: list[tuple[np.ndarray, np.ndarray, Color, float]] = []
        self._dots: list[tuple[np.ndarray, float, Color]] = []

    def bone(self, a: np.ndarray, b: np.ndarray, color: Color, factor: float, shape: tuple[int, ...]) -> None:
        clipped = _clip_segment(a, b, 4 * self._width + 8, shape)
        if clipped is None:
            return
        a, b = clipped
        if not self._is_dashed:
            self._lines.append((a, b, color, factor * self._width))
            return
        num_dashes = max(1, round(float(np.hypot(*(b - a))) / (6 * self._width)))
        for k in range(num_dashes):
            start, stop = (k + 0.18) / num_dashes, (k + 0.72) / num_dashes
            self._lines.append((a + start * (b - a), a + stop * (b - a), color, factor * self._width))

    def joint(self, point: np.ndarray, color: Color, factor: float) -> None:
        self._dots.append((point, factor * self._width, color))

    def draw(self, canvas: np.ndarray, alpha: float) -> None:
        reach = 3 * self._width + 4
        ends = [p for a, b, _, _ in self._lines for p in (a, b)] + [p for p, _, _ in self._dots]
        if not ends:
            return
        x0, y0 = np.maximum(np.min(ends, axis=0) - reach, 0).astype(int)
        x1, y1 = np.minimum(np.max(ends, axis=0) + reach, canvas.shape[1::-1]).astype(int)
        if x0 >= x1 or y0 >= y1:
            return
        region = canvas[y0:y1, x0:x1]
        layer = region if alpha == 1 else region.copy()
        corner = np.array((x0, y0))
        for extra, is_rim in ((self._rim, True), (0.0, False)):
            for a, b, color, width in self._lines:
                _line(layer, a - corner, b - corner, OUTLINE if is_rim else color, width + 2 * extra)
            for p, radius, color in self._dots:
                _dot(layer, p - corner, OUTLINE if is_rim else _mix(color, WHITE, 0.3), radius + extra)
        if layer is not region:
            cv2.addWeighted(layer, alpha, region, 1 - alpha, 0, dst=region)


class Scene3D:
    """The 3D panel of one clip: camera, scale and floor are fitted once to all poses and stay.

    Poses say nothing about where a person stands: each person gets a fixed place on the floor (people who are never
    there together may share one) and rests on the lowest joint. The video camera is taken to be level: y is down.

    Args:
        tracks: Say which frames are valid; other frames are not drawn.
        poses: One per track, on the same frames.
        height: Panel height in pixels.
        width: Panel width in pixels.
    """

    def __init__(self, tracks: Sequence[Track], poses: Sequence[Pose3D], height: int, width: int) -> None:
        self._shape = (height, width)
        self._body = max(
            (_body_height(pose, track.valid) for track, pose in zip(tracks, poses, strict=True)), default=1
        )
        self._people = list(zip(tracks, poses, strict=True))
        places = _floor_places(tracks, self._body)
        self._places = np.array(places or [np.zeros(3)])
        stage = [
            _on_floor(pose, track.valid, self._body) + place
            for (track, pose), place in zip(self._people, places, strict=True)
        ]
        self._fit_camera(stage, [track.valid for track in tracks])
        self._joints = [self._project(points) for points in stage]  # (T, 17, 3): pixel x, pixel y, pixels per metre
        self._shadows = [self._project(_shadow(points)) for points in stage]
        self._rings = [self._project(_ring(place, 0.24 * self._body)) for place in places]
        self._background = self._draw_background()
        self._text_px = max(9.0, 0.024 * min(height, 1.4 * width))

    def draw(self, frame: int) -> np.ndarray:
        """Return the (height, width, 3) uint8 RGB panel of video frame ``frame``."""
        canvas = self._background.copy()
        present = [
            (person, frame - int(track.frames[0]))
            for person, (track, _) in enumerate(self._people)
            if track.frames[0] <= frame <= track.frames[-1] and track.valid[frame - track.frames[0]]
        ]
        if not present:
            label = _label("no person", self._text_px, (150, 160, 180), None)
            _stamp(canvas, label, self._shape[1] / 2, self._shape[0] / 2)
            return canvas
        for person, _ in present:
            color = _mix(GROUND, _person_color(self._people[person][0].person_id), 0.55)
            ring = np.rint(self._rings[person][:, :2] * (1 << SUBPIXEL)).astype(np.int32)
            thickness = max(1, round(0.006 * self._body * self._rings[person][0, 2]))
            cv2.polylines(canvas, [ring], True, color, thickness, cv2.LINE_AA, SUBPIXEL)
        self._draw_shadows(canvas, present)
        self._draw_bodies(canvas, present)
        for person, _ in present:
            person_id = self._people[person][0].person_id
            front = self._rings[person][:, 1].max()
            label = _label(f"person {person_id}", self._text_px, OUTLINE, _person_color(person_id))
            _stamp(canvas, label, float(self._rings[person][:, 0].mean()), float(front + 1.1 * self._text_px))
        return canvas

    def _camera_axes(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 3) of the stage in axes of the virtual camera: right, down, away."""
        x, y, z = np.moveaxis(points - self._centre, -1, 0)
        cos, sin = math.cos(VIEW_DROP), math.sin(VIEW_DROP)
        return np.stack([x, cos * y - sin * z, self._distance + sin * y + cos * z], axis=-1)

    def _project(self, points: np.ndarray) -> np.ndarray:
        """Return (..., 3): x and y in pixels, and pixels per unit of length at that depth."""
        x, y, z = np.moveaxis(self._camera_axes(points), -1, 0)
        scale = self._focal / np.maximum(z, 0.05 * self._distance)
        return np.stack([scale * x + self._principal[0], scale * y + self._principal[1], scale], axis=-1)

    def _fit_camera(self, stage: list[np.ndarray], valid: list[np.ndarray]) -> None:
        height, width = self._shape
        lowest, highest = self._places.min(axis=0), self._places.max(axis=0)
        self._centre = (lowest + highest) / 2 - (0, 0.5 * self._body, 0)
        self._distance = 4.2 * self._body + float(highest[2] - lowest[2])
        self._focal, self._principal = 1.0, (0.0, 0.0)
        outline = self._body * np.array([[-0.28, 0, 0], [0.28, 0, 0], [0, -1, 0]])  # at least a standing person fits
        standing = self._project((self._places[:, None] + outline).reshape(-1, 3))
        bodies = [points[is_valid].reshape(-1, 3) for points, is_valid in zip(stage, valid, strict=True)]
        seen = self._project(np.concatenate([*bodies, np.zeros((1, 3))]))
        # Percentiles: one wild frame must not make everybody small.
        low, high = np.nanpercentile(seen, (0.2, 99.8), axis=0, method="nearest")
        u0, v0, _ = np.minimum(low, standing.min(axis=0))
        u1, v1, _ = np.maximum(high, standing.max(axis=0))
        self._focal = min(0.88 * width / max(u1 - u0, 1e-9), 0.76 * height / max(v1 - v0, 1e-9))
        self._principal = (width / 2 - self._focal * (u0 + u1) / 2, 0.48 * height - self._focal * (v0 + v1) / 2)

    def _draw_background(self) -> np.ndarray:
        """Return the empty stage: for each pixel the point of the floor it sees, shaded by grid and distance."""
        height, width = self._shape
        column, row = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        ray_x, ray_y = (column - self._principal[0]) / self._focal, (row - self._principal[1]) / self._focal
        cos, sin = math.cos(VIEW_DROP), math.sin(VIEW_DROP)
        drop = cos * ray_y + sin  # of the ray, in stage axes
        camera = self._centre - self._distance * np.array([0, sin, cos])
        reach = np.where(drop > 1e-3, -camera[1] / np.maximum(drop, 1e-3), np.inf)
        with np.errstate(invalid="ignore"):
            x, z = camera[0] + reach * ray_x, camera[2] + reach * (cos - sin * ray_y)
        sees_floor = np.isfinite(reach) & (drop > 0.02)
        x, z = np.where(sees_floor, x, 0), np.where(sees_floor, z, 0)
        far = np.hypot(x - self._centre[0], z - self._centre[2]) / (
            self._body * 1.5 + np.ptp(self._places, axis=0).max()
        )
        light = np.where(sees_floor, np.exp(-(far**2)), 0)
        cell = 0.3 * self._body  # about half a metre
        cos, sin = math.cos(VIEW_TURN), math.sin(VIEW_TURN)
        lines = np.zeros(self._shape)
        for coordinate in ((cos * x - sin * z) / cell, (sin * x + cos * z) / cell):
            cells_per_px = np.hypot(*np.gradient(coordinate)) + 1e-9
            to_line_px = np.abs(coordinate - np.rint(coordinate)) / cells_per_px
            # Where cells shrink towards 4 px their lines would run together, so they fade out.
            lines = np.maximum(
                lines, np.clip(max(1.1, height / 600) - to_line_px, 0, 1) * np.clip(1.5 - 4 * cells_per_px, 0, 1)
            )
        fall = np.linspace(0, 1, height)[:, None, None] ** 1.5
        sky = np.array(SKY) * (1 - 0.35 * fall) + np.array(GROUND) * 0.35 * fall
        floor = sky + light[..., None] * (np.array(GROUND) - sky) * 0.85
        shaded = floor + (0.42 * light * lines)[..., None] * (np.array(GRID) - floor)
        noise = np.random.default_rng(0).uniform(-0.7, 0.7, (*self._shape, 1))  # keeps the gradient free of bands
        return np.clip(np.rint(shaded + noise), 0, 255).astype(np.uint8)

    def _draw_shadows(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        shrink = 4
        mask = np.zeros([side // shrink + 1 for side in self._shape], np.uint8)
        for person, t in present:
            points, shown = self._shadows[person][t], self._is_drawable(self._shadows[person][t])
            for a, b, _ in BONES_3D:
                if shown[a] and shown[b]:
                    width = 0.06 * self._body * points[a, 2] / shrink
                    _line(mask, points[a, :2] / shrink, points[b, :2] / shrink, (130, 130, 130), width)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return
        sigma = 0.018 * self._body * float(self._rings[present[0][0]][0, 2]) / shrink + 0.6
        pad = math.ceil(3 * sigma)
        top, left = max(0, rows[0] - pad), max(0, columns[0] - pad)
        soft = cv2.GaussianBlur(mask[top : rows[-1] + pad, left : columns[-1] + pad], (0, 0), sigma)
        soft = cv2.resize(soft, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR)
        region = canvas[top * shrink : top * shrink + soft.shape[0], left * shrink : left * shrink + soft.shape[1]]
        light = 255 - soft[: region.shape[0], : region.shape[1]]
        cv2.multiply(region, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), dst=region, scale=1 / 255)

    def _draw_bodies(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        # (nearness, from, to, width, colour); a joint is a part without end.
        parts: list[tuple[float, np.ndarray, np.ndarray | None, float, Color]] = []
        for person, t in present:
            points, scores = self._joints[person][t], self._people[person][1].scores[t]
            shown, opacity = self._is_drawable(points), _opacity(scores)
            width = 0.03 * self._body * points[:, 2]
            nearness = [-math.inf] * len(points)
            for a, b, color in BONES_3D:
                if not (shown[a] and shown[b]):
                    continue
                near = float(points[a, 2] + points[b, 2]) / 2
                nearness[a], nearness[b] = max(nearness[a], near), max(nearness[b], near)
                tint = _mix(GROUND, color, min(opacity[a], opacity[b]))
                parts.append((near, points[a], points[b], float(width[a] + width[b]) / 2, tint))
            for j, color in enumerate(COLORS_3D):
                if shown[j]:  # over all bones that meet here, else their ends cut it
                    tint = _mix(GROUND, _mix(color, WHITE, 0.25), opacity[j])
                    size = float(width[j]) * (1.45 if j == _HEAD else 0.74)
                    parts.append((nearness[j], points[j], None, size, tint))
        for _, start, end, width_px, color in sorted(parts, key=lambda part: part[0]):
            rim = max(1.0, 0.16 * width_px)
            if end is None:
                _dot(canvas, start, OUTLINE, width_px + rim)
                _dot(canvas, start, color, width_px)
            else:
                _line(canvas, start, end, OUTLINE, width_px + 2 * rim)
                _line(canvas, start, end, color, width_px)

    def _is_drawable(self, points: np.ndarray) -> np.ndarray:
        """Return (17,) bool: finite and not so far outside the panel that OpenCV's integers would overflow."""
        return np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX / 10).all(axis=1)


def output_size(info: VideoInfo, result: PoseResult) -> tuple[int, int]:
    """Return (height, width) of what ``render_frames`` yields: even with a panel, the video's own without people."""
    if not result.tracks:
        return info.height, info.width
    height = info.height + info.height % 2
    width = info.width + _panel_width(height, info.width)
    return height, width + width % 2


def render_frames(frames: Iterable[np.ndarray], result: PoseResult) -> Iterator[np.ndarray]:
    """Yield each RGB frame with all 2D skeletons drawn in and the 3D panel to its right; lazily, one by one.

    With nobody in the whole clip the frames pass unchanged. Otherwise all pictures have ``output_size``; an odd height
    grows by repeating the last row.

    Raises:
        ValueError: A frame has not the size of ``result.video``.
    """
    if not result.tracks:
        yield from frames
        return
    info = result.video
    height, width = output_size(info, result)
    scene = Scene3D(result.tracks, result.poses, height, width - info.width)
    sizes = [_steady_size(track) for track in result.tracks]
    tag_px = max(9.0, 0.024 * min(info.height, 1.4 * info.width))
    for index, frame in enumerate(frames):
        if frame.shape != (info.height, info.width, 3):
            raise ValueError(f"frame {index} has shape {frame.shape}, expected {(info.height, info.width, 3)}")
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[: info.height, : info.width] = frame
        picture = canvas[: info.height, : info.width]
        for track, size in zip(result.tracks, sizes, strict=True):
            t = index - int(track.frames[0])
            if 0 <= t < len(track.frames) and track.valid[t]:
                _draw_person(picture, track.keypoints[t], track.scores[t], bool(track.observed[t]), float(size[t]))
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
    color = _person_color(track.person_id)
    top = points[points[:, 1].argmin()]
    x = min(max(float(points[:5, 0].mean()), text_px), picture.shape[1] - text_px)
    y = min(max(float(top[1]) - 2.6 * text_px, text_px), picture.shape[0] - text_px)
    _stamp(picture, _label(str(track.person_id), text_px, OUTLINE, color), x, y)


def _person_color(person_id: int) -> Color:
    return PERSON_COLORS[person_id % len(PERSON_COLORS)]


def _opacity(scores: np.ndarray) -> np.ndarray:
    """Return FAINTEST..1, solid from FULL_SCORE on; a score that is no number is faintest."""
    return np.clip(np.nan_to_num(scores) / FULL_SCORE, FAINTEST, 1)


def _diagonal(points: np.ndarray) -> float:
    return float(np.hypot(*np.ptp(points, axis=0)))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean of (T,) values over SMOOTHING_FRAMES, edges repeated."""
    half = SMOOTHING_FRAMES // 2
    return np.convolve(np.pad(values, half, mode="edge"), np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), "valid")


def _steady_size(track: Track) -> np.ndarray:
    """Return (T,) diagonals of the person in pixels, smoothed so that line widths do not flicker."""
    return _smooth(np.hypot(*np.moveaxis(np.ptp(track.keypoints.astype(np.float64), axis=1), -1, 0)))


def _body_height(pose: Pose3D, valid: np.ndarray) -> float:
    """Return the typical length of leg, trunk and head together, the same sitting or standing; 1 if there is none."""
    joints = np.where(np.isfinite(pose.joints), pose.joints, np.nan)[valid].astype(np.float64)
    lengths = np.linalg.norm(np.diff(joints[:, [(parent, child) for parent, child in H36M17.edges]], axis=2), axis=-1)
    length = dict(
        zip((H36M17.names[child] for _, child in H36M17.edges), np.moveaxis(lengths[..., 0], -1, 0), strict=True)
    )
    legs = sum(length[f"{side}_{part}"] for side in ("left", "right") for part in ("knee", "ankle")) / 2
    total = legs + sum(length[name] for name in ("spine", "thorax", "nose", "head"))
    total = total[np.isfinite(total)]
    typical = float(np.median(total)) if len(total) else 0.0
    return typical if typical > 1e-6 else 1.0


def _on_floor(pose: Pose3D, valid: np.ndarray, body: float) -> np.ndarray:
    """Return joints (T, 17, 3) turned to the virtual view, lowest one on the floor y = 0, feet around x = z = 0."""
    joints = np.where(np.isfinite(pose.joints), pose.joints, np.nan).astype(np.float64)
    x, y, z = np.moveaxis(joints, -1, 0)
    cos, sin = math.cos(VIEW_TURN), math.sin(VIEW_TURN)
    lowest = np.nan_to_num(np.where(np.isfinite(y), y, -np.inf).max(axis=1), neginf=0.0)
    if valid.any():  # invalid frames must not pull on their neighbours
        lowest = np.interp(np.arange(len(y)), np.flatnonzero(valid), lowest[valid])
    y = y - _smooth(lowest)[:, None] - FEET_BELOW_ANKLES * body
    turned = np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)
    feet = turned[valid][:, _ANKLES].mean(axis=1)
    feet = feet[np.isfinite(feet).all(axis=1)]
    if len(feet):
        turned -= np.median(feet, axis=0) * (1, 0, 1)  # one shift per clip, as a tilted camera sees a leaning person
    return turned


def _shadow(points: np.ndarray) -> np.ndarray:
    """Return points (..., 3) thrown on the floor by a light high on the left."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x - LIGHT_SLANT[0] * y, np.zeros_like(y), z - LIGHT_SLANT[1] * y], axis=-1)


def _ring(place: np.ndarray, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return place + radius * np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=-1)


def _floor_places(tracks: Sequence[Track], body: float) -> list[np.ndarray]:
    """Return where each person stands: rows of up to three, left to right as in the picture.

    Tracks that do not overlap in time share a place, so that a long clip with many passers-by stays legible.
    """
    slots: list[list[int]] = []
    for index in sorted(range(len(tracks)), key=lambda i: tracks[i].frames[0]):
        free = next((s for s in slots if tracks[s[-1]].frames[-1] < tracks[index].frames[0]), None)
        if free is None:
            slots.append([index])
        else:
            free.append(index)
    slots.sort(key=lambda slot: float(np.median([np.median(tracks[i].keypoints[..., 0]) for i in slot])))
    num_rows = max(1, math.ceil(len(slots) / 3))
    places = [np.zeros(3)] * len(tracks)
    for number, slot in enumerate(slots):
        column, row = divmod(number, num_rows)
        place = body * np.array([0.78 * (column + 0.5 * (row % 2)), 0, 0.9 * row])
        for index in slot:
            places[index] = place
    return places


def _clip_segment(
    a: np.ndarray, b: np.ndarray, margin: float, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the part of a segment inside the picture grown by ``margin``, None if there is none (Liang-Barsky)."""
    low, high = (-margin, -margin), (shape[1] + margin, shape[0] + margin)
    if all(low[i] <= p[i] <= high[i] for p in (a, b) for i in (0, 1)):
        return a, b
    step = b - a
    start, stop = 0.0, 1.0
    for axis in (0, 1):
        if step[axis] == 0:
            if not low[axis] <= a[axis] <= high[axis]:
                return None
            continue
        enter, leave = sorted(((low[axis] - a[axis]) / step[axis], (high[axis] - a[axis]) / step[axis]))
        start, stop = max(start, enter), min(stop, leave)
    return (a + start * step, a + stop * step) if start <= stop else None


def _line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, color: Color, width: float) -> None:
    one = 1 << SUBPIXEL
    start, end = (
        (round(float(a[0]) * one), round(float(a[1]) * one)),
        (round(float(b[0]) * one), round(float(b[1]) * one)),
    )
    cv2.line(canvas, start, end, color, max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def _dot(canvas: np.ndarray, centre: np.ndarray, color: Color, radius: float) -> None:
    one = 1 << SUBPIXEL
    point = (round(float(centre[0]) * one), round(float(centre[1]) * one))
    cv2.circle(canvas, point, max(one, round(radius * one)), color, -1, cv2.LINE_AA, SUBPIXEL)


@lru_cache(maxsize=4096)
def _mix(a: Color, b: Color, share: float) -> Color:
    """Return ``a`` at share 0, ``b`` at share 1."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


@lru_cache(maxsize=256)
def _label(text: str, height_px: float, color: Color, pill: Color | None) -> np.ndarray:
    """Return (h, w, 4) uint8 RGBA text of cap height ``height_px`` times 0.7, on a rounded pill if it has a colour.

    Drawn four times too large and shrunk: OpenCV's stroke font looks like a real one that way.
    """
    zoom, font = 4, cv2.FONT_HERSHEY_DUPLEX
    cap = 0.7 * height_px * zoom
    scale = cv2.getFontScaleFromHeight(font, round(cap), 1)
    weight = max(1, round(0.13 * cap))
    (width, tall), _ = cv2.getTextSize(text, font, scale, weight)
    pad_x, pad_y = round(0.75 * cap), round(0.55 * cap)
    shape = (tall + 2 * pad_y, width + 2 * pad_x)
    letters, plate = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.putText(letters, text, (pad_x, pad_y + tall), font, scale, (255,), weight, cv2.LINE_AA)
    radius = shape[0] // 2
    cv2.line(plate, (radius, radius), (shape[1] - radius - 1, radius), (255,), 2 * radius - 1, cv2.LINE_AA)
    size = (max(1, shape[1] // zoom), max(1, shape[0] // zoom))
    ink, plate_ink = (cv2.resize(m, size, interpolation=cv2.INTER_AREA)[..., None] / 255 for m in (letters, plate))
    under = np.array(color if pill is None else pill)
    rgb = under + ink * (np.array(color) - under)
    alpha = 255 * (ink if pill is None else np.maximum(0.92 * plate_ink, ink))
    return np.rint(np.concatenate([rgb, alpha], axis=-1)).astype(np.uint8)


def _stamp(canvas: np.ndarray, label: np.ndarray, x: float, y: float) -> None:
    """Blend an RGBA label centred on (x, y) into the canvas, cut at its borders."""
    height, width = label.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return
    piece = label[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    region = canvas[y0:y1, x0:x1]
    alpha = piece[..., 3:] / 255
    region[...] = np.rint(region + alpha * (piece[..., :3] - region)).astype(np.uint8)
