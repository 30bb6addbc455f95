"""``select_people``: which of the tracked people go on to 3D (``--people``); ids of ``--height`` are checked, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.options import body_heights, person_ids
from detectors.people import Track
from detectors.pose_geometry import body_size


def select_people(tracks: list[Track], people: str) -> list[Track]:
    """Return the tracks that ``Options.people`` asks for, in their order; ids stay as they are.

    ``"largest"`` is who is tallest in the picture (median body size over the frames where they were seen),
    ``"longest"`` who was seen in most frames; of equals, the first. Nobody at all is no error for these and ``"all"``.

    Raises:
        ValueError: An id was asked for that is not among the tracks; the message names those that are.
    """
    if people == "all":
        return tracks
    if people == "largest":
        return [max(tracks, key=_usual_size)] if tracks else []
    if people == "longest":
        return [max(tracks, key=lambda track: int(track.observed.sum()))] if tracks else []
    wanted = person_ids(people)
    _require(wanted, tracks)
    return [track for track in tracks if track.person_id in wanted]


def check_heights(tracks: list[Track], height: str | None) -> None:
    """Raise ValueError if ``Options.height`` names an id that is not among the tracks."""
    _require([person for person in body_heights(height) if person is not None] if height else [], tracks)


def _require(wanted: Sequence[int], tracks: list[Track]) -> None:
    found = [track.person_id for track in tracks]
    if absent := [person for person in wanted if person not in found]:
        raise ValueError(
            f"no person {', '.join(map(str, absent))} in this clip; "
            f"{'found ' + ', '.join(map(str, found)) if found else 'nobody was found'}"
        )


def _usual_size(track: Track) -> float:
    return float(np.median([body_size(pose) for pose in track.keypoints[track.observed]]))
