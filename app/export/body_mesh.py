"""The plain body of an exported skeleton: an octahedron for every bone of the rig, in its rest pose."""

from __future__ import annotations

import numpy as np

from app.export.skeleton_rig import JOINTS, Rig

SIDES = ("left", "right", "middle")
# Of a bone's length: where it is thickest, and half its width there.
USUAL_SHAPE, HEAD_SHAPE = (0.15, 0.14), (0.5, 0.6)
LEAST_WIDTH, MOST_WIDTH = 0.015, 0.07  # meters


def rest_places(rig: Rig) -> np.ndarray:
    """Return where every joint (R, 3) is in the rest pose, the toes on the floor."""
    places = np.zeros((len(JOINTS), 3))
    for index, joint in enumerate(JOINTS[1:], start=1):
        places[index] = places[joint.parent] + rig.offsets[index]
    return places - (0, (places + rig.ends)[:, 1].min(), 0)


def body_parts(rig: Rig, stands: np.ndarray) -> dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Return by side the triangles of every bone in the rest pose: places and normals (24, 3), and joint (24,)."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {side: [] for side in SIDES}
    for index, joint in enumerate(JOINTS):
        ends = [rig.offsets[child] for child, other in enumerate(JOINTS) if other.parent == index]
        for end in [*ends, rig.ends[index]]:
            if np.linalg.norm(end) > 1e-6:
                places, normals = bone_shape(end, *(HEAD_SHAPE if joint.name == "Head" else USUAL_SHAPE))
                side = {"L": "left", "R": "right"}.get(joint.name[0] if joint.name != "LowerBack" else "", "middle")
                parts[side].append((places + stands[index], normals, np.full(len(places), index)))
    return parts


def bone_shape(bone: np.ndarray, waist: float, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return places (24, 3) and normals (24, 3) of an octahedron from the origin to ``bone`` (3,)."""
    length = float(np.linalg.norm(bone))
    along = bone / length
    side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    side /= np.linalg.norm(side)
    width = float(np.clip(thickness * length, LEAST_WIDTH, MOST_WIDTH))
    ring = waist * bone + width * np.array([side, np.cross(along, side), -side, -np.cross(along, side)])
    following = np.roll(ring, -1, axis=0)
    base = np.stack([np.zeros((4, 3)), following, ring], axis=1)
    tip = np.stack([np.tile(bone, (4, 1)), ring, following], axis=1)
    triangles = np.concatenate([base, tip])  # (8, 3, 3), counter-clockwise from outside
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return triangles.reshape(-1, 3), np.repeat(normals, 3, axis=0)
