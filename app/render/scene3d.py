"""``Scene3D``: the 3D panel beside the picture; one camera, one scale and one floor for the whole clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from app.geometry.gravity import ANKLES
from app.geometry.world import ANKLE_HEIGHT, body_height
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
from app.results import Pose3D
from detectors.people import Track
from lifter.skeletons import H36M17

SKY: Color = (17, 20, 29)
GROUND: Color = (44, 51, 68)
GRID: Color = (134, 154, 190)
BAND_ROWS = 128  # of the background drawn at once
VIEW_TURN = math.radians(24)
VIEW_DROP = math.radians(13)
LIGHT_SLANT = (0.30, 0.22)  # how far a shadow falls right and back per unit of height
COLORS_3D = side_colors(H36M17)
BONES_3D = bones_of(H36M17.edges, COLORS_3D)
_HEAD = H36M17.index("head")


class Scene3D:
    """The 3D panel of one clip: camera, scale and floor are fitted once to all poses and stay.

    It shows poses large, not where people walk: each person gets a fixed place on the floor (people who are never
    there together may share one) and rests on the lowest joint.

    Args:
        tracks: Say which frames are valid; other frames are not drawn.
        poses: One per track, on the same frames, y down.
        height: Panel height in pixels.
        width: Panel width in pixels.
    """

    def __init__(self, tracks: Sequence[Track], poses: Sequence[Pose3D], height: int, width: int) -> None:
        self._shape = (height, width)
        self._body = max(
            (body_height(pose.joints, track.valid) for track, pose in zip(tracks, poses, strict=True)), default=1
        )
        self._people = list(zip(tracks, poses, strict=True))
        places = floor_places(tracks, self._body)
        self._places = np.array(places or [np.zeros(3)])
        stage = [
            _on_floor(pose, track.valid, self._body) + place
            for (track, pose), place in zip(self._people, places, strict=True)
        ]
        self._fit_camera(stage, [track.valid for track in tracks])
        self._joints = [self._project(points) for points in stage]  # (T, 17, 3): pixel x, pixel y, pixels per meter
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
            label = make_label("no person", self._text_px, (150, 160, 180), None)
            stamp(canvas, label, self._shape[1] / 2, self._shape[0] / 2)
            return canvas
        for person, _ in present:
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
            stamp(canvas, label, float(self._rings[person][:, 0].mean()), float(front + 1.1 * self._text_px))
        return canvas

    def _camera_axes(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 3) of the stage in axes of the virtual camera: right, down, away."""
        x, y, z = np.moveaxis(points - self._center, -1, 0)
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
        self._center = (lowest + highest) / 2 - (0, 0.5 * self._body, 0)
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
        """Return the empty stage, drawn in bands: each pixel needs 200 bytes meanwhile."""
        height = self._shape[0]
        rng = np.random.default_rng(0)
        bands = []
        for start in range(0, height, BAND_ROWS):
            first, last = max(0, start - 1), min(height, start + BAND_ROWS + 1)  # a row more for the gradient
            band = self._shade_floor(first, last)[start - first :][: min(BAND_ROWS, height - start)]
            band += rng.uniform(-0.7, 0.7, (*band.shape[:2], 1))  # keeps the gradient free of stripes
            bands.append(np.clip(np.rint(band), 0, 255).astype(np.uint8))
        return np.concatenate(bands)

    def _shade_floor(self, first: int, last: int) -> np.ndarray:
        """Return rows first to last - 1: for each pixel the point of the floor it sees, shaded by grid and distance."""
        height, width = self._shape
        column, row = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(first, last, dtype=np.float64))
        ray_x, ray_y = (column - self._principal[0]) / self._focal, (row - self._principal[1]) / self._focal
        cos, sin = math.cos(VIEW_DROP), math.sin(VIEW_DROP)
        drop = cos * ray_y + sin  # of the ray, in stage axes
        camera = self._center - self._distance * np.array([0, sin, cos])
        reach = np.where(drop > 1e-3, -camera[1] / np.maximum(drop, 1e-3), np.inf)
        with np.errstate(invalid="ignore"):
            x, z = camera[0] + reach * ray_x, camera[2] + reach * (cos - sin * ray_y)
        sees_floor = np.isfinite(reach) & (drop > 0.02)
        x, z = np.where(sees_floor, x, 0), np.where(sees_floor, z, 0)
        far = np.hypot(x - self._center[0], z - self._center[2]) / (
            self._body * 1.5 + np.ptp(self._places, axis=0).max()
        )
        light = np.where(sees_floor, np.exp(-(far**2)), 0)
        cell = 0.3 * self._body  # about half a meter
        cos, sin = math.cos(VIEW_TURN), math.sin(VIEW_TURN)
        lines = np.zeros_like(x)
        for coordinate in ((cos * x - sin * z) / cell, (sin * x + cos * z) / cell):
            cells_per_px = np.hypot(*np.gradient(coordinate)) + 1e-9
            to_line_px = np.abs(coordinate - np.rint(coordinate)) / cells_per_px
            # Where cells shrink towards 4 px their lines would run together, so they fade out.
            lines = np.maximum(
                lines, np.clip(max(1.1, height / 600) - to_line_px, 0, 1) * np.clip(1.5 - 4 * cells_per_px, 0, 1)
            )
        fall = np.linspace(0, 1, height)[first:last, None, None] ** 1.5
        sky = np.array(SKY) * (1 - 0.35 * fall) + np.array(GROUND) * 0.35 * fall
        floor = sky + light[..., None] * (np.array(GROUND) - sky) * 0.85
        return floor + (0.42 * light * lines)[..., None] * (np.array(GRID) - floor)

    def _draw_shadows(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        shrink = 4
        mask = np.zeros([side // shrink + 1 for side in self._shape], np.uint8)
        for person, t in present:
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


def floor_places(tracks: Sequence[Track], body: float) -> list[np.ndarray]:
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
