"""``posemamba evaluate``: tables of a lifter's errors on clips with truth, held-out mocap and public benchmarks."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation import tracking_metrics
from app.evaluation.compare_lifters import side_by_side
from app.evaluation.keypoint_errors import of_clip, of_stills, tables
from app.evaluation.smoothness import DETECTOR_LIKE, EXACT, assess_steadiness, certain_track, long_clips
from app.evaluation.trajectory_errors import placement_tables
from app.options import Options
from app.pipeline import cached_lifter, choice_of, detector_of, estimate, lift_tracks
from app.progress import Progress, silent
from app.results import PoseResult
from app.video.reader import VideoReader
from lifter import metrics
from lifter.benchmarks import h36m, mpi_inf_3dhp
from lifter.training.augmentation_config import AugmentationConfig
from lifter.training.mocap.library import load_motion, read_npz
from lifter.training.validation import validate

COLUMNS = {
    "limbs_scaled": "12 limbs, root-relative, one scale",
    "limbs_pa": "12 limbs, Procrustes",
    "limbs_in_plane": "12 limbs, one scale, in the picture plane",
    "limbs_depth": "12 limbs, one scale, depth",
    "limbs_root_relative": "12 limbs, root-relative, as it is",
    "all_root_relative": "17 joints, root-relative, as it is",
    "all_pa": "17 joints, Procrustes",
    "jitter_ratio": "jitter over truth",
}
SHORT_WINDOW = 81  # frames; a network that has learned to use long windows is better in them than in these
PIXELS, EXACT_2D, MEDIAPIPE = "pixels, this app", "exact 2D, this app", "MediaPipe world landmarks"
PIXELS_SHORT, EXACT_2D_SHORT = (f"{source}, windows of {SHORT_WINDOW} frames" for source in ("pixels", "exact 2D"))


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated.

    Attributes:
        clips: Videos with ground truth.
        truth: Ground truth of the only clip; None looks for ``<stem>.gt.npz`` beside every clip.
        motion: Folder with mocap.
        compared: Lifters to score on it, with that of the options, in one short table instead of the long ones.
        h36m: Human3.6M pickle, or its folder.
        mpi_inf_3dhp: MPI-INF-3DHP test npz.
        use_published_scale: See ``lifter.benchmarks.mpi_inf_3dhp.score_3dhp``.
        has_detector_errors: Whether to measure the 2D detector on the clips, too.
        stills: COCO keypoints file of still pictures to measure the 2D detector on.
        has_placement: Whether to score trajectories and tilt on the clips, too.
    """

    clips: tuple[Path, ...] = ()
    truth: Path | None = None
    motion: Path | None = None
    compared: tuple[str, ...] = ()
    h36m: Path | None = None
    mpi_inf_3dhp: Path | None = None
    use_published_scale: bool = False
    has_detector_errors: bool = False
    stills: Path | None = None
    has_placement: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Tables on one subject, and the command that prints them."""

    title: str
    command: str
    tables: list[Table]


def evaluations(request: EvaluationRequest, options: Options, progress: Progress = silent) -> Iterator[Evaluation]:
    """Yield everything that was asked for, one after the other.

    Raises:
        FileNotFoundError: A file or weights are missing.
        ValueError: A file does not hold what it should.
    """

    def command(*arguments: str | Path) -> str:
        usual = Options()
        settings = [("--device", options.device, usual.device), ("--backend", options.backend, usual.backend)]
        settings += [("--quality", options.quality, usual.quality)]
        settings += [("--detector-weights", name, "") for name in options.detector_weights]
        if options.detector_weights:
            settings.append(("--detector", options.detector, ""))
        others = [text for flag, value, default in settings if value != default for text in (flag, value)]
        return shlex.join(["posemamba", "evaluate", *map(str, arguments), "--lifter", options.lifter, *others])

    if request.motion is not None:
        yield Evaluation(
            "Held-out motion capture",
            command("--motion", request.motion, *(text for name in request.compared for text in ("--compare", name))),
            [side_by_side(request.motion, [options.lifter, *request.compared], options, progress)]
            if request.compared
            else evaluate_motion(request.motion, options, progress),
        )
    if request.clips:
        truth = () if request.truth is None else ("--truth", request.truth)
        yield Evaluation(
            "Rendered clips, from pixels",
            command(*request.clips, *truth),
            evaluate_clips(request.clips, request.truth, options),
        )
    if request.has_placement and request.clips:
        truths = [request.truth or truth_beside(clip) for clip in request.clips]
        yield Evaluation(
            "Rendered clips, places in the world",
            command(*request.clips, "--placement"),
            placement_tables(request.clips, truths, options),
        )
    if request.has_detector_errors and request.clips:
        watched = [tracking_metrics.watch(clip, request.truth or truth_beside(clip), options) for clip in request.clips]
        yield Evaluation(
            f"Errors of the 2D detector {options.detector}, over time",
            command(*request.clips, "--detector-errors"),
            [
                tracking_metrics.table(watched),
                *tables(f"{options.detector} on {len(watched)} clips", list(map(of_clip, watched))),
            ],
        )
    if request.stills is not None:
        detector = detector_of(options, "cpu")
        yield Evaluation(
            f"Errors of the 2D detector {options.detector}, on still pictures",
            command("--stills", request.stills),
            list(tables(f"{options.detector} on stills", [of_stills(request.stills, detector)])),
        )
    if request.h36m is not None:
        yield Evaluation(
            "Human3.6M, detected 2D", command("--h36m", request.h36m), [evaluate_h36m(request.h36m, options, progress)]
        )
    if request.mpi_inf_3dhp is not None:
        slip = ("--published-scale",) if request.use_published_scale else ()
        yield Evaluation(
            "MPI-INF-3DHP, exact 2D",
            command("--mpi-inf-3dhp", request.mpi_inf_3dhp, *slip),
            [evaluate_3dhp(request.mpi_inf_3dhp, options, request.use_published_scale, progress)],
        )


def _table(title: str, columns: Iterable[str]) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


# --------------------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class Score:
    """Errors of one person in one clip: ``metrics.summary`` in mm and the jitter ratio, over ``frames`` frames."""

    source: str
    person: int
    frames: int
    errors: dict[str, float]


def evaluate_clips(clips: Iterable[Path], truth: Path | None, options: Options) -> list[Table]:
    """Return a table per clip, and for more than one person in all a table of means over people.

    Raises:
        FileNotFoundError: A clip or its truth is missing.
        ValueError: As ``score_clip``.
    """
    scores = {clip: score_clip(clip, truth or truth_beside(clip), options) for clip in clips}
    tables = [_clip_table(clip, rows) for clip, rows in scores.items()]
    for table in tables:
        table.caption = f"2D by {choice_of(options).about}"
    people = {(clip, row.person) for clip, rows in scores.items() for row in rows}
    if len(people) > 1:
        tables.append(_mean_table([row for rows in scores.values() for row in rows], len(scores), len(people)))
    return tables


def truth_beside(clip: Path) -> Path:
    """Return ``<stem>.gt.npz`` beside a clip; FileNotFoundError if there is none."""
    path = clip.with_suffix(".gt.npz")
    if not path.exists():
        raise FileNotFoundError(f"no ground truth {path} beside the clip; pass it with --truth")
    return path


def _clip_table(clip: Path, scores: list[Score]) -> Table:
    table = _table(f"{clip.name}: error in mm", ["3D from (frames scored)", *COLUMNS.values()])
    several = len({score.person for score in scores}) > 1
    for score in scores:
        person = f"person {score.person}: " if several else ""
        table.add_row(f"{person}{score.source} ({score.frames})", *_numbers(score.errors))
    return table


def _mean_table(scores: list[Score], num_clips: int, num_people: int) -> Table:
    title = f"mean over {num_people} people in {num_clips} clips, each counting once: error in mm"
    table = _table(title, ["3D from (people scored)", *COLUMNS.values()])
    for source in (PIXELS, PIXELS_SHORT, EXACT_2D, EXACT_2D_SHORT, MEDIAPIPE):
        rows = [score.errors for score in scores if score.source == source]
        if rows:
            mean = {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS}
            table.add_row(f"{source} ({len(rows)})", *_numbers(mean))
    table.caption = "a row over fewer people leaves out those who were not found; compare it within the clips"
    return table


def _numbers(errors: dict[str, float]) -> list[str]:
    return [f"{errors[name]:.2f}" if name == "jitter_ratio" else f"{errors[name]:.1f}" for name in COLUMNS]


def score_clip(clip: Path, truth: Path, options: Options) -> list[Score]:
    """Return errors by person and by where the 3D comes from.

    Sources: the clip's pixels through the app (absent for somebody who was not found) and exact 2D through the app,
    both in windows of the lifter and in short ones, and MediaPipe's own world landmarks, each of whose frames counts
    for the person it is nearest to in the picture.

    Args:
        clip: Video.
        truth: npz with ``h36m_cam`` (F, P, 17, 3) meters in camera axes and ``coco_px`` (F, P, 17, 2), pixel i covering
            [i, i + 1).
        options: Settings of the run.

    Raises:
        ValueError: Clip and truth have different numbers of frames, or the truth lacks an array.
    """
    arrays = read_npz(truth, ("h36m_cam", "coco_px"))
    joints, keypoints = arrays["h36m_cam"], arrays["coco_px"] - 0.5
    result = estimate(clip, options)
    if len(joints) != result.video.num_frames:
        raise ValueError(
            f"{truth} has {len(joints)} frames, {clip} has {result.video.num_frames}; expected the same clip"
        )
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    times = result.video.timestamps_s
    world, seen = mediapipe_landmarks(clip)
    followed = nearest_person(seen, keypoints)
    scores = []
    short = None
    if not lifter.model.config.fixed_length and lifter.window > SHORT_WINDOW:  # type: ignore[union-attr]
        short = replace(lifter, window=SHORT_WINDOW)
        again = replace(result, poses=lift_tracks(short, result.tracks, result.video, options))
    for person in range(joints.shape[1]):
        sources = {PIXELS: frames_of(result, keypoints, person)}
        exact = [certain_track(keypoints[:, person])]
        if short is not None:
            sources[PIXELS_SHORT] = frames_of(again, keypoints, person)
        for source, network in ((EXACT_2D, lifter), (EXACT_2D_SHORT, short)):
            if network is not None:
                (pose,) = lift_tracks(network, exact, result.video, options)
                sources[source] = pose.frames, pose.joints
        own = np.flatnonzero(followed == person)
        sources[MEDIAPIPE] = own, world[own]
        for source, (chosen, predicted) in sources.items():
            if len(chosen):
                errors = _errors(predicted, joints[chosen, person], times[chosen])
                scores.append(Score(source, person, len(chosen), errors))
    return scores


def _errors(predicted: np.ndarray, truth: np.ndarray, timestamps_s: np.ndarray) -> dict[str, float]:
    ratio = metrics.jitter_ratio(predicted, truth, timestamps_s)
    return {**metrics.summary(predicted, truth), "jitter_ratio": ratio}


def frames_of(result: PoseResult, keypoints: np.ndarray, person: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames (T,) and joints (T, 17, 3) that the app has for a person of the truth.

    A track belongs to the person it is nearest to in the picture, over its valid frames; where two tracks of a person
    share a frame, the longer one is taken.

    Args:
        result: Of the app.
        keypoints: (F, P, 17, 2) true keypoints, pixels.
        person: Index into P.
    """
    joints = np.zeros((len(keypoints), 17, 3), np.float32)
    is_known = np.zeros(len(keypoints), bool)
    for track, pose in sorted(zip(result.tracks, result.poses, strict=True), key=lambda pair: len(pair[0].frames)):
        frames, valid = track.frames[track.valid], track.valid
        distance = np.linalg.norm(track.keypoints[valid][:, None] - keypoints[frames], axis=-1)  # (T, P, 17)
        if len(frames) and int(distance.mean((0, 2)).argmin()) == person:
            joints[frames], is_known[frames] = pose.joints[valid], True
    return np.flatnonzero(is_known), joints[is_known]


def nearest_person(seen: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return (F,) int64, which person of ``keypoints`` (F, P, 17, 2) is nearest to ``seen`` (F, 17, 2); -1 for NaN."""
    distance = np.linalg.norm(seen[:, None] - keypoints, axis=-1).mean(-1)  # (F, P)
    return np.where(np.isfinite(distance[:, 0]), distance.argmin(1), -1)


def mediapipe_world(clip: Path) -> np.ndarray:
    """Return MediaPipe's world landmarks as H36M-17 joints (F, 17, 3), meters, camera axes; NaN where it saw nobody."""
    return mediapipe_landmarks(clip)[0]


def mediapipe_landmarks(clip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what MediaPipe says of the one person it follows, NaN where it saw nobody.

    Returns:
        World landmarks as H36M-17 joints (F, 17, 3), meters, camera axes, and COCO-17 keypoints (F, 17, 2), pixels.
    """
    import mediapipe

    from detectors.blazepose.networks import LANDMARKS
    from lifter.skeletons import COCO17, coco17_to_h36m17

    order = [LANDMARKS[name] for name in COCO17.names]
    joints, keypoints = [], []
    with mediapipe.solutions.pose.Pose(model_complexity=1) as pose:
        for frame in VideoReader(clip):
            found = pose.process(frame)
            points, pixels = np.full((33, 3), np.nan), np.full((33, 2), np.nan)
            if found.pose_world_landmarks is not None:
                points = np.array([(p.x, p.y, p.z) for p in found.pose_world_landmarks.landmark])
                size = frame.shape[1], frame.shape[0]
                pixels = np.array([(p.x, p.y) for p in found.pose_landmarks.landmark]) * size - 0.5
            joints.append(coco17_to_h36m17(points[order]))
            keypoints.append(pixels[order])
    return np.array(joints), np.array(keypoints)


# -------------------------------------------------------------------------------------------------------- motion


def evaluate_motion(folder: Path, options: Options, progress: Progress = silent) -> list[Table]:
    """Return errors on windows of held-out mocap with exact and detector-like 2D, and steadiness of whole clips."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    windows = _table(
        f"{options.lifter} on held-out mocap, windows of {lifter.window} frames: 12 limbs, mm, root-relative with one "
        "scale / Procrustes",
        ["subjects", "minutes", "exact 2D", "detector-like 2D"],
    )
    steady = _table(
        f"{options.lifter} on whole held-out clips, lifted as the app does",
        ["subjects", "clips", "2D", "mm, one scale / Procrustes", "jitter over truth (worst clip)",
         "seam ratio (truth's)", "bone-length variation of the network alone"],
    )  # fmt: skip
    for split in ("validation", "unseen"):
        library = load_motion(folder, split)
        e = validate(
            lifter.model,
            library.to(lifter.device),
            AugmentationConfig(normalization=lifter.normalization, fps=lifter.fps),
        )
        windows.add_row(
            split, f"{library.minutes:.1f}", f"{e['clean_p1']:.1f} / {e['clean_p2']:.1f}",
            f"{e['noisy_p1']:.1f} / {e['noisy_p2']:.1f}",
        )  # fmt: skip
        clips = long_clips(library)
        for name, noise in {"exact": EXACT, "detector-like": DETECTOR_LIKE}.items() if clips else ():
            s = assess_steadiness(lifter, progress(clips, f"{split}, {name}", len(clips)), noise)
            steady.add_row(
                split, str(len(clips)), name, f"{s['p1']:.1f} / {s['p2']:.1f}",
                f"{s['jitter_ratio']:.2f} ({s['worst_jitter_ratio']:.2f})",
                f"{s['seam_ratio']:.2f} ({s['true_seam_ratio']:.2f})", f"{100 * s['bone_variation']:.1f} %",
            )  # fmt: skip
    steady.caption = "jitter and seams after the app's rigid bones, whose lengths do not vary at all"
    return [windows, steady]


# ---------------------------------------------------------------------------------------------------- benchmarks


def evaluate_h36m(path: Path, options: Options, progress: Progress = silent) -> Table:
    """Return errors by action; see ``lifter.benchmarks.h36m``."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    data = h36m.read_h36m(path)
    scores = h36m.score_h36m(lifter, data, use_flip=options.use_flip, progress=lambda b, n: progress(b, "Human3.6M", n))
    table = _table(f"{options.lifter} on Human3.6M, S9 and S11, detected 2D", ["action", *h36m.ERRORS.values()])
    for action, errors in scores.items():
        table.add_row(action, *(f"{errors[name]:.{2 if name == 'V' else 1}f}" for name in h36m.ERRORS))
    return table


def evaluate_3dhp(path: Path, options: Options, use_published_scale: bool, progress: Progress = silent) -> Table:
    """Return errors by sequence; see ``lifter.benchmarks.mpi_inf_3dhp``."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    sequences = mpi_inf_3dhp.read_3dhp(path)
    scores = mpi_inf_3dhp.score_3dhp(
        lifter,
        sequences,
        use_flip=options.use_flip,
        use_published_scale=use_published_scale,
        progress=lambda batches, total: progress(batches, "MPI-INF-3DHP", total),
    )
    table = _table(f"{options.lifter} on MPI-INF-3DHP, exact 2D", ["sequence", "frames", *mpi_inf_3dhp.ERRORS.values()])
    for name, errors in scores.items():
        table.add_row(name, f"{errors['frames']:.0f}", *(f"{errors[key]:.1f}" for key in mpi_inf_3dhp.ERRORS))
    return table
