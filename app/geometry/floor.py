"""Floors: the level at which a body rests on its lowest part, and the one that people in a still shot share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.geometry.gravity import stance_level
from app.geometry.world import body_height
from app.motion import Pose3D
from detectors.people import Track
from lifter.skeletons import H36M17

# How high joints are over the floor that a body touches there, in lengths of ``body_height``: a standing foot in shoes,
# the palm or the fingers of a hand below its wrist, and so on.
ANKLE_HEIGHT = 0.06
TOUCHING = {"ankle": ANKLE_HEIGHT, "wrist": 0.07, "knee": 0.04, "elbow": 0.03, "head": 0.02, "nose": 0.05}
TRUNK_HEIGHT = 0.06
TOUCHING_HEIGHTS = np.array([TOUCHING.get(name.split("_")[-1], TRUNK_HEIGHT) for name in H36M17.names])

LEAST_SHARE = 0.1  # of a person's frames whose lowest part must be seen, for a floor to be known
DEEPER_M, DEEPER_FRAMES = 0.25, 5  # who is so much lower for so long has come down: that level is the floor
# Levels of two people are one floor if they differ by no more than this, plus shares of the camera's height (sizes of
# adults) and of the distance (a tilt of two degrees) ...
SAME_M, SAME_SIZE, SAME_TILT = 0.15, 0.15, 0.035
# ... or if one may be so much taller, or smaller, than assumed: distances, and the floor's, grow with the size.
TALLER, SMALLER = 0.7, 1.8
LOWER_WINS = 0.6  # people stand on walls, seldom in pits: a lower level needs only this share of the highest vote


@dataclass(frozen=True, slots=True)
class Floor:
    """The floor that a person is placed over.

    Attributes:
        height: Over the camera (over the pelvis without a trajectory) [m].
        is_own: Whether it is where this person rests, instead of where others do.
        above: How far the person rests above (negative: below) what others rest on; 0 where that may be one floor.
    """

    height: float
    is_own: bool = True
    above: float = 0.0


def resting_level(places: np.ndarray, track: Track, pose: Pose3D) -> float | None:
    """Return the height of what a body rests on: below the feet of somebody who stands, the hands of a handstand.

    None if the lowest part of the body is hardly ever seen: nothing is known of what carries somebody before a webcam.

    Args:
        places: (T, 17, 3) joints with y up, in the size of ``pose``.
        track: Of the person.
        pose: Of the person.
    """
    heights = places[track.observed][..., 1] - TOUCHING_HEIGHTS * body_height(pose.joints, track.valid)
    lowest, rows = heights.argmin(axis=1), np.arange(len(heights))
    is_seen = ~pose.unseen[track.observed][rows, lowest]
    if is_seen.mean() < LEAST_SHARE:
        return None
    heights = heights[rows, lowest][is_seen]
    trust = np.maximum(pose.scores[track.observed][rows, lowest][is_seen], 0.01)
    level = stance_level(heights, trust)
    while (is_deeper := heights < level - DEEPER_M).sum() >= DEEPER_FRAMES:
        level = min(stance_level(heights[is_deeper], trust[is_deeper]), level - DEEPER_M / 2)
    return level


def shared_floors(levels: Sequence[float | None], distances: Sequence[float], votes: Sequence[float]) -> list[Floor]:
    """Return everybody's floor in a shot whose camera stands still, by a vote for the floor that most rest on.

    Who takes part in it is placed on it exactly, as sizes, and with them heights of the floor, are known to some per
    cent. Whoever rests higher stands on something and keeps that height. Nobody is put below a floor: who seems to be
    keeps his own. Who has no level gets that of the others.

    Args:
        levels: Of ``resting_level``; at least one is known.
        distances: Of everybody from the camera [m].
        votes: How much each level counts: seconds seen.
    """
    known = {i: level for i, level in enumerate(levels) if level is not None}
    supporters = {
        c: [i for i, level in known.items() if _is_same(level, other, distances[i])] for c, other in known.items()
    }
    weight = {c: sum(votes[i] for i in supporters[c]) for c in known}
    enough = LOWER_WINS * max(weight.values())
    chosen = supporters[min((c for c in known if weight[c] >= enough), key=lambda c: known[c])]
    common = float(np.median([known[i] for i in chosen]))
    floors = []
    for i, level in enumerate(levels):
        if level is None:
            floors.append(Floor(common, is_own=False))
        elif i in chosen:
            floors.append(Floor(level))
        elif level > common:
            floors.append(Floor(common, is_own=False, above=level - common))
        else:
            floors.append(Floor(level, above=level - common))
    return floors


def _is_same(level: float, other: float, distance: float) -> bool:
    """Return whether a person's level may be the floor ``other``."""
    if abs(level - other) <= SAME_M + SAME_SIZE * abs(other) + SAME_TILT * distance:
        return True
    return level < 0 and other < 0 and TALLER <= level / other <= SMALLER
