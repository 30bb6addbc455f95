"""``pose.person0.trc``: one person's joints as markers, for OpenSim and other tools of biomechanics.

Meters (or the lifter's own unit), world axes as in ``app.geometry.world``; OpenSim expects y up. One row per frame of
the video, at its time. Cells are empty where the person is not there or not ``valid``, and where a joint is unseen:
OpenSim reads them as missing markers. Markers have the names of Pose2Sim's marker sets (Halpe_26 and others), but for
the spine, which is in none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.export.frame_times import frame_rate, frame_times
from app.results import PoseResult
from lifter.skeletons import H36M17

SETTINGS = (
    "DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame", "OrigNumFrames",
)  # fmt: skip
MARKERS = {"pelvis": "Hip", "spine": "Spine", "thorax": "Neck", "nose": "Nose", "head": "Head"} | {
    f"{side}_{part}": f"{side[0].upper()}{part.capitalize()}"
    for side in ("left", "right")
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
}


def write_trc(result: PoseResult, path: Path, index: int) -> None:
    """Write the person at ``index`` of ``result.tracks``."""
    track, video = result.tracks[index], result.video
    markers = np.full((video.num_frames, len(H36M17.names), 3), np.nan)
    is_shown = track.valid[:, None] & ~result.poses[index].unseen
    markers[track.frames] = np.where(is_shown[..., None], result.world_joints(index), np.nan)
    rate, count = f"{frame_rate(video):.6f}", str(video.num_frames)
    names = [MARKERS[name] for name in H36M17.names]
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\tpose.person{track.person_id}.trc",
        "\t".join(SETTINGS),
        "\t".join([rate, rate, count, str(len(names)), result.models.unit, rate, "1", count]),
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in names),
        "\t\t" + "".join(f"X{n}\tY{n}\tZ{n}\t" for n in range(1, len(names) + 1)),
        "",
    ]
    for number, (time, row) in enumerate(zip(frame_times(video), markers.reshape(video.num_frames, -1), strict=True)):
        cells = ["" if np.isnan(value) else f"{value:.5f}" for value in row]
        lines.append("".join(f"{cell}\t" for cell in (str(number + 1), f"{time:.6f}", *cells)))  # every cell ends so
    path.write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace", newline="\n")
