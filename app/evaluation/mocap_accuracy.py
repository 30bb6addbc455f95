"""Errors of a lifter on held-out motion capture that is projected and detected in simulation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from app.evaluation.smoothness import EXACT, SIMULATED, assess_smoothness, long_clips
from app.evaluation.tables import GROUND_TRUTH_2D, MPJPE_PAIR, SIMULATED_2D, new_table, pair
from app.options import Options
from app.pipeline import cached_lifter
from app.progress import Progress, silent
from lifter.load import Lifter
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.mocap.library import MotionLibrary, load_motion
from lifter.training.provenance import training_runs
from lifter.training.validation import FRAMES, validate
from lifter.weights import read_named


def evaluate_mocap(folder: Path, options: Options, progress: Progress = silent) -> list[Table]:
    """Return errors on windows of held-out mocap, and errors and smoothness of whole clips."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    windows = new_table(
        f"{options.lifter} on held-out mocap, windows of {lifter.window} frames: 12 limb joints, mm, {MPJPE_PAIR}",
        ["subjects", "minutes", GROUND_TRUTH_2D, SIMULATED_2D],
    )
    clips_table = new_table(
        f"{options.lifter} on whole held-out clips, lifted as the app does",
        ["subjects", "clips", "2D", f"mm, {MPJPE_PAIR}", "acceleration ratio (worst clip)",
         "window-boundary discontinuity (ground truth's)", "bone-length variation of the network alone"],
        caption="acceleration and discontinuity after the app's rigid bones, whose lengths do not vary at all",
    )  # fmt: skip
    for split in ("validation", "unseen"):
        library = load_motion(folder, split)
        windows.add_row(split, f"{library.minutes:.1f}", *window_errors(lifter, library))
        clips = long_clips(library)
        for name, noise in {GROUND_TRUTH_2D: EXACT, SIMULATED_2D: SIMULATED}.items() if clips else ():
            s = assess_smoothness(lifter, progress(clips, f"{split}, {name}", len(clips)), noise)
            clips_table.add_row(
                split, str(len(clips)), name, pair(s.mpjpe_scaled, s.pa_mpjpe), s.acceleration_text,
                f"{s.boundary_ratio:.2f} ({s.true_boundary_ratio:.2f})", f"{100 * s.bone_variation:.1f} %",
            )  # fmt: skip
    return [windows, clips_table]


def window_errors(lifter: Lifter, library: MotionLibrary) -> tuple[str, str]:
    """Return both errors on windows of held-out motion, with ground-truth 2D and with simulated detections."""
    recipe = AugmentationConfig(normalization=lifter.normalization, fps=lifter.fps)
    errors = validate(lifter.model, library.to(lifter.device), recipe)
    return pair(errors["clean_p1"], errors["clean_p2"]), pair(errors["noisy_p1"], errors["noisy_p2"])


def compare_lifters(folder: Path, names: Sequence[str], options: Options, progress: Progress = silent) -> Table:
    """Return a table of lifters, names or weights files.

    Raises:
        FileNotFoundError: No motion in ``folder``, or no such weights.
        ValueError: A file does not hold weights, or its metadata are not those of ``posemamba train``.
    """
    library = load_motion(folder, "validation")
    clips = long_clips(library)
    table = new_table(
        f"lifters on held-out mocap, {library.minutes:.1f} minutes: 12 limb joints, mm, {MPJPE_PAIR}",
        ["lifter", "parameters", "trained for", GROUND_TRUTH_2D, SIMULATED_2D, f"whole clips, {SIMULATED_2D}",
         "acceleration ratio (worst clip)"],
        caption=f"windows of {FRAMES} frames, without cross-fade; last two columns: {len(clips)} whole clips, as the "
        "app lifts them",
    )  # fmt: skip
    for name in progress(names, "lifters", len(names)):
        lifter = cached_lifter(name, options.device, options.backend)
        errors = window_errors(lifter, library)
        s = assess_smoothness(lifter, clips, SIMULATED) if clips else None
        table.add_row(
            name, f"{sum(p.numel() for p in lifter.model.parameters()):,}", trained_for(name), *errors,
            pair(s.mpjpe_scaled, s.pa_mpjpe) if s else "-", s.acceleration_text if s else "-",
        )  # fmt: skip
    return table


def trained_for(name: str) -> str:
    """Return how long a lifter, a name or a weights file, was trained on what; "-" if its file does not say."""
    runs = [
        [run.get(key, "?") for key in ("training_minutes", "device", "steps")]
        for run in training_runs(read_named(name))
    ]
    return " + ".join(f"{minutes} min on {device}, {steps} steps" for minutes, device, steps in runs) or "-"
