"""``pose.csv``: a tidy table, one row per person, frame and joint, for pandas, R and spreadsheets.

Columns: ``person``; ``frame``; ``time_s``; ``joint``, a name of H36M-17; ``x_m, y_m, z_m``, world axes as in
``app.geometry.world`` (``x_normalized`` and so on if the lifter has no meters); ``u_px, v_px``, the joint in the
picture; ``score``; ``observed`` and ``valid``, 1 or 0. Where ``valid`` is 0, places are empty.
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
                flags = f"{int(track.observed[t])},{int(track.valid[t])}"
                for name, joint, pixel, score in zip(H36M17.names, joints[t], pixels[t], pose.scores[t], strict=True):
                    where = _numbers(joint, 5) + "," + _numbers(pixel, 2) if track.valid[t] else ",,,,"
                    file.write(f"{start},{name},{where},{score:.3f},{flags}\n")


def _numbers(values: np.ndarray, decimals: int) -> str:
    return ",".join(f"{value:.{decimals}f}" for value in values)
