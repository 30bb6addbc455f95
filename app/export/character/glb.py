"""``pose.glb``: everybody as animated skeletons with a plain body, glTF 2.0 in one binary file.

Meters, y up (glTF knows no other; ``--up`` does not apply), axes as in ``app.geometry.world``, joints and rest pose
as in ``app.export.character.skeleton_rig``; +y of every joint lies along its bone, which is how Blender draws bones.
Every person is a node "person0" with the joints below it, and a skinned mannequin: blue the left, orange the right,
light the middle. One animation, named after the clip, has a key per video frame of the person, at the frame's time.
Where nobody was seen (absent, or a gap too long to fill) the node is scaled to 0, which hides the person.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from app.export.character.body_mesh import SIDES, body_parts
from app.export.character.skeleton_rig import BONE_AXES, JOINTS, Rig, rig_of
from app.export.frame_times import frame_rate, frame_times
from app.geometry.world import AXES
from app.render.drawing import LEFT, MIDDLE, RIGHT
from app.results import PoseResult

MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
FLOAT, SHORT = 5126, 5123
VERTICES, TRIANGLES = 34962, 34963  # targets of buffer views that hold vertex attributes, or which of them are used
COLORS = dict(zip(SIDES, (LEFT, RIGHT, MIDDLE), strict=True))


def write_glb(result: PoseResult, path: Path) -> None:
    """Write all people of ``result``; with nobody, an empty scene."""
    scene = _Scene()
    all_times = frame_times(result.video)
    for index, track in enumerate(result.tracks):
        joints = result.world_joints(index, up="y", has_rigid_bones=True)
        rig = rig_of(joints, np.eye(3), has_floor=result.has_floor(index))
        person = scene.add_person(f"person{track.person_id}", rig, all_times[track.frames])
        changes, is_visible = visible_from(result, index)
        scene.show(person, all_times[changes], is_visible)
    extras = {
        "unit": result.models.unit,
        "axes": AXES["y"].about,
        "fps": frame_rate(result.video),
        "provenance": result.provenance,
    }
    path.write_bytes(scene.to_bytes(result.video.path.stem, extras))


def visible_from(result: PoseResult, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames (K,) in which a person appears or vanishes, and whether they are visible from then on (K,)."""
    track = result.tracks[index]
    is_visible = np.zeros(result.video.num_frames, bool)
    is_visible[track.frames] = track.valid
    changes = np.flatnonzero(np.concatenate([[True], is_visible[1:] != is_visible[:-1]]))
    return changes, is_visible[changes]


@dataclass
class _Scene:
    """A glTF document that grows person by person; indices refer to its lists."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    top: list[int] = field(default_factory=list)
    meshes: list[dict[str, Any]] = field(default_factory=list)
    skins: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    samplers: list[dict[str, Any]] = field(default_factory=list)
    channels: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add_person(self, name: str, rig: Rig, times: np.ndarray) -> int:
        """Add skeleton, mesh and motion; return the index of the person's node."""
        person = len(self.nodes)
        first = person + 1
        self.nodes.append({"name": name, "children": [first]})
        self.top.append(person)
        stands = rig.rest_places
        above = np.stack([np.eye(3) if joint.parent < 0 else BONE_AXES[joint.parent] for joint in JOINTS])
        offsets = (above.swapaxes(1, 2) @ np.where(np.arange(len(JOINTS))[:, None], rig.offsets, stands)[..., None])[
            ..., 0
        ]
        turns = quaternions(above.swapaxes(1, 2) @ np.concatenate([BONE_AXES[None], rig.rotations @ BONE_AXES]))
        for index, joint in enumerate(JOINTS):
            children = [first + child for child, other in enumerate(JOINTS) if other.parent == index]
            node: dict[str, Any] = {"name": joint.name, "translation": offsets[index].tolist()}
            node["rotation"] = turns[index, 0].tolist()
            self.nodes.append({**node, "children": children} if children else node)
        joints = list(range(first, first + len(JOINTS)))
        bind = np.tile(np.eye(4), (len(JOINTS), 1, 1))  # columns of a glTF matrix are contiguous: these are transposed
        bind[:, :3, :3] = BONE_AXES
        bind[:, 3, :3] = -(stands[:, None] @ BONE_AXES)[:, 0]
        self.skins.append(
            {"joints": joints, "skeleton": first, "inverseBindMatrices": self._accessor(bind.reshape(-1, 16), "MAT4")}
        )
        self._add_body(name, rig)
        keys = self._accessor(times.astype(np.float32)[:, None], "SCALAR", has_bounds=True)
        self._animate(first, "translation", keys, self._accessor(rig.root, "VEC3"))
        for index, values in enumerate(turns[:, 1:]):
            self._animate(first + index, "rotation", keys, self._accessor(values, "VEC4"))
        return person

    def show(self, person: int, times: np.ndarray, is_visible: np.ndarray) -> None:
        """Hide a person's node where it is not visible."""
        if is_visible.all():
            return
        keys = self._accessor(times.astype(np.float32)[:, None], "SCALAR", has_bounds=True)
        scale = np.repeat(is_visible.astype(np.float32)[:, None], 3, axis=1)
        self._animate(person, "scale", keys, self._accessor(scale, "VEC3"), "STEP")

    def to_bytes(self, name: str, extras: dict[str, Any]) -> bytes:
        """Return the file; ``name`` is that of its animation."""
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "posemamba-wild", "extras": extras},
            "scene": 0,
            "scenes": [{"name": "scene", **({"nodes": self.top} if self.top else {})}],
        }
        if self.nodes:
            materials = [_material(side, color) for side, color in COLORS.items()]
            motion = {"name": name, "samplers": self.samplers, "channels": self.channels}
            document |= {"nodes": self.nodes, "meshes": self.meshes, "skins": self.skins, "materials": materials}
            document |= {"accessors": self.accessors, "bufferViews": self.views, "animations": [motion]}
            document["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
        if self.data:
            chunks += struct.pack("<II", len(self.data), BINARY_CHUNK) + bytes(self.data)
        return struct.pack("<III", MAGIC, 2, 12 + len(chunks)) + chunks

    def _add_body(self, name: str, rig: Rig) -> None:
        parts = body_parts(rig)
        primitives = []
        for material, side in enumerate(SIDES):
            part = parts[side]
            bound = np.zeros((len(part.joints), 4), np.uint16)
            bound[:, 0] = part.joints
            weights = np.tile(np.array([1, 0, 0, 0], np.float32), (len(bound), 1))
            attributes = {
                "POSITION": self._accessor(part.places, "VEC3", VERTICES, has_bounds=True),
                "NORMAL": self._accessor(part.normals, "VEC3", VERTICES),
                "JOINTS_0": self._accessor(bound, "VEC4", VERTICES),
                "WEIGHTS_0": self._accessor(weights, "VEC4", VERTICES),
            }
            triangles = self._accessor(part.triangles[:, None].astype(np.uint16), "SCALAR", TRIANGLES)
            primitives.append({"attributes": attributes, "indices": triangles, "material": material})
        self.meshes.append({"name": name, "primitives": primitives})
        self.top.append(len(self.nodes))  # at the top: a skinned mesh follows its joints, not its node
        self.nodes.append({"name": f"{name}_body", "mesh": len(self.meshes) - 1, "skin": len(self.skins) - 1})

    def _animate(self, node: int, path: str, keys: int, values: int, interpolation: str = "LINEAR") -> None:
        self.channels.append({"sampler": len(self.samplers), "target": {"node": node, "path": path}})
        self.samplers.append({"input": keys, "output": values, "interpolation": interpolation})

    def _accessor(self, values: np.ndarray, kind: str, target: int | None = None, *, has_bounds: bool = False) -> int:
        """Store values (N, columns) and return the accessor's index."""
        values = values if values.dtype == np.uint16 else values.astype(np.float32)
        raw = np.ascontiguousarray(values).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        self.views.append({**view, "target": target} if target else view)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": SHORT if values.dtype == np.uint16 else FLOAT,
            "count": len(values),
            "type": kind,
        }
        if has_bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.accessors.append(accessor)
        self.data += raw + bytes(-len(raw) % 4)
        return len(self.accessors) - 1


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Return (R, T, 4) float32 x, y, z, w of rotations (T, R, 3, 3); without jumps in sign over time."""
    count, size = rotations.shape[:2]
    turns = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(count, size, 4)
    flips = np.sign((turns[1:] * turns[:-1]).sum(axis=-1))  # as they are; a flip turns all that follow
    turns[1:] *= np.cumprod(np.where(flips == 0, 1, flips), axis=0)[..., None]
    return turns.swapaxes(0, 1).astype(np.float32)


def _material(name: str, color: tuple[int, int, int]) -> dict[str, Any]:
    linear = [round((channel / 255) ** 2.2, 4) for channel in color]
    return {
        "name": name,
        "pbrMetallicRoughness": {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7},
    }
