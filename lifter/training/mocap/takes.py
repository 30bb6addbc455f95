"""A take: one recorded skeleton in motion, read from any format, and its forward kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from scipy.spatial.transform import Rotation

# Files come from strangers: what is larger than any real recording is refused before it is worked on.
MAX_BYTES = 512 * 2**20
MAX_FRAMES = 2_000_000
MAX_JOINTS = 512
MAX_DEPTH = 128
MAX_VALUE = 1e6  # degrees, or units of length: no body is a million of anything away
FRAME_TIMES_S = (0.001, 0.1)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """One joint of a take, in the file's own axes and unit of length.

    Attributes:
        name: As in the file.
        parent: Index of the joint it hangs on, -1 for the root; parents come before their children.
        offset: (3,) place in the parent's axes while nothing moves it.
        moves: (column, axis): this channel is the place along that axis instead of the offset's.
        turns: (column, axis): rotations by these channels, the leftmost factor of the matrix product first.
        axes: (3, 3) axes that ``turns`` are given in, as columns; None for the parent's.
    """

    name: str
    parent: int
    offset: np.ndarray
    moves: tuple[tuple[int, int], ...] = ()
    turns: tuple[tuple[int, int], ...] = ()
    axes: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """A skeleton and its motion.

    Attributes:
        joints: The skeleton.
        channels: (F, C) float64, angles in radians, lengths in the file's unit.
        fps: Frames per second.
        unit_m: Metres per unit of length, None if the file does not say.
    """

    joints: tuple[Joint, ...]
    channels: np.ndarray
    fps: float
    unit_m: float | None = None


def open_text(path: Path) -> TextIO:
    """Return an open text file.

    Raises:
        ValueError: It has more than ``MAX_BYTES``.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 2**20:.0f} MB, expected at most {MAX_BYTES // 2**20}")
    return path.open(encoding="utf-8-sig", errors="replace")


def numbers(words: Sequence[str], count: int, what: str) -> np.ndarray:
    """Return ``count`` words as finite float64 (count,); ValueError that names ``what`` otherwise."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not (np.abs(values) < MAX_VALUE).all():
        raise ValueError(f"{what} is {' '.join(words[:6])!r}, expected {count} finite numbers")
    return values


def require_usable(rows: np.ndarray) -> None:
    """Raise ValueError unless all values of rows (F, C) are finite and below ``MAX_VALUE``."""
    is_usable = (np.abs(rows) < MAX_VALUE).all(axis=1)  # NaN compares as false
    if not is_usable.all():
        raise ValueError(f"frame {int(is_usable.argmin()) + 1} has values that are no usable numbers")


def to_radians(joints: Sequence[Joint], channels: np.ndarray) -> None:
    """Turn the angles among ``channels`` (F, C) from degrees to radians, in place."""
    columns = [column for joint in joints for column, _ in joint.turns]
    channels[:, columns] = np.radians(channels[:, columns])


def place(take: Take, wanted: Sequence[int], frames: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where joints are and how they are turned, by forward kinematics over all frames at once.

    Args:
        take: Skeleton and motion.
        wanted: K indices of joints.
        frames: Which n frames of the take.

    Returns:
        Positions (n, K, 3) in the file's axes and unit, and rotations (n, K, 3, 3) from the joint's axes to those.
    """
    channels = take.channels[frames]
    positions: dict[int, np.ndarray] = {-1: np.zeros((len(channels), 3))}
    turned: dict[int, np.ndarray] = {-1: np.broadcast_to(np.eye(3), (len(channels), 3, 3))}
    for index in with_ancestors(take.joints, wanted):
        joint = take.joints[index]
        offset = np.tile(joint.offset, (len(channels), 1))
        for column, axis in joint.moves:
            offset[:, axis] = channels[:, column]
        parent = turned[joint.parent]
        positions[index] = positions[joint.parent] + (parent @ offset[..., None])[..., 0]
        turned[index] = parent @ own_rotation(joint, channels) if joint.turns else parent
    return np.stack([positions[i] for i in wanted], axis=1), np.stack([turned[i] for i in wanted], axis=1)


def own_rotation(joint: Joint, channels: np.ndarray) -> np.ndarray:
    """Return the rotations (n, 3, 3) of a joint against its parent; ``channels`` is (n, C)."""
    order = "".join("XYZ"[axis] for _, axis in joint.turns)  # capitals: every rotation about the axes turned so far
    product = Rotation.from_euler(order, channels[:, [column for column, _ in joint.turns]]).as_matrix()
    return product if joint.axes is None else joint.axes @ product @ joint.axes.T


def rest_positions(take: Take, wanted: Sequence[int]) -> np.ndarray:
    """Return (K, 3) where joints are while nothing moves or turns them."""
    positions = {-1: np.zeros(3)}
    for index in with_ancestors(take.joints, wanted):
        joint = take.joints[index]
        positions[index] = positions[joint.parent] + joint.offset
    return np.stack([positions[i] for i in wanted])


def with_ancestors(joints: Sequence[Joint], wanted: Sequence[int]) -> list[int]:
    """Return the joints ``wanted`` and all they hang on, parents first."""
    needed: set[int] = set()
    for index in wanted:
        while index >= 0 and index not in needed:
            needed.add(index)
            index = joints[index].parent
    return sorted(needed)
