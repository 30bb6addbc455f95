"""``Scene3D``: the 3D panel; one camera and one scale for a whole shot, everybody where they are in the world."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from app.geometry.world import body_height
from app.render.drawing import (
    FAR_PX,
    LEFT,
    OUTLINE,
    RIGHT,
    SUBPIXEL,
    Color,
    draw_dot,
    draw_line,
    make_label,
    mix,
    person_color,
    stamp,
)
from app.render.mannequin import FEET, body_points, contact_of, draw_limbs, limbs_of
from app.render.scene_camera import SceneCamera
from app.render.scene_floor import GROUND, draw_floor
from app.render.scene_stage import stage_of
from app.results import PoseResult
from lifter.skeletons import H36M17

LIGHT_SLANT = (0.30, 0.22)  # how far a shadow falls right and back per unit of height
CAST, CONTACT = 110, 110  # how much light of 255 is lost in a thrown shadow, and under a foot on the floor
TRAIL_S = 2.0
QUIET: Color = (150, 160, 180)


class Scene3D:
    """The 3D panel of one shot: camera and scale are fitted once to all poses of it, seen from the side, and stay.

    Args:
        result: What is shown; frames that are not valid are not drawn.
        people: Indices of ``result.tracks``, of one shot.
        height: Panel height in pixels.
        width: Panel width in pixels.
    """

    def __init__(self, result: PoseResult, people: Sequence[int], height: int, width: int) -> None:
        self._shape = (height, width)
        self._people = [result.people[i] for i in people]
        self._trail_frames = max(2, round(TRAIL_S * result.video.median_fps))
        stage = stage_of(result, people)
        self._body = stage.body
        valid = [track.valid for track, _ in self._people]
        places, seen = (_of_valid_frames(points, valid) for points in (stage.paths, stage.joints))
        self._has_floor = stage.has_floor
        stands = np.repeat(stage.has_floor, [int(shown.sum()) for shown in valid])
        # One wild frame must not make everybody small.
        corners = np.percentile(places, (0.5, 99.5), axis=0, method="nearest") if len(places) else np.zeros((2, 3))
        places = np.clip(places, *corners) if len(places) else corners
        stands = stands if len(stands) else np.ones(len(places), bool)
        camera = SceneCamera.fit(self._shape, self._body, places, stands, seen)
        self._heights = [body_height(pose.joints, track.valid) for track, pose in self._people]
        bodies = [body_points(points, size) for points, size in zip(stage.joints, self._heights, strict=True)]
        self._bodies = [camera.project(points) for points in bodies]  # (T, 23, 3): pixel x, pixel y, pixels per meter
        self._contacts = [camera.project(points[:, FEET] * (1, 0, 1)) for points in bodies]  # (T, 2, 2, 3)
        self._nearness = [
            contact_of(points[:, FEET, 1], size) for points, size in zip(bodies, self._heights, strict=True)
        ]  # (T, 2)
        self._shadows = [camera.project(_shadow(points)) for points in stage.joints]
        self._rings = [camera.project(_rings(path, 0.2 * self._body)) for path in stage.paths]  # (T, 48, 3)
        self._trails = [camera.project(path) for path in stage.paths]
        self._background = draw_floor(camera, self._body, float(np.ptp(places, axis=0).max()), stage.turn)
        self._text_px = max(9.0, 0.024 * min(height, 1.4 * width))
        self._draw_legend()

    def draw(self, frame: int) -> np.ndarray:
        """Return the (height, width, 3) uint8 RGB panel of video frame ``frame``."""
        canvas = self._background.copy()
        present = [
            (person, frame - int(track.frames[0]))
            for person, (track, _) in enumerate(self._people)
            if track.frames[0] <= frame <= track.frames[-1] and track.valid[frame - track.frames[0]]
        ]
        if not present:
            stamp(canvas, make_label("no person", self._text_px, QUIET, None), self._shape[1] / 2, self._shape[0] / 2)
            return canvas
        for person, t in present:
            if self._has_floor[person]:
                self._draw_ground(canvas, person, t)
        self._draw_shadows(canvas, present)
        self._draw_bodies(canvas, present)
        if len(self._people) > 1:
            for person, t in present:
                person_id = self._people[person][0].person_id
                ring = self._rings[person][t]
                label = make_label(str(person_id), self._text_px, OUTLINE, person_color(person_id))
                stamp(
                    canvas,
                    label,
                    float(ring[:, 0].mean()),
                    min(float(ring[:, 1].max()) + 0.9 * self._text_px, self._shape[0] - self._text_px),
                )
        return canvas

    def _draw_legend(self) -> None:
        """Write what the colors and the view are into the corner of the empty stage."""
        px, height = self._text_px, self._shape[0]
        x, y = 1.2 * px, height - 1.3 * px
        for color, text in ((LEFT, "left"), (RIGHT, "right")):
            draw_dot(self._background, np.array([x, y]), color, 0.3 * px)
            label = make_label(text, 0.9 * px, QUIET, None)
            stamp(self._background, label, x + 0.2 * px + label.shape[1] / 2, y)
            x += 0.6 * px + label.shape[1]
        label = make_label("3D, seen from the side", 0.9 * px, QUIET, None)
        if x + label.shape[1] < self._shape[1]:
            stamp(self._background, label, self._shape[1] - 0.6 * px - label.shape[1] / 2, y)

    def _draw_ground(self, canvas: np.ndarray, person: int, t: int) -> None:
        """Draw where a person was and is on the floor."""
        track = self._people[person][0]
        color = mix(GROUND, person_color(track.person_id), 0.55)
        ring = self._rings[person][t]
        thickness = max(1, round(0.006 * self._body * float(ring[:, 2].mean())))
        first = max(0, t - self._trail_frames)
        trail = self._trails[person][first : t + 1][track.valid[first : t + 1]]
        for k, (a, b) in enumerate(itertools.pairwise(trail)):
            if self._is_drawable(trail[k : k + 2]).all():
                draw_line(canvas, a, b, mix(GROUND, color, (k + 1) / len(trail)), thickness)
        if self._is_drawable(ring).all():
            points = np.rint(ring[:, :2] * (1 << SUBPIXEL)).astype(np.int32)
            cv2.polylines(canvas, [points], True, color, thickness, cv2.LINE_AA, SUBPIXEL)

    def _draw_shadows(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        shrink = 4
        mask, contacts = np.zeros((2, *(side // shrink + 1 for side in self._shape)), np.uint8)
        for person, t in present:
            if not self._has_floor[person]:
                continue
            points, shown = self._shadows[person][t], self._is_drawable(self._shadows[person][t])
            for a, b in H36M17.edges:
                if shown[a] and shown[b]:
                    width = 0.06 * self._body * points[a, 2] / shrink
                    draw_line(mask, points[a, :2] / shrink, points[b, :2] / shrink, (CAST, CAST, CAST), width)
            for (heel, toe), near in zip(self._contacts[person][t], self._nearness[person][t], strict=True):
                if near > 0 and self._is_drawable(np.stack([heel, toe])).all():
                    shade, width = round(CONTACT * float(near)), 0.055 * self._heights[person] * heel[2] / shrink
                    draw_line(contacts, heel[:2] / shrink, toe[:2] / shrink, (shade, shade, shade), width)
        mask = cv2.add(mask, contacts)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return
        sigma = 0.018 * self._body * float(self._rings[present[0][0]][present[0][1], 0, 2]) / shrink + 0.6
        pad = math.ceil(3 * sigma)
        top, left = max(0, rows[0] - pad), max(0, columns[0] - pad)
        soft = cv2.GaussianBlur(mask[top : rows[-1] + pad, left : columns[-1] + pad], (0, 0), sigma)
        soft = cv2.resize(soft, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR)
        region = canvas[top * shrink : top * shrink + soft.shape[0], left * shrink : left * shrink + soft.shape[1]]
        light = 255 - soft[: region.shape[0], : region.shape[1]]
        cv2.multiply(region, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), dst=region, scale=1 / 255)

    def _draw_bodies(self, canvas: np.ndarray, present: list[tuple[int, int]]) -> None:
        limbs = []
        for person, t in present:
            points, scores = self._bodies[person][t], self._people[person][1].scores[t]
            limbs.append(limbs_of(points, self._is_drawable(points), scores, self._heights[person]))
        draw_limbs(canvas, limbs)

    def _is_drawable(self, points: np.ndarray) -> np.ndarray:
        """Return (N,) bool: finite and not so far outside the panel that OpenCV's integers would overflow."""
        return np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX / 10).all(axis=1)


def _of_valid_frames(points: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> np.ndarray:
    """Return everybody's points (N, 3) in frames that count."""
    shown = [each[frames].reshape(-1, 3) for each, frames in zip(points, valid, strict=True)]
    return np.concatenate([*shown, np.zeros((0, 3))])


def _shadow(points: np.ndarray) -> np.ndarray:
    """Return points (..., 3) thrown on the floor by a light high on the left."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x - LIGHT_SLANT[0] * y, np.zeros_like(y), z - LIGHT_SLANT[1] * y], axis=-1)


def _rings(path: np.ndarray, radius: float) -> np.ndarray:
    """Return (T, 48, 3) circles on the floor around points (T, 3)."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return path[:, None] + radius * np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=-1)
