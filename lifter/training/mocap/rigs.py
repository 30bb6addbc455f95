"""Rigs: maps the joints of a take to H36M-17 in meters with z up."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lifter.skeletons import H36M17
from lifter.training.mocap.takes import Joint, Take, place, rest_positions

# Hip, knee, ankle and shoulder, elbow, wrist: the joints of a limb in the usual families, after ``simple_name``. The
# first family that a skeleton has on both sides counts; the same word means different joints in different families
# ("LeftShoulder" is the collar bone of MotionBuilder and the shoulder of Poser).
LEGS = (
    ("femur", "tibia", "foot"),  # Acclaim
    ("upleg", "leg", "foot"),  # MotionBuilder, Mixamo, ACCAD, CMU (cgspeed), LAFAN1, Perception Neuron
    ("thigh", "shin", "foot"),  # DAZ, Poser, Rokoko, Blender, OptiTrack
    ("thighbend", "shin", "foot"),  # DAZ Genesis 3 and 8
    ("thigh", "calf", "foot"),  # 3ds Max Biped, Unreal
    ("upperleg", "lowerleg", "foot"),  # Xsens, Unity, VRM
    ("upleg", "lowleg", "foot"),
    ("hip", "knee", "ankle"),  # older MotionBuilder and Xsens, SMPL
)
ARMS = (
    ("humerus", "radius", "wrist"),  # Acclaim
    ("arm", "forearm", "hand"),  # MotionBuilder, Mixamo, ACCAD, CMU (cgspeed), LAFAN1, Rokoko
    ("shldr", "forearm", "hand"),  # DAZ, Poser
    ("shldrbend", "forearmbend", "hand"),  # DAZ Genesis 3 and 8
    ("upperarm", "forearm", "hand"),  # 3ds Max Biped, Xsens, Blender
    ("upperarm", "lowerarm", "hand"),  # Unreal, Unity, VRM
    ("uparm", "lowarm", "hand"),
    ("uarm", "farm", "hand"),  # OptiTrack
    ("shoulder", "elbow", "wrist"),  # older MotionBuilder and Xsens, SMPL
)
NECKS = ("lowerneck", "necklower", "neck", "neck01", "neck1")  # where the trunk ends: joint 8, the thorax
HEADS = ("head",)
PREFIXES = re.compile(r"^(mixamorig\d*|valvebiped)?(bip\d*|character\d*|jbipc?|ccbase|def|mavg|armature|skeleton)?")

# What units and axes are measured on: four joints of the left side, then of the right, then the thorax.
MEASURED = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "shoulder"))
LIMBS = tuple(name for name in H36M17.names if name.startswith(("left", "right")))
UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "CMU unit": 0.0254 / 0.45}
LEG_M = (0.5, 1.2)  # hip to knee to ankle, of any person
TYPICAL_LEG_M = 0.85
STRAIGHT = 0.8  # cosine between trunk and legs and an axis, above which a body stands along that axis
Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # to our axes, where z is up
Z_UP = np.eye(3)
CHUNK = 4096  # frames at a time, so that memory does not grow with the recording
SAMPLE = 2000  # frames that units and axes are measured on


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Places of head and wrist that no joint of a rig has, in meters from the joint ``head``.

    Attributes:
        nose: Forward and up.
        head_bone: Share of the bone from the joint ``head`` to its end.
        head_up: Up, on top of that.
    """

    nose: tuple[float, float]
    head_bone: float
    head_up: float


CMU = Landmarks((0.055, 0.02), 0.75, 0.05)  # joint "head" between neck and skull
USUAL = Landmarks((0.065, 0.04), 0.0, 0.135)  # joint "head" at the base of the skull
CMU_HIPS = {"lhipjoint", "rhipjoint"}
CMU_WRIST = 0.4  # of the bone "lwrist" of an .asf ...
CMU_WRIST_BVH = 0.207  # ... which in BVH is the hand's joint moved on by this share of the forearm
SPINE = 0.475  # of the way from the pelvis along the spine to the thorax


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The joints of a rig that H36M-17 is made of.

    Attributes:
        limbs: Index of the hips, knees, ankles, shoulders, elbows and hands, by the names of H36M17 (hand: "wrist").
        hand_ends: Index of the joint after each hand, left and right; only in .asf skeletons.
        thorax: Index of the lowest joint of the neck.
        spine: Indices of the joints between pelvis and thorax, upwards.
        head: Index of the joint where the head turns.
        head_end: Index of the top of the head, None if there is none.
        is_cmu: Whether the rig is that of the CMU database.
    """

    limbs: dict[str, int]
    hand_ends: tuple[int, ...]
    thorax: int
    spine: tuple[int, ...]
    head: int
    head_end: int | None
    is_cmu: bool


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How a take's axes and unit become ours.

    Attributes:
        to_world: (3, 3) from the file's axes and unit to meters with z up.
        head_axes: (3, 2) forward and up in the head joint's own axes, as columns; None if no joint ever turns.
    """

    to_world: np.ndarray
    head_axes: np.ndarray | None


def h36m17_from(take: Take) -> np.ndarray:
    """Return the H36M-17 joints (F, 17, 3) float32 of a take, meters, z up, at its frame rate.

    Limbs are the rig's joints. The pelvis is the middle of the hips, the thorax the lowest neck joint, the spine the
    point at 47.5 % of the way along the spine's joints; nose and head are at fixed distances from the head's joint
    (``USUAL``), in its own directions. Rigs of the CMU database have their own distances (``CMU``), and wrists a
    little after the hand's joint.

    Raises:
        ValueError: Unknown joint names, or a size that no unit makes human.
    """
    body = find_body(take.joints)
    if body.is_cmu:
        take = with_thorax(take, body)
    frame = find_frame(take, body)
    starts = range(0, len(take.channels), CHUNK)
    return np.concatenate([h36m17_chunk(take, body, frame, slice(i, i + CHUNK)) for i in starts])


def is_cmu(take: Take) -> bool:
    """Return whether a take's rig is that of the CMU database: hips hang on bones of their own."""
    return {simple_name(joint.name) for joint in take.joints} >= CMU_HIPS


def simple_name(name: str) -> str:
    """Return a joint's name in lower case, without prefixes of programs and characters, blanks and signs."""
    return PREFIXES.sub("", re.sub(r"[^a-z0-9]", "", name.rpartition(":")[2].lower()))


def find_body(joints: Sequence[Joint]) -> Body:
    """Return the joints of a body by their names; ValueError with all names if some are not found."""
    index: dict[str, int] = {}
    for i, joint in enumerate(joints):
        index.setdefault(simple_name(joint.name), i)
    legs = find_limbs(joints, index, LEGS, ("hip", "knee", "ankle"))
    arms = find_limbs(joints, index, ARMS, ("shoulder", "elbow", "wrist"))
    thorax = next((index[name] for name in NECKS if name in index), None)
    head = next((index[name] for name in HEADS if name in index), None)
    found = {**legs, **arms}
    known = {*found, *(["pelvis"] if legs else []), *(["spine", "thorax"] if thorax is not None else []),
             *(["nose", "head"] if head is not None else [])}  # fmt: skip
    missing = [name for name in H36M17.names if name not in known]
    if thorax is None or head is None or missing:
        names = ", ".join(joint.name for joint in joints if not joint.name.endswith(" end"))
        raise ValueError(f"unknown skeleton: no joint for {', '.join(missing)}; its joints are {names[:1500]}")
    hand_ends = [child_of(joints, found[f"{side}_wrist"]) for side in ("left", "right")] if "lradius" in index else []
    ends = [i for i, joint in enumerate(joints) if joint.parent == head and joint.name.endswith(" end")]
    spine = spine_between(joints, found["left_hip"], thorax)
    return Body(found, tuple(hand_ends), thorax, spine, head, ends[0] if ends else None, set(index) >= CMU_HIPS)


def find_limbs(
    joints: Sequence[Joint], index: dict[str, int], families: Sequence[tuple[str, ...]], parts: tuple[str, ...]
) -> dict[str, int]:
    """Return the joints of both sides ("left_" and "right_" before ``parts``) by the first family that has them all."""
    for family in families:
        limbs: dict[str, int] = {}
        for side in ("left", "right"):
            for part, word in zip(parts, family, strict=True):
                forms = (side + word, side[0] + word, word + side, word + side[0])
                place = next((index[form] for form in forms if form in index), None)
                if place is not None:
                    limbs[f"{side}_{part}"] = place
        if len(limbs) == 6 and all(
            limbs[f"{side}_{upper}"] in ancestors(joints, limbs[f"{side}_{lower}"])
            for side in ("left", "right") for upper, lower in itertools.pairwise(parts)
        ):  # fmt: skip
            return limbs
    return {}


def child_of(joints: Sequence[Joint], index: int) -> int:
    """Return the first joint that hangs on another, or that one itself if none does."""
    return next((i for i, joint in enumerate(joints) if joint.parent == index), index)


def ancestors(joints: Sequence[Joint], index: int) -> list[int]:
    """Return what a joint hangs on, from its parent to the root."""
    chain: list[int] = []
    while (index := joints[index].parent) >= 0:
        chain.append(index)
    return chain


def spine_between(joints: Sequence[Joint], hip: int, thorax: int) -> tuple[int, ...]:
    """Return the joints between the one that carries both the hip and the trunk, and the thorax; upwards."""
    below = set(ancestors(joints, hip))
    return tuple(i for i in reversed(ancestors(joints, thorax)) if i not in below)


def with_thorax(take: Take, body: Body) -> Take:
    """Return the take with the bone below the neck that BVH copies of the CMU database have lost.

    There neck and collar bones sit on the joint of the chest itself; a bone as long as the one below is put between.
    """
    chest = take.joints[body.thorax].parent
    lost = [i for i, joint in enumerate(take.joints) if joint.parent == chest and not joint.offset.any()]
    if body.thorax not in lost:
        return take
    bone = np.array([0.0, np.linalg.norm(take.joints[chest].offset), 0.0])
    joints = [replace(joint, offset=bone) if i in lost else joint for i, joint in enumerate(take.joints)]
    return replace(take, joints=tuple(joints))


def find_frame(take: Take, body: Body) -> Frame:
    """Return unit and axes of a take, from its skeleton at rest and a sample of its frames."""
    sample = np.unique(np.linspace(0, len(take.channels) - 1, SAMPLE).astype(int))
    wanted = [*(body.limbs[name] for name in MEASURED), body.thorax, body.head]
    moving, turned = place(take, wanted, sample)  # (n, 10, 3), (n, 10, 3, 3)
    legs = np.linalg.norm(moving[:, [0, 1, 4, 5]] - moving[:, [1, 2, 5, 6]], axis=-1).sum(axis=-1) / 2
    unit_m = unit_of(float(np.median(legs)), take.unit_m)
    resting = rest_positions(take, wanted)[None]  # (1, 10, 3)
    up_at_rest = up_axis(resting)
    up = choose_up(up_at_rest, up_axis(moving))
    to_world = unit_m * (Y_UP if up == 1 else Z_UP)
    if not any(joint.turns for joint in take.joints):
        return Frame(to_world, None)
    if up_at_rest is not None:
        return Frame(to_world, facing(resting, np.eye(3)[None, up_at_rest])[0])
    ahead = turned[:, -1].swapaxes(-1, -2) @ facing(moving, trunk(moving))  # (n, 3, 2)
    return Frame(to_world, orthonormal(*ahead.mean(axis=0).T))  # on average people look where their trunk faces


def unit_of(leg: float, unit_m: float | None) -> float:
    """Return meters per unit: what the file says, or the unit that makes ``leg`` (hip to knee to ankle) human.

    Raises:
        ValueError: No unit does, or the file's own does not.
    """
    units = UNITS_M if unit_m is None else {"the file's unit": unit_m}
    human = [meters for meters in units.values() if LEG_M[0] <= leg * meters <= LEG_M[1]]
    if not human:
        lengths = ", ".join(f"{leg * meters:.3g} m in {name}" for name, meters in units.items())
        raise ValueError(
            f"the leg from hip to ankle is {leg:.4g} units long, {lengths}; expected {LEG_M[0]} to {LEG_M[1]} m"
        )
    return min(human, key=lambda meters: abs(np.log(leg * meters / TYPICAL_LEG_M)))


def trunk(points: np.ndarray) -> np.ndarray:
    """Return unit vectors (n, 3) from the pelvis to the thorax of ``MEASURED`` points (n, 9 or more, 3)."""
    return unit_vectors(points[:, 8] - (points[:, 0] + points[:, 4]) / 2)


def up_axis(points: np.ndarray) -> int | None:
    """Return the axis, 1 (y) or 2 (z), that trunk and legs stand along on average; None if they stand along neither.

    Args:
        points: (n, 9 or more, 3) places of ``MEASURED`` and the thorax, file axes.
    """
    legs = unit_vectors((points[:, 0] + points[:, 4]) - (points[:, 2] + points[:, 6]))
    along = np.minimum(trunk(points).mean(axis=0), legs.mean(axis=0))
    return next((axis for axis in (1, 2) if along[axis] > STRAIGHT), None)


def choose_up(at_rest: int | None, moving: int | None) -> int:
    """Return the vertical axis, 1 or 2: that of the skeleton at rest, else that of its motion, else BVH's y.

    A skeleton that rests along z but stands along y is turned upright by its root: y, as BVH has it.
    """
    if at_rest is None:
        return moving or 1
    return 1 if moving == 1 else at_rest


def facing(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return (n, 3, 2) forward and up, given up (n, 3) and ``MEASURED`` points (n, 9 or more, 3)."""
    left = (points[:, 0] - points[:, 4]) + (points[:, 3] - points[:, 7])
    return np.stack([unit_vectors(np.cross(left, up)), up], axis=-1)


def orthonormal(forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return (3, 2) unit vectors: ``forward`` (3,), and ``up`` (3,) made perpendicular to it."""
    forward = unit_vectors(forward)
    return np.stack([forward, unit_vectors(up - (up @ forward) * forward)], axis=-1)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) at length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def h36m17_chunk(take: Take, body: Body, frame: Frame, frames: slice) -> np.ndarray:
    """Return the H36M-17 joints (n, 17, 3) float32 of some frames, meters, z up."""
    top = body.head if body.head_end is None else body.head_end
    wanted = [*(body.limbs[name] for name in LIMBS), body.thorax, body.head, top, *body.hand_ends, *body.spine]
    at, turned = place(take, wanted, frames)
    at = at @ frame.to_world.T  # (n, K, 3), meters
    limbs = dict(zip(LIMBS, at[:, : len(LIMBS)].swapaxes(0, 1), strict=True))
    thorax, head, top, *others = at[:, len(LIMBS) :].swapaxes(0, 1)
    hand_ends, spine = others[: len(body.hand_ends)], others[len(body.hand_ends) :]
    pelvis = (limbs["left_hip"] + limbs["right_hip"]) / 2
    if frame.head_axes is None:
        up = unit_vectors(head - thorax)
        forward = unit_vectors(np.cross(limbs["left_shoulder"] - limbs["right_shoulder"], up))
    else:
        head_turned = turned[:, len(LIMBS) + 1]
        forward, up = np.moveaxis(unit_vectors(frame.to_world) @ head_turned @ frame.head_axes, -1, 0)
    marks = CMU if body.is_cmu else USUAL
    points = {
        **limbs,
        "pelvis": pelvis,
        "thorax": thorax,
        "spine": along_path([pelvis, *spine, thorax], SPINE),
        "nose": head + marks.nose[0] * forward + marks.nose[1] * up,
        "head": head + marks.head_bone * (top - head) + marks.head_up * up,
    }
    for i, side in enumerate(("left", "right") if body.is_cmu else ()):
        hand, elbow = limbs[f"{side}_wrist"], limbs[f"{side}_elbow"]
        bone = CMU_WRIST * (hand_ends[i] - hand) if hand_ends else CMU_WRIST_BVH * (hand - elbow)
        points[f"{side}_wrist"] = hand + bone
    return np.stack([points[name] for name in H36M17.names], axis=1).astype(np.float32)


def along_path(points: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return the points (n, 3) at ``share`` of the length of the paths through K points, each (n, 3)."""
    path = np.stack(points)  # (K, n, 3)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=-1)  # (K - 1, n)
    ends = np.cumsum(steps, axis=0)
    goal = share * ends[-1]
    step = np.minimum((ends < goal).sum(axis=0), len(steps) - 1)  # (n,)
    columns = np.arange(path.shape[1])
    length = steps[step, columns]
    part = 1 - (ends[step, columns] - goal) / np.maximum(length, 1e-12)
    return path[step, columns] + part[:, None] * (path[step + 1, columns] - path[step, columns])
