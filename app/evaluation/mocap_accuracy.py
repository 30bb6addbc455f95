"""Errors of a lifter on held-out motion capture that is projected and detected in simulation."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from app.evaluation.smoothness import EXACT, SIMULATED, assess_smoothness, long_clips
from app.evaluation.tables import GROUND_TRUTH_2D, MPJPE_PAIR, SIMULATED_2D, new_table, pair
from app.options import Options
from app.pipeline import cached_lifter
from app.progress import Progress, silent
from lifter.load import Lifter
from lifter.training.augmentation_config import AugmentationConfig
from lifter.training.mocap.library import MotionLibrary, load_motion
from lifter.training.validation import validate


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
