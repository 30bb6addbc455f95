"""``Scene3D``: the 3D panel beside the picture; one camera, one scale and one floor for the whole clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from app.geometry.floor import ANKLE_HEIGHT
from app.geometry.floor_places import floor_places
from app.geometry.gravity import ANKLES
from app.geometry.world import body_height
from app.motion import Pose3D
from app.render.drawing import (
    FAR_PX,
    OUTLINE,
    SUBPIXEL,
    WHITE,
    Color,
    bones_of,
    draw_dot,
    draw_line,
    make_label,
    mix,
    opacity_of,
    person_color,
    running_mean,
    side_colors,
    stamp,
)
from app.render.scene_camera import SceneCamera
from app.render.scene_floor import GROUND, VIEW_TURN, draw_floor
from detectors.people import Track
from lifter.skeletons import H36M17

LIGHT_SLANT = (0.30, 0.22)  # how far a shadow falls right and back per unit of height
COLORS_3D = side_colors(H36M17)
BONES_3D = bones_of(H36M17.edges, COLORS_3D)
_HEAD = H36M17.index("head")


class Scene3D:
    """The 3D panel of one clip: camera, scale and floor are fitted once to all poses and stay.

    It shows poses large, not where people walk: each person gets a fixed place on the floor (people who are never
    there together may share one) and rests on the lowest joint. Unseen joints are not drawn.

    Args:
        tracks: Say which frames are valid; other frames are not drawn.
        poses: One per track, on the same frames, y down.
        height: Panel height in pixels.
        width: Panel width in pixels.
    """

    def __init__(self, tracks: Sequence[Track], poses: Sequence[Pose3D], height: int, width: int) -> None:
        self._shape = (height, width)
        self._people = list(zip(tracks, poses, strict=True))
        self._body = max((body_height(pose.joints, track.valid) for track, pose in self._people), default=1)
        places = np.array(floor_places(tracks, self._body) or [np.zeros(3)])
        stage = [
            np.where(pose.unseen[..., None], np.nan, _on_floor(pose, track.valid, self._body) + place)
            for (track, pose), place in zip(self._people, places, strict=False)
        ]
        self._has_floor = np.array([not pose.unseen[:, ANKLES].all() for pose in poses] or [True])
        seen = [points[track.valid].reshape(-1, 3) for points, track in zip(stage, tracks, strict=True)]
        camera = SceneCamera.fit(
            (height, width), self._body, places, self._has_floor, np.concatenate([*seen, np.zeros((0, 3))])
        )
        self._joints = [camera.project(points) for points in stage]  # (T, 17, 3): pixel x, pixel y, pixels per meter
        self._shadows = [camera.project(_shadow(points)) for points in stage]
        self._rings = [camera.project(_ring(place, 0.24 * self._body)) for place in places]
        self._background = draw_floor(camera, self._body, float(np.ptp(places, axis=0).max()))
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
            label = make_label("no person", self._text_px, (150, 160, 180), None)
            stamp(canvas, label, self._shape[1] / 2, self._shape[0] / 2)
            return canvas
        for person, _ in present:
            if not self._has_floor[person]:
                continue
            color = mix(GROUND, person_color(self._people[person][0].person_id), 0.55)
            ring = np.rint(self._rings[person][:, :2] * (1 << SUBPIXEL)).astype(np.int32)
            thickness = max(1, round(0.006 * self._body * self._rings[person][0, 2]))
            cv2.polylines(canvas, [ring], True, color, thickness, cv2.LINE_AA, SUBPIXEL)
        self._draw_shadows(canvas, present)
        self._draw_bodies(canvas, present)
        for person, _ in present:
            person_id = self._people[person][0].person_id
            front = self._rings[person][:, 1].max()
            label = make_label(f"person {person_id}", self._text_px, OUTLINE, person_color(person_id))
            stamp(
                canvas,
                label,
                float(self._rings[person][:, 0].mean()),
                min(float(front), self._shape[0] - 2.2 * self._text_px) + 1.1 * self._text_px,
            )
        return canvas

    def _draw_shadows(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        shrink = 4
        mask = np.zeros([side // shrink + 1 for side in self._shape], np.uint8)
        for person, t in present:
            if not self._has_floor[person]:
                continue
            points, shown = self._shadows[person][t], self._is_drawable(self._shadows[person][t])
            for a, b, _ in BONES_3D:
                if shown[a] and shown[b]:
                    width = 0.06 * self._body * points[a, 2] / shrink
                    draw_line(mask, points[a, :2] / shrink, points[b, :2] / shrink, (130, 130, 130), width)
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
        # (nearness, from, to, width, color); a joint is a part without end.
        parts: list[tuple[float, np.ndarray, np.ndarray | None, float, Color]] = []
        for person, t in present:
            points, scores = self._joints[person][t], self._people[person][1].scores[t]
            shown, opacity = self._is_drawable(points), opacity_of(scores)
            width = 0.03 * self._body * points[:, 2]
            nearness = [-math.inf] * len(points)
            for a, b, color in BONES_3D:
                if not (shown[a] and shown[b]):
                    continue
                near = float(points[a, 2] + points[b, 2]) / 2
                nearness[a], nearness[b] = max(nearness[a], near), max(nearness[b], near)
                tint = mix(GROUND, color, min(opacity[a], opacity[b]))
                parts.append((near, points[a], points[b], float(width[a] + width[b]) / 2, tint))
            for j, color in enumerate(COLORS_3D):
                if shown[j]:  # over all bones that meet here, else their ends cut it
                    tint = mix(GROUND, mix(color, WHITE, 0.25), opacity[j])
                    size = float(width[j]) * (1.45 if j == _HEAD else 0.74)
                    parts.append((nearness[j], points[j], None, size, tint))
        for _, start, end, width_px, color in sorted(parts, key=lambda part: part[0]):
            rim = max(1.0, 0.16 * width_px)
            if end is None:
                draw_dot(canvas, start, OUTLINE, width_px + rim)
                draw_dot(canvas, start, color, width_px)
            else:
                draw_line(canvas, start, end, OUTLINE, width_px + 2 * rim)
                draw_line(canvas, start, end, color, width_px)

    def _is_drawable(self, points: np.ndarray) -> np.ndarray:
        """Return (17,) bool: finite and not so far outside the panel that OpenCV's integers would overflow."""
        return np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX / 10).all(axis=1)


def _on_floor(pose: Pose3D, valid: np.ndarray, body: float) -> np.ndarray:
    """Return joints (T, 17, 3) turned to the virtual view, lowest one on the floor y = 0, feet around x = z = 0."""
    joints = np.where(np.isfinite(pose.joints), pose.joints, np.nan).astype(np.float64)
    x, y, z = np.moveaxis(joints, -1, 0)
    cos, sin = math.cos(VIEW_TURN), math.sin(VIEW_TURN)
    lowest = np.nan_to_num(np.where(np.isfinite(y), y, -np.inf).max(axis=1), neginf=0.0)
    if valid.any():  # invalid frames must not pull on their neighbors
        lowest = np.interp(np.arange(len(y)), np.flatnonzero(valid), lowest[valid])
    y = y - running_mean(lowest)[:, None] - ANKLE_HEIGHT * body
    turned = np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)
    feet = turned[valid][:, ANKLES].mean(axis=1)
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
