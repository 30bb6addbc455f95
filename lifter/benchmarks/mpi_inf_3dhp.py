"""MPI-INF-3DHP test set with ground-truth 2D: reads the usual npz, scores a lifter with the measures of its test kit.

The file is ``data_test_3dhp.npz`` as P-STMO's conversion writes it (and MotionAGFormer and others read it). It is not
here and cannot be: the data set is licensed for research. This module is written against the format that published
code writes and reads, so what it expects of the file is an assumption until somebody with the file has run it. It
expects one pickled dict ``data`` from sequence name (TS1 to TS6) to a dict with, for F frames,

======== =============== ===============================================================================================
data_2d  (F, 17, 2)      pixels, origin at the picture's corner: exact projections, not detections
data_3d  (F, 17, 3)      mm, camera axes: ``univ_annot3`` of the test set, bodies scaled to one size
valid    (F,)            1 where the frame is scored
======== =============== ===============================================================================================

Joints in the kit's order: head top, neck, right and left arm, right and left leg, pelvis, spine, head.

Protocol: MPJPE over all 17 joints; PCK@150 mm and AUC as the kit computes them, over 14 joints (without pelvis, spine
and head); means over the valid frames of all sequences together.

Different from published evaluations, which lift every frame as the center of a window of its own and keep the center:

- Our lifters give all frames of a window, so a sequence is lifted once, in overlapping windows that are cross-faded
  (``lifter.windows``), as the app does. Frames near the ends of a sequence see less padding than there.
- Joints are brought to H36M-17 order, which lifters trained on Human3.6M know. Networks trained on 3DHP in the kit's
  own order are not supported.
- Frames are taken as they come, without resampling to 50 frames per second: the file names no rate.
- A lifter trained on Human3.6M cannot know the scale here, so every error is also given after one scale per sequence.

Source: paTRICK-swk/P-STMO and TaatiTeam/MotionAGFormer@bb3bb2e (``data/reader/motion_dataset.py``, ``train_3dhp.py``);
test kit of Mehta et al., 3DV 2017, ``mpii_compute_3d_pck.m``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lifter import metrics
from lifter.benchmarks.safe_pickle import read_object_npz
from lifter.benchmarks.windows import lift_windows, no_progress
from lifter.lift import OVERLAP, Progress
from lifter.load import Lifter
from lifter.skeletons import H36M17, LIMB_JOINTS
from lifter.windows import Windows

KIT_ORDER = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)  # the kit's joint at each place of H36M-17
KIT_JOINTS = (*LIMB_JOINTS, H36M17.index("thorax"), H36M17.index("head"))  # scored by PCK and AUC: its 14 joints
PICTURE_SIZES = {"TS5": (1920, 1080), "TS6": (1920, 1080)}
PICTURE_SIZE = (2048, 2048)  # of all others
# Networks are trained on 2 (X - pelvis) / 2048 with X in mm: half of 2048 is the way back.
MM_PER_UNIT = 1024.0
PUBLISHED_MM_PER_UNIT = {"TS5": 960.0, "TS6": 960.0}  # published code goes back by half of 1920 here: 6 % too small
ERRORS = {
    "P1": "MPJPE, mm",
    "PCK": "PCK@150 mm, %",
    "AUC": "AUC, %",
    "P1 scaled": "MPJPE (scale-aligned), mm",
    "PCK scaled": "PCK (scale-aligned), %",
    "AUC scaled": "AUC (scale-aligned), %",
    "P2": "PA-MPJPE, mm",
}


@dataclass(frozen=True, eq=False)
class TestSequence:
    """One test sequence in H36M-17 order.

    Attributes:
        name: TS1 to TS6.
        keypoints_px: (F, 17, 2) float64 pixels; the center of the first pixel is (0, 0).
        joints: (F, 17, 3) float64 meters, pelvis at the origin.
        is_valid: (F,) bool, frames that are scored.
        picture_size: Width and height.
    """

    __test__ = False  # no test class, whatever pytest thinks

    name: str
    keypoints_px: np.ndarray
    joints: np.ndarray
    is_valid: np.ndarray
    picture_size: tuple[int, int]


def read_3dhp(path: Path) -> list[TestSequence]:
    """Return the test sequences of ``data_test_3dhp.npz``; runs no code from the file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file; the text says what is missing or wrong.
    """
    content = read_object_npz(path, "data")
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no dict of sequences under 'data'; expected data_test_3dhp.npz")
    return [_sequence(path, str(name), arrays) for name, arrays in content.items()]


def _sequence(path: Path, name: str, arrays: dict) -> TestSequence:
    if not isinstance(arrays, dict) or not {"data_2d", "data_3d", "valid"} <= arrays.keys():
        have = ", ".join(map(str, arrays)) if isinstance(arrays, dict) else type(arrays).__name__
        raise ValueError(f"{path}: {name} must hold data_2d, data_3d and valid (the test file), got {have}")
    keypoints, joints, valid = (np.asarray(arrays[key], np.float64) for key in ("data_2d", "data_3d", "valid"))
    frames = valid.size
    if keypoints.shape != (frames, 17, 2) or joints.shape != (frames, 17, 3) or frames == 0:
        raise ValueError(
            f"{path}: {name} must have data_2d ({frames}, 17, 2) and data_3d ({frames}, 17, 3) for its {frames} flags "
            f"'valid', got {keypoints.shape} and {joints.shape}"
        )
    if not np.isfinite(keypoints).all() or not np.isfinite(joints).all():
        raise ValueError(f"{path}: {name} holds numbers that are not finite")
    order = list(KIT_ORDER)
    return TestSequence(
        name,
        keypoints[:, order] - 0.5,
        metrics.root_relative(joints[:, order] / metrics.MM),
        valid.reshape(frames).astype(bool),
        PICTURE_SIZES.get(name, PICTURE_SIZE),
    )


def score_3dhp(
    lifter: Lifter,
    sequences: list[TestSequence],
    *,
    use_flip: bool = True,
    use_published_scale: bool = False,
    progress: Progress = no_progress,
) -> dict[str, dict[str, float]]:
    """Return the errors of ``ERRORS`` and the scored ``frames`` by sequence, and over all of them as ``"all"``.

    Args:
        lifter: From ``lifter.load_lifter``.
        sequences: From ``read_3dhp``.
        use_flip: Whether to average with the mirrored input, as published.
        use_published_scale: Whether TS5 and TS6 are brought to mm by 960 instead of 1024, a slip of published code
            that published numbers contain. Without effect on a lifter that gives meters.
        progress: Wraps the batches; gets them and their number.

    Raises:
        ValueError: No valid frame, or an output that is not finite.
    """
    errors: dict[str, dict[str, np.ndarray]] = {}
    for sequence in sequences:
        if not sequence.is_valid.any():
            continue
        joints = lift_sequence(lifter, sequence, use_flip, use_published_scale, progress)
        errors[sequence.name] = _errors(joints[sequence.is_valid], sequence.joints[sequence.is_valid])
    if not errors:
        raise ValueError(f"no valid frame in the sequences {[s.name for s in sequences]}")
    errors["all"] = {name: np.concatenate([rows[name] for rows in errors.values()]) for name in ERRORS}
    return {
        name: {"frames": float(len(rows["P1"])), **{key: float(values.mean()) for key, values in rows.items()}}
        for name, rows in errors.items()
    }


def lift_sequence(
    lifter: Lifter,
    sequence: TestSequence,
    use_flip: bool,
    use_published_scale: bool,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Return joints (F, 17, 3) in meters, pelvis at 0, of all frames of a sequence, valid or not.

    Raises:
        ValueError: An output that is not finite.
    """
    plan = Windows(len(sequence.is_valid), lifter.window, int(lifter.window * OVERLAP))
    sizes = np.repeat([sequence.picture_size], len(plan.starts), axis=0)
    keypoints_px = plan.split(sequence.keypoints_px)
    certain = np.ones(keypoints_px.shape[:-1])  # true 2D
    windows = lift_windows(lifter, keypoints_px, certain, sizes, use_flip, progress)
    joints = plan.merge(windows)
    if lifter.unit == "m":
        return joints
    published = PUBLISHED_MM_PER_UNIT.get(sequence.name, MM_PER_UNIT)
    return joints * (published if use_published_scale else MM_PER_UNIT) / metrics.MM


def _errors(joints: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the errors (F,) of every frame."""
    scaled = metrics.clip_scale(joints, truth) * joints
    return {
        "P1": metrics.mpjpe(joints, truth),
        "PCK": metrics.pck(joints, truth, KIT_JOINTS),
        "AUC": metrics.auc(joints, truth, KIT_JOINTS),
        "P1 scaled": metrics.mpjpe(scaled, truth),
        "PCK scaled": metrics.pck(scaled, truth, KIT_JOINTS),
        "AUC scaled": metrics.auc(scaled, truth, KIT_JOINTS),
        "P2": metrics.p_mpjpe(joints, truth),
    }
