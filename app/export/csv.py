"""``pose.csv``: a tidy table, one row per person, frame and joint, for pandas, R and spreadsheets.

Columns: ``person``; ``frame``; ``time_s``; ``joint``, a name of H36M-17; ``x_m, y_m, z_m``, world axes as in
``app.geometry.world`` (``x_normalized`` and so on if the lifter has no meters); ``u_px, v_px``, the joint in the
picture; ``score``; ``observed`` and ``valid``, 1 or 0; ``valid`` is 0 for unseen joints, too. Where it is 0, places are
empty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.results import PoseResult
from lifter.skeletons import H36M17, coco17_to_h36m17


def write_csv(result: PoseResult, path: Path) -> None:
    """Write all people of ``result``; with nobody, the header alone."""
    places = ",".join(f"{axis}_{result.models.unit}" for axis in "xyz")
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(f"person,frame,time_s,joint,{places},u_px,v_px,score,observed,valid\n")
        for index, (track, pose) in enumerate(result.people):
            joints = result.world_joints(index)
            pixels = coco17_to_h36m17(track.keypoints)
            for t, frame in enumerate(track.frames.tolist()):
                start = f"{track.person_id},{frame},{result.video.timestamps_s[frame]:.6f}"
                is_valid = track.valid[t] & ~pose.unseen[t]
                for j, name in enumerate(H36M17.names):
                    where = _numbers(joints[t, j], 5) + "," + _numbers(pixels[t, j], 2) if is_valid[j] else ",,,,"
                    flags = f"{pose.scores[t, j]:.3f},{int(track.observed[t])},{int(is_valid[j])}"
                    file.write(f"{start},{name},{where},{flags}\n")


def _numbers(values: np.ndarray, decimals: int) -> str:
    return ",".join(f"{value:.{decimals}f}" for value in values)
