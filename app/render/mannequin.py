"""The mannequin of the 3D panel: tapered limbs, a trunk, a head and feet around 17 joints, lit from above.

Axes as of the stage: x right, y down with the floor at y = 0, z away.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from app.render.drawing import LEFT, MIDDLE, OUTLINE, RIGHT, SUBPIXEL, opacity_of
from app.render.scene_floor import GROUND
from lifter.skeletons import H36M17

# Radii at both ends of a bone, in hundredths of the body's height: of a slender adult. Bones are named as those of GLB.
RADII = {
    "Hips": (6.2, 6.2), "UpLeg": (5.0, 3.3), "Leg": (3.1, 2.2), "Foot": (2.3, 2.1), "ToeBase": (2.1, 1.6),
    "Spine": (6.4, 6.6), "Spine1": (6.8, 5.2), "Neck": (3.2, 2.8), "Head": (4.9, 5.0), "Shoulder": (3.8, 3.4),
    "Arm": (3.0, 2.4), "ForeArm": (2.4, 1.8), "Hand": (2.1, 1.5),
}  # fmt: skip
HIP_WIDTH = 0.75  # of the way between the hips: there the trunk ends, round
# Made up, no joint is there, in body heights: the toes before and the heel behind the ankle, and how far below at most.
TOE, HEEL = (0.09, 0.07), (-0.03, 0.036)
_EXTRA = ("left_seat", "right_seat", "left_heel", "left_toe", "right_heel", "right_toe")
_NAMES = (*H36M17.names, *_EXTRA)
_SCORED_BY = np.array(
    [*range(17), *(H36M17.index(f"{s}_{j}") for s, j in (("left", "hip"), ("right", "hip"))),
     *(H36M17.index(f"{s}_ankle") for s in ("left", "left", "right", "right"))]
)  # fmt: skip
FEET = np.array([[_NAMES.index(f"{side}_{end}") for end in ("heel", "toe")] for side in ("left", "right")])
_MIDDLE_PARTS = (("left_seat", "right_seat", "Hips"), ("pelvis", "spine", "Spine"), ("spine", "thorax", "Spine1"),
                 ("thorax", "nose", "Neck"), ("nose", "head", "Head"))  # fmt: skip
_SIDE_PARTS = (
    ("hip", "knee", "UpLeg"), ("knee", "ankle", "Leg"), ("heel", "toe", "Foot"), ("thorax", "shoulder", "Shoulder"),
    ("shoulder", "elbow", "Arm"), ("elbow", "wrist", "ForeArm"),
)  # fmt: skip
_PARTS = [(*part, MIDDLE) for part in _MIDDLE_PARTS] + [
    (a if a == "thorax" else f"{side}_{a}", f"{side}_{b}", bone, color)
    for side, color in (("left", LEFT), ("right", RIGHT))
    for a, b, bone in _SIDE_PARTS
]
ENDS = np.array([[_NAMES.index(a), _NAMES.index(b)] for a, b, _, _ in _PARTS])  # (P, 2)
_RADII = np.array([RADII[bone] for _, _, bone, _ in _PARTS]) / 100
_COLORS = np.array([color for *_, color in _PARTS], float)
# Where parts overlap, hips cover the tops of the thighs, and both they and the chest cover the waist.
_CLOSER = np.array([{"Hips": 1.01, "Spine": 0.99}.get(bone, 1.0) for _, _, bone, _ in _PARTS])
RIM = 0.06  # width of the dark outline, in radii
# From the outline over the shaded side to the highlight: how far inside, in radii, and how much darker or lighter.
_INSIDE = np.array([-RIM, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75])
_SHADES = np.array([0.0, -0.45, -0.3, -0.15, 0.0, 0.12, 0.25])[:, None]
_TONES = _COLORS[:, None] * (1 + np.minimum(_SHADES, 0))
_TONES += np.maximum(_SHADES, 0) * (255 - _TONES)  # (P, tones + 1, 3)
_LIGHT = np.array([-0.35, -0.8])  # from where it comes, in the picture
_ARC = np.linspace(0, 1, 13)  # points on a rounded end


class Limbs(NamedTuple):
    """Parts that can be drawn: outlines (P, tones + 1, 2 arcs, 2) px, RGB (P, tones + 1, 3), nearness (P,)."""

    outlines: np.ndarray
    colors: np.ndarray
    nearness: np.ndarray


def body_points(joints: np.ndarray, height: float) -> np.ndarray:
    """Return the points (T, 23, 3) that a mannequin hangs on: the joints (T, 17, 3), its seat, and its feet.

    Feet point where the hips face and are never below the floor.

    Args:
        joints: H36M-17 on the stage.
        height: Of the body, in the unit of the joints.
    """
    hips = joints[:, [H36M17.index("left_hip"), H36M17.index("right_hip")]]
    seat = hips.mean(axis=1, keepdims=True) * (1 - HIP_WIDTH) + hips * HIP_WIDTH
    across = (hips[:, 0] - hips[:, 1]) * (1, 0, 1)
    size = np.linalg.norm(across, axis=1, keepdims=True)
    forward = np.stack([across[:, 2], np.zeros(len(across)), -across[:, 0]], axis=1) / np.maximum(size, 1e-9)
    feet = []
    for side in ("left", "right"):
        ankle = joints[:, H36M17.index(f"{side}_ankle")]
        for (reach, drop), radius in zip((HEEL, TOE), RADII["Foot"], strict=True):
            point = ankle + height * (reach * forward + np.array([0, drop, 0]))
            point[:, 1] = np.minimum(point[:, 1], -radius / 100 * height)
            feet.append(point)
    return np.concatenate([joints, seat, np.stack(feet, axis=1)], axis=1)


def contact_of(soles: np.ndarray, height: float) -> np.ndarray:
    """Return (T, 2), by foot: 1 where it is on the floor, 0 from an eighth of the body's height on; 0 if it is unseen.

    Args:
        soles: y (T, 2, 2) of the ends of both feet.
        height: Of the body.
    """
    above = -soles.max(axis=2) / height - min(RADII["Foot"]) / 100
    return np.nan_to_num(np.clip(1 - 8 * above, 0, 1))


def limbs_of(points: np.ndarray, shown: np.ndarray, scores: np.ndarray, height: float) -> Limbs:
    """Return the limbs of one person in one frame whose both ends are shown.

    Args:
        points: (23, 3) of ``body_points`` in the panel: pixel x, pixel y, pixels per unit of length.
        shown: (23,) bool, which of them can be drawn.
        scores: (17,) of the joints; what is uncertain is fainter.
        height: Of the body, in units of length.
    """
    drawn = shown[ENDS].all(axis=1)
    ends = points[ENDS[drawn]]  # (P, 2, 3)
    radii = np.maximum(_RADII[drawn] * height * ends[..., 2], 0.75)
    opacity = opacity_of(scores)[_SCORED_BY][ENDS[drawn]].min(axis=1)[:, None]
    largest = radii.max(axis=1, keepdims=True)
    along = ends[:, 1, :2] - ends[:, 0, :2]
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along /= np.maximum(length, 1e-9)
    # Light along a limb does not show, but on one that points at us, which looks like a ball.
    light = _LIGHT - np.minimum(1, length / (3 * largest)) * (along @ _LIGHT)[:, None] * along
    inside = np.repeat(_INSIDE[None], len(ends), axis=0)  # (P, tones + 1)
    inside[:, 0] = -np.maximum(1 / largest[:, 0], RIM)
    shift = np.maximum(inside, 0)[..., None, None] * radii[:, None, :, None] * light[:, None, None]
    outlines = _outlines(ends[:, None, :, :2] + shift, (1 - inside)[..., None] * radii[:, None])
    colors = GROUND + (_TONES[drawn] - GROUND) * opacity[..., None]
    colors[:, 0] = OUTLINE
    return Limbs(outlines, colors, ends[..., 2].mean(axis=1) * _CLOSER[drawn])


def draw_limbs(canvas: np.ndarray, limbs: list[Limbs]) -> None:
    """Draw the limbs of everybody, the nearest last."""
    outlines, colors, nearness = (np.concatenate(each) for each in zip(*limbs, strict=True))
    outlines = np.rint(outlines * (1 << SUBPIXEL)).astype(np.int32)
    for part in np.argsort(nearness, kind="stable"):
        for outline, color in zip(outlines[part], colors[part].tolist(), strict=True):
            cv2.fillConvexPoly(canvas, outline, color, cv2.LINE_AA, SUBPIXEL)


def _outlines(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the convex polygons (..., 2 arcs, 2) around two discs, with centers (..., 2, 2) and radii (..., 2)."""
    apart = centers[..., 1, :] - centers[..., 0, :]
    turn = np.arctan2(apart[..., 1], apart[..., 0])[..., None]
    length = np.maximum(np.hypot(apart[..., 0], apart[..., 1]), 1e-6)
    lean = np.arccos(np.clip((radii[..., 0] - radii[..., 1]) / length, -1, 1))[..., None]  # where sides touch the discs
    angles = np.stack([turn + lean + _ARC * (2 * np.pi - 2 * lean), turn - lean + _ARC * 2 * lean], axis=-2)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (..., 2, arc, 2)
    polygons = centers[..., None, :] + radii[..., None, None] * around
    return polygons.reshape(*radii.shape[:-1], 2 * len(_ARC), 2)
