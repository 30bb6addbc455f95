"""Human3.6M with detected 2D: reads the usual pickle and scores a lifter by the published protocol.

The file is MotionBERT's ``h36m_sh_conf_cam_source_final.pkl`` (stacked-hourglass 2D), which PoseMamba and
MotionAGFormer evaluate on. It is not here and cannot be: its license allows research by registered users. This module
is written against the format that published code reads, so what it expects of the file is an assumption until somebody
with the file has run it. It expects a dict ``test`` with, for F frames in order of their sources:

==================== ================ =====================================================================
joint_2d             (F, 17, 2 or 3)  pixels, origin at the picture's corner; a third channel is ignored
confidence           (F, 17[, 1])     of the detector, in [0, 1]; only for networks that read it
camera_name          (F,)             one of the four cameras in ``PICTURE_SIZES``
source               (F,)             recording, such as s_09_act_02_subact_01_ca_01; one after the other
action               (F,)             one of 15 actions
2.5d_factor          (F,)             millimeters per pixel of that frame: the true scale
joints_2.5d_image    (F, 17, 3)       truth in mm: pixels and depth in pixel scale, times the factor
==================== ================ =====================================================================

``joint3d_image`` is not needed here: it is for training.

Source of the protocol: Walter0807/MotionBERT@20db205, ``lib/data/datareader_h36m.py`` and ``train.py``. Different here:

- A source shorter than a window is stretched by the fixed index ``floor(i T / 243)``; there with a random one.
- Frames with an error of exactly 0 are dropped, as there (so that frames outside all clips do not count); but an output
  that is not finite, which is silently dropped there, is an error here.
- Clips are always cut from this file; clips cut beforehand (folders of ``%08d.pkl``) hold neither camera nor scale.
- N-MPJPE and MPJVE are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lifter import metrics
from lifter.benchmarks.safe_pickle import read_pickle
from lifter.benchmarks.windows import lift_windows, no_progress
from lifter.lift import Progress
from lifter.load import Lifter

FPS = 50.0
PICTURE_SIZES = {"54138969": (1000, 1002), "60457274": (1000, 1002), "55011271": (1000, 1000), "58860488": (1000, 1000)}
CAMERA_SUFFIX = "_ca_01"  # of a source; what stands before it names the recording
# Recordings of subject 9 whose truth is wrong: the body lies beside the person in the picture.
DROPPED = ("s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01")
ERRORS = {
    "P1": "MPJPE, mm",
    "P2": "PA-MPJPE, mm",
    "N": "N-MPJPE, mm",
    "V": "MPJVE, mm per frame",
}


@dataclass(frozen=True, eq=False)
class H36M:
    """The test half of the file, frame by frame.

    Attributes:
        keypoints_px: (F, 17, 2) float64, H36M-17, pixels; the center of the first pixel is (0, 0).
        scores: (F, 17) in [0, 1]; None if the file has none.
        picture_sizes: (F, 2) width and height.
        sources: (F,) recording and camera.
        actions: (F,) action.
        mm_per_px: (F,) true scale.
        joints_mm: (F, 17, 3) truth.
    """

    keypoints_px: np.ndarray
    scores: np.ndarray | None
    picture_sizes: np.ndarray
    sources: np.ndarray
    actions: np.ndarray
    mm_per_px: np.ndarray
    joints_mm: np.ndarray


def read_h36m(path: Path) -> H36M:
    """Return the test half of the pickle at ``path``, or of the only ``h36m*.pkl`` in that folder; runs no code of it.

    Raises:
        FileNotFoundError: No such file, or none or several in the folder.
        ValueError: Not a plain pickle, or not in the documented format; the text says what is missing or wrong.
    """
    file = _find(Path(path))
    content = read_pickle(file)
    if not isinstance(content, dict) or not isinstance(content.get("test"), dict):
        raise ValueError(f"{file} holds no dict 'test'; expected h36m_sh_conf_cam_source_final.pkl")
    test = content["test"]
    cameras = _column(file, test, "camera_name", str)
    unknown = sorted(set(cameras) - set(PICTURE_SIZES))
    if unknown:
        raise ValueError(f"{file} names the cameras {unknown[:4]}; expected {', '.join(PICTURE_SIZES)}")
    known, index = np.unique(cameras, return_inverse=True)
    scores = _column(file, test, "confidence", np.float64, 17) if "confidence" in test else None
    return H36M(
        keypoints_px=_column(file, test, "joint_2d", np.float64, 17)[..., :2] - 0.5,
        scores=None if scores is None else scores.reshape(len(cameras), 17),
        picture_sizes=np.array([PICTURE_SIZES[str(name)] for name in known])[index],
        sources=_column(file, test, "source", str),
        actions=_column(file, test, "action", str),
        mm_per_px=_column(file, test, "2.5d_factor", np.float64).reshape(len(cameras)),
        joints_mm=_column(file, test, "joints_2.5d_image", np.float64, 17),
    )


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("h36m*.pkl"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"expected one h36m*.pkl in {path}, found {names}; pass the file itself")
    return found[0]


def _column(file: Path, test: dict[str, Any], key: str, dtype: type, *joints: int) -> np.ndarray:
    """Return an array with one row per frame: (F, *joints, ...) of finite numbers, or (F,) texts."""
    for needed in ("source", key):
        if needed not in test:
            raise ValueError(f"{file} lacks test/{needed}; it holds {', '.join(map(str, test))}")
    axes = (len(test["source"]), *joints)
    try:
        values: np.ndarray = np.asarray(test[key]).astype(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: test/{key} is no array of numbers or texts: {error}") from error
    if dtype is str and values.shape != axes:
        raise ValueError(f"{file}: test/{key} must have shape {axes}, got {values.shape}")
    if values.shape[: len(axes)] != axes or (dtype is not str and not np.isfinite(values).all()):
        raise ValueError(f"{file}: test/{key} must hold finite numbers {axes}, got shape {values.shape}")
    return values


def cut_clips(sources: np.ndarray, window: int) -> np.ndarray:
    """Return (clips, window) int64, the frames of the test clips: windows one after another inside every source.

    A tail that does not fill a window is dropped. A source shorter than a window is stretched to one, but for the last
    source of the list, which is lost. Both as published.
    """
    borders = np.flatnonzero(sources[1:] != sources[:-1]) + 1
    starts, ends = np.concatenate([[0], borders]), np.concatenate([borders, [len(sources)]])
    clips = [np.zeros((0, window), np.int64)]
    for start, end in zip(starts, ends, strict=True):
        count = (end - start) // window
        if count:
            clips.append(start + np.arange(count * window).reshape(count, window))
        elif end < len(sources):
            clips.append(start + (np.arange(window) * (end - start) // window)[None])
    return np.concatenate(clips)


def score_h36m(
    lifter: Lifter,
    data: H36M,
    *,
    use_flip: bool = True,
    progress: Progress = no_progress,
) -> dict[str, dict[str, float]]:
    """Return the errors of ``ERRORS`` by action, and their plain mean over the actions under ``"mean"``.

    P1, P2 and N are means over the frames of an action, V over the steps between frames inside its unstretched clips.

    Args:
        lifter: From ``lifter.load_lifter``; its window is the clip length, 243 for published weights.
        data: From ``read_h36m``.
        use_flip: Whether to average with the mirrored input, as published.
        progress: Wraps the batches; gets them and their number.

    Raises:
        ValueError: No clip in the data, an output that is not finite, or conventions that give no millimeters.
    """
    clips = cut_clips(data.sources, lifter.window)
    recordings = [str(source)[: -len(CAMERA_SUFFIX)] for source in data.sources[clips[:, 0]]]
    clips = clips[[recording not in DROPPED for recording in recordings]]
    if len(clips) == 0:
        raise ValueError(f"no clip of {lifter.window} frames in the data; expected the test half of Human3.6M")
    per_frame = {name: np.zeros(len(data.sources)) for name in ("P1", "P2", "N")}
    velocity: dict[str, list[float]] = {str(action): [] for action in np.unique(data.actions)}
    for frames, joints in zip(clips, lift_clips(lifter, data, clips, use_flip, progress), strict=True):
        truth = data.joints_mm[frames] / metrics.MM
        # A stretched clip repeats frames; the last copy counts, as published.
        per_frame["P1"][frames] = metrics.mpjpe(joints, truth)
        per_frame["P2"][frames] = metrics.p_mpjpe(joints, truth)
        per_frame["N"][frames] = metrics.n_mpjpe(joints, truth)
        if len(np.unique(frames)) == len(frames):
            velocity[str(data.actions[frames[0]])] += metrics.velocity_error(joints, truth).tolist()
    return _by_action(data.actions, per_frame, velocity)


def lift_clips(
    lifter: Lifter, data: H36M, clips: np.ndarray, use_flip: bool, progress: Progress = no_progress
) -> np.ndarray:
    """Return joints (clips, T, 17, 3) in meters, pelvis at 0, camera axes, for the frames ``clips`` (clips, T).

    Normalized units become meters by the true ``2.5d_factor`` of every frame: published figures are at the true scale
    and depth. Meters are taken as they are, at the size of a nominal adult. (The truth in this file is the picture of
    the body, scaled as a whole: perspective is left in, which costs a lifter that gives meters some millimeters.)

    Raises:
        ValueError: An output that is not finite, normalized units of another normalization than "picture", or a
            network that reads scores where the data has none.
    """
    if lifter.unit == "normalized" and lifter.normalization != "picture":
        raise ValueError(f"unit 'normalized' needs normalization 'picture', the lifter has {lifter.normalization!r}")
    if lifter.channels == 3 and data.scores is None:
        raise ValueError(f"{lifter.name} reads the scores of keypoints; the file lacks test/confidence")
    scores = np.ones(data.keypoints_px.shape[:2]) if data.scores is None else data.scores
    sizes = data.picture_sizes[clips[:, 0]]
    joints = lift_windows(lifter, data.keypoints_px[clips], scores[clips], sizes, use_flip, progress)
    if lifter.unit == "m":
        return joints
    # The published order comes to the same: back to pixels, times the factor, minus the pelvis.
    half_width = sizes[:, 0, None, None, None] / 2
    return joints * half_width * data.mm_per_px[clips][..., None, None] / metrics.MM


def _by_action(
    actions: np.ndarray, per_frame: dict[str, np.ndarray], velocity: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Return mean errors by action, and the mean of the actions; actions without a scored frame are left out."""
    is_scored = per_frame["P1"] > 0
    table = {}
    for action, steps in velocity.items():
        frames = is_scored & (actions == action)
        if frames.any():
            table[action] = {name: float(errors[frames].mean()) for name, errors in per_frame.items()}
            table[action]["V"] = float(np.mean(steps)) if steps else float("nan")
    table["mean"] = {name: float(np.nanmean([row[name] for row in table.values()])) for name in ERRORS}
    return table
