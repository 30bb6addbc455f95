"""The plain body of an exported skeleton: a mannequin of tapered capsules around the bones, in the rest pose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.export.character.skeleton_rig import JOINTS, Rig
from app.render.mannequin import RADII

SIDES = ("left", "right", "middle")
AROUND, CAP = 12, 3  # vertices of a ring, and rings of a rounded end


class BodyPart(NamedTuple):
    """Triangles of one side: places and normals (V, 3), the joint that moves each vertex (V,), vertices (3 K,)."""

    places: np.ndarray
    normals: np.ndarray
    joints: np.ndarray
    triangles: np.ndarray


def body_parts(rig: Rig) -> dict[str, BodyPart]:
    """Return the body by side, in the rest pose."""
    stands = rig.rest_places
    height = float(np.ptp(stands @ rig.up))
    parts: dict[str, BodyPart] = {}
    for side in SIDES:
        places, normals, joints, triangles = [], [], [], []
        count = 0
        for index, joint in enumerate(JOINTS):
            if joint.side != side or not (bone := _bone_of(rig, index)):
                continue
            radii = np.array(RADII[joint.name.removeprefix("Left").removeprefix("Right")]) * height / 100
            around, outwards, faces = tapered_capsule(*bone, *radii)
            around += stands[index]
            places.append(around - np.minimum(around @ rig.up, 0)[:, None] * rig.up)  # soles are flat
            normals.append(outwards)
            joints.append(np.full(len(around), index))
            triangles.append(faces + count)
            count += len(around)
        parts[side] = BodyPart(*(np.concatenate(values) for values in (places, normals, joints, triangles)))
    return parts


def _bone_of(rig: Rig, index: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where the capsule of a joint begins and ends (3,), from the joint; None if the joint has no length."""
    name = JOINTS[index].name
    children = [rig.offsets[child] for child, joint in enumerate(JOINTS) if joint.parent == index]
    if name == "Hips":
        return 0.75 * children[0], 0.75 * children[1]
    start, end = np.zeros(3), next((child for child in children if child.any()), rig.ends[index])
    if name.endswith("Foot"):  # from the heel, as far behind the ankle as a quarter of the foot
        down = (end @ rig.up) * rig.up
        start = 0.85 * down - 0.25 * (end - down)
    return (start, end) if np.linalg.norm(end - start) > 1e-6 else None


def tapered_capsule(
    start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places and normals (V, 3) and triangles (3 K,), counter-clockwise from outside, of a rounded cone."""
    length = float(np.linalg.norm(end - start))
    along = (end - start) / max(length, 1e-9)
    side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    side /= np.linalg.norm(side)
    turn = 2 * np.pi * np.arange(AROUND) / AROUND
    circle = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(along, side)  # (AROUND, 3)
    rise = np.radians(np.linspace(-90, 0, CAP + 1)[1:])
    angles = np.concatenate([rise, -rise[::-1]])  # rings from the start to the end, without the two poles
    outwards = np.cos(angles)[:, None, None] * circle + np.sin(angles)[:, None, None] * along  # (2 CAP, AROUND, 3)
    middle = np.repeat([start, end], CAP, axis=0)[:, None]
    radius = np.repeat([start_radius, end_radius], CAP)[:, None, None]
    places = np.concatenate([(middle + radius * outwards).reshape(-1, 3),
                             [start - start_radius * along, end + end_radius * along]])  # fmt: skip
    normals = np.concatenate([outwards.reshape(-1, 3), [-along, along]])
    return places, normals, _faces(2 * CAP)


def _faces(rings: int) -> np.ndarray:
    """Return triangles (3 K,) of rings of AROUND vertices, closed by a vertex before the first and after the last."""
    here = np.arange(AROUND)
    after = (here + 1) % AROUND
    first, last = rings * AROUND, rings * AROUND + 1
    faces = [np.stack([np.full(AROUND, first), after, here], axis=1)]
    for ring in range(rings - 1):
        low, high = ring * AROUND, (ring + 1) * AROUND
        faces.append(np.stack([low + here, low + after, high + after], axis=1))
        faces.append(np.stack([low + here, high + after, high + here], axis=1))
    top = (rings - 1) * AROUND
    faces.append(np.stack([np.full(AROUND, last), top + here, top + after], axis=1))
    return np.concatenate(faces).ravel()
