"""``Rig``: H36M-17 joints as the rotations of a skeleton, which is what BVH and glTF hold.

Bones have Mixamo's names without its prefix, which retargeting tools map by themselves. Any pose of 17 points with the
bones of ``with_rigid_bones`` is met exactly. Rest pose: a T, facing +z, left arm along +x, y up; collarbones, neck and
head lie in it as in somebody who stands at ease, so that such a person turns none of them. Points do not tell how a
limb is twisted: limbs turn the shortest way from their parent, trunk and pelvis by the lines of hips and shoulders.
Feet and hands go on straight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lifter.skeletons import H36M17

Vector = tuple[float, float, float]
LEFT, RIGHT, UP, DOWN = (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)
FORWARD, NOTHING = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)
# Of people who stand at ease, as the network has learned them: the nose lies before the neck.
NECK, HEAD, COLLARBONE_DROP = (0.0, 0.87, 0.49), (0.0, 0.89, -0.46), 0.26
# Made up, no point of ours is there: the ball of the foot below and before the ankle, in lengths of the shin, the toes
# in lengths of that, and the hand in lengths of the forearm.
BALL, TOES, FINGERS = (0.0, -0.22, 0.3), (0.0, 0.0, 0.25), 0.45
MOST_RISE = 0.5  # of feet that are pushed up by the floor: the sine of 30 degrees
TINY = 1e-9  # meters, or of a unit vector


@dataclass(frozen=True)
class RigJoint:
    """One joint: where it sits, and which way its bone lies in the rest pose.

    Attributes:
        name: As Mixamo's, without its prefix.
        parent: Index, -1 for the root; parents come first.
        place: Joint of H36M17 it sits on; None at the end of its parent's bone.
        child: Joint of H36M17 it turns towards; None if it turns with the hips, the shoulders or its parent.
        rest: Direction to the child, or of the bone, in the rest pose.
        end: End of a bone without such a child, in lengths of the bone before it.
    """

    name: str
    parent: int
    place: int | None
    child: int | None
    rest: Vector
    end: Vector = NOTHING

    @property
    def side(self) -> str:
        """left, right or middle."""
        return next((side for side in ("left", "right") if self.name.lower().startswith(side)), "middle")


def _joints() -> tuple[RigJoint, ...]:
    table: list[tuple] = [("Hips", "", "pelvis", "", UP)]
    for side in ("Left", "Right"):
        low = side.lower()
        table += [
            (f"{side}UpLeg", "Hips", f"{low}_hip", f"{low}_knee", DOWN),
            (f"{side}Leg", f"{side}UpLeg", f"{low}_knee", f"{low}_ankle", DOWN),
            (f"{side}Foot", f"{side}Leg", f"{low}_ankle", "", BALL, BALL),
            (f"{side}ToeBase", f"{side}Foot", "", "", TOES, TOES),
        ]
    table += [
        ("Spine", "Hips", "pelvis", "spine", UP),
        ("Spine1", "Spine", "spine", "thorax", UP),
        ("Neck", "Spine1", "thorax", "nose", NECK),
        ("Head", "Neck", "nose", "head", HEAD),
    ]
    for side, outwards in (("Left", LEFT), ("Right", RIGHT)):
        low, hand = side.lower(), (FINGERS * outwards[0], 0.0, 0.0)
        table += [
            (f"{side}Shoulder", "Spine1", "thorax", f"{low}_shoulder", (outwards[0], -COLLARBONE_DROP, 0.0)),
            (f"{side}Arm", f"{side}Shoulder", f"{low}_shoulder", f"{low}_elbow", outwards),
            (f"{side}ForeArm", f"{side}Arm", f"{low}_elbow", f"{low}_wrist", outwards),
            (f"{side}Hand", f"{side}ForeArm", f"{low}_wrist", "", hand, hand),
        ]
    names = [row[0] for row in table]
    joints = []
    for name, parent, place, child, rest, *end in table:
        sits, turns = (H36M17.index(joint) if joint else None for joint in (place, child))
        x, y, z = (float(part) for part in np.array(rest) / np.linalg.norm(rest))
        joints.append(RigJoint(name, names.index(parent) if parent else -1, sits, turns, (x, y, z), *end))
    return tuple(joints)


JOINTS = _joints()
# Joint of the rig that sits on every joint of H36M17 but the head's top, which is the end of Head.
PLACES = {joint.place: index for index, joint in reversed(list(enumerate(JOINTS))) if joint.place is not None}


def _bone_axes() -> np.ndarray:
    axes = []
    for joint in JOINTS:
        y = np.array(joint.rest)
        front = np.array(UP if joint.rest[2] > 0.99 else FORWARD)
        x = np.cross(y, front)
        x /= np.linalg.norm(x)
        axes.append(np.stack([x, y, np.cross(x, y)], axis=1))
    return np.stack(axes)


BONE_AXES = _bone_axes()  # (R, 3, 3), columns: +y along the bone in the rest pose, z as far forward as can be


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """Motion of one person's skeleton over T frames; R joints as in ``JOINTS``.

    Attributes:
        offsets: (R, 3) place of every joint in its parent's axes in the rest pose; 0 for the root.
        ends: (R, 3) end of the bones of feet, hands and head in their joint's axes; 0 for all others.
        root: (T, 3) place of the root.
        rotations: (T, R, 3, 3) from every joint's axes to its parent's; the rest pose has none.
        up: (3,) the direction against gravity.
    """

    offsets: np.ndarray
    ends: np.ndarray
    root: np.ndarray
    rotations: np.ndarray
    up: np.ndarray

    @property
    def rest_places(self) -> np.ndarray:
        """Where every joint (R, 3) is in the rest pose, the toes on the floor."""
        places = np.zeros_like(self.offsets)
        for index, joint in enumerate(JOINTS[1:], start=1):
            places[index] = places[joint.parent] + self.offsets[index]
        return places - ((places + self.ends) @ self.up).min() * self.up


def rig_of(joints: np.ndarray, to_axes: np.ndarray, *, has_floor: bool = False) -> Rig:
    """Return the rig of joints (T, 17, 3) with y up and constant bone lengths.

    Args:
        joints: World axes with y up.
        to_axes: (3, 3) rotation from there to the axes that the rig shall have.
        has_floor: Whether there is a floor at height 0, which feet are turned not to go through.
    """
    joints = joints.astype(np.float64)
    offsets, ends = _bones(joints)
    upright = _orientations(joints)  # (T, R, 3, 3) from joint axes to the world
    if has_floor:
        _lift_feet(upright, joints, offsets, ends)
    parents = [joint.parent for joint in JOINTS]
    local = upright.copy()
    local[:, 1:] = np.swapaxes(upright[:, parents[1:]], -1, -2) @ upright[:, 1:]
    return Rig(
        offsets @ to_axes.T,
        ends @ to_axes.T,
        joints[:, H36M17.index("pelvis")] @ to_axes.T,
        to_axes @ local @ to_axes.T,
        to_axes @ np.array(UP),
    )


def _bones(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and ends (R, 3) of the rest pose."""
    offsets, ends = np.zeros((len(JOINTS), 3)), np.zeros((len(JOINTS), 3))
    for index, joint in enumerate(JOINTS[1:], start=1):
        parent = JOINTS[joint.parent]
        if joint.place is None or parent.place is None:
            offsets[index] = ends[joint.parent]
        elif parent.child is None:  # the pelvis, in the middle of the hips
            outwards = {"left": LEFT, "right": RIGHT}.get(joint.side, NOTHING)
            offsets[index] = _length(joints, parent.place, joint.place) * np.array(outwards)
        else:
            offsets[index] = _length(joints, parent.place, joint.place) * np.array(parent.rest)
        ends[index] = np.linalg.norm(offsets[index]) * np.array(joint.end)
        if joint.place is not None and joint.child is not None and joint.child not in PLACES:
            ends[index] = _length(joints, joint.place, joint.child) * np.array(joint.rest)
    ends[[joint.parent for joint in JOINTS if joint.place is None]] = 0  # their bones end at a joint
    return offsets, ends


def _length(joints: np.ndarray, a: int, b: int) -> float:
    return float(np.median(np.linalg.norm(joints[:, b] - joints[:, a], axis=1)))


def _orientations(joints: np.ndarray) -> np.ndarray:
    """Return (T, R, 3, 3), from every joint's axes to the world."""
    at = {name: joints[:, j] for j, name in enumerate(H36M17.names)}
    hips, shoulders = at["left_hip"] - at["right_hip"], at["left_shoulder"] - at["right_shoulder"]
    trunk = {
        "Hips": _frame(at["spine"] - at["pelvis"], hips, is_left_exact=True),
        "Spine": _frame(at["spine"] - at["pelvis"], hips + shoulders),
        "Spine1": _frame(at["thorax"] - at["spine"], shoulders),
    }
    turned = np.empty((len(joints), len(JOINTS), 3, 3))
    for index, joint in enumerate(JOINTS):
        if joint.name in trunk:
            turned[:, index] = trunk[joint.name]
            continue
        turned[:, index] = turned[:, joint.parent]
        if joint.place is not None and joint.child is not None:
            rest = turned[:, joint.parent] @ np.array(joint.rest)
            turned[:, index] = _shortest_turn(rest, joints[:, joint.child] - joints[:, joint.place]) @ turned[:, index]
    return turned


def _lift_feet(upright: np.ndarray, joints: np.ndarray, offsets: np.ndarray, ends: np.ndarray) -> None:
    """Turn feet in ``upright`` (T, R, 3, 3), and then toes, so that their ends are not below height 0."""
    for foot, joint in enumerate(JOINTS):
        if joint.place is None or not joint.name.endswith("Foot"):
            continue
        toes, ball = foot + 1, offsets[foot + 1]  # the toes follow the foot
        heights = joints[:, joint.place, 1]
        turn = _turn_above_floor(upright[:, foot] @ ball, heights)
        upright[:, foot], upright[:, toes] = turn @ upright[:, foot], turn @ upright[:, toes]
        heights = heights + (upright[:, foot] @ ball)[:, 1]
        upright[:, toes] = _turn_above_floor(upright[:, toes] @ ends[toes], heights) @ upright[:, toes]


def _turn_above_floor(bones: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) that lift the ends of bones (T, 3), which begin at ``heights`` (T,), to height 0."""
    length = np.maximum(np.linalg.norm(bones, axis=1, keepdims=True), TINY)
    along = bones / length
    rise = np.clip(-heights[:, None] / length, -1, MOST_RISE)
    lifted = np.sqrt(1 - rise**2) * _unit(along * (1.0, 0.0, 1.0)) + rise * UP
    return _shortest_turn(along, np.where(along[:, 1:2] < rise, lifted, along))


def _frame(up: np.ndarray, left: np.ndarray, *, is_left_exact: bool = False) -> np.ndarray:
    """Return rotations (T, 3, 3) whose columns are left, up and forward; ``up`` is met exactly, or else ``left``."""
    if is_left_exact:
        x = _unit(left)
        y = _unit(_across(up, x))
    else:
        y = _unit(up)
        x = _unit(_across(left, y))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest rotations (T, 3, 3) from directions ``a`` (T, 3), of length 1, to ``b`` (T, 3).

    Half a turn about ``a``, then half a turn about the direction in the middle: a rotation even where the two are
    nearly opposite, when the usual formula divides by next to nothing.
    """
    b = _unit(np.where(np.linalg.norm(b, axis=1, keepdims=True) > TINY, b, a))
    middle = a + b
    any_across = _across(np.zeros_like(a), a)
    middle = _unit(np.where(np.linalg.norm(middle, axis=1, keepdims=True) > TINY, middle, any_across))
    return _half_turn(middle) @ _half_turn(a)


def _half_turn(axis: np.ndarray) -> np.ndarray:
    return 2 * axis[:, :, None] * axis[:, None] - np.eye(3)


def _across(vectors: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the part of vectors (T, 3) at right angles to unit vectors ``axis``; any such one where there is none."""

    def part(candidates: np.ndarray) -> np.ndarray:
        return candidates - (candidates * axis).sum(axis=1, keepdims=True) * axis

    wanted = part(vectors)
    any_axis = np.eye(3)[np.abs(axis).argmin(axis=1)]
    return np.where(np.linalg.norm(wanted, axis=1, keepdims=True) > TINY, wanted, part(any_axis))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (T, 3) of length 1; up where they have none."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > TINY, vectors / np.maximum(length, TINY), UP)
