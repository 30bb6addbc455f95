"""2D keypoints of whole tracks to 3D joints: map, resample, split, normalize, predict, merge, resample back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lifter import normalize
from lifter.load import Lifter
from lifter.runtime.precision import precision
from lifter.skeletons import MOTION_FPS, coco17_to_h36m17, mirror
from lifter.windows import Windows

OVERLAP = 1 / 3  # of a window, shared by neighbors and cross-faded
RATE_TOLERANCE = 0.05  # of a network's rate: a clip this much faster than that needs no second phase
# Weights of a sample and those beside it: the mean of its own phase and the other one, interpolated by cubics.
TWO_PHASES = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32
MAX_PHASES = 2  # faster clips are answered by interpolation: 50 frames a second hold all that bodies do
Progress = Callable[[Iterable, int], Iterable]


@dataclass(frozen=True, eq=False)
class Sequence2D:
    """Keypoints of one person over time, as a detector saw them.

    Attributes:
        keypoints: (T, 17, 2) COCO-17 in pixels; the center of the first pixel is (0, 0).
        timestamps_s: (T,) seconds, increasing; any rate, need not be constant.
        width: Picture width in pixels.
        height: Picture height in pixels.
        scores: (T, 17) in [0, 1], how sure the detector was of every keypoint; None if nothing is known of it, which
            networks that read scores refuse.
    """

    keypoints: np.ndarray
    timestamps_s: np.ndarray
    width: int
    height: int
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        t = len(self.timestamps_s)
        if self.keypoints.shape != (t, 17, 2) or t == 0:
            raise ValueError(f"keypoints must have shape ({max(t, 1)}, 17, 2), got {self.keypoints.shape}")
        if not np.isfinite(self.keypoints).all():
            raise ValueError("keypoints must be finite; fill or cut missing frames first")
        if self.scores is not None and self.scores.shape != (t, 17):
            raise ValueError(f"scores must have shape ({t}, 17), got {self.scores.shape}")
        if self.scores is not None and not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores must lie between 0 and 1; divide by their largest possible value first")


def lift(
    lifter: Lifter,
    sequences: list[Sequence2D],
    *,
    fov_degrees: float = normalize.DEFAULT_FOV_DEGREES,
    use_flip: bool = True,
    progress: Progress = lambda batches, total: batches,
) -> list[np.ndarray]:
    """Return root-relative joints (T, 17, 3) float32 per sequence, camera axes, on the frames of the sequence.

    Windows of all sequences share batches. Keypoints are brought to the network's frame rate by linear interpolation,
    as in training, and joints back to the frames' own times, so the frame rate of a clip does not change its motion.

    Args:
        lifter: From ``lifter.load_lifter``.
        sequences: One per person and uninterrupted segment.
        fov_degrees: Assumed field of view along the longer side of the picture ("person" normalization only).
        use_flip: Whether to average with the mirrored input (twice the work, smoother).
        progress: Wraps the batches; gets them and their number.
    """
    if not sequences:
        return []
    samplings, inputs, rotations = [], [], []
    for sequence in sequences:
        sampling, normalized, rotation = windows_of(lifter, sequence, fov_degrees)
        samplings.append(sampling)
        inputs.append(normalized)
        rotations.append(rotation)
    joints = predict(lifter, torch.cat(inputs), use_flip, progress) @ torch.cat(rotations)[:, None]  # rows @ R = R^T x
    lifted, first = [], 0
    for sequence, sampling in zip(sequences, samplings, strict=True):
        merged = sampling.merge(joints[first : first + sampling.num_windows].numpy())
        first += sampling.num_windows
        on_frames = resample_back(merged, sequence.timestamps_s, sampling.fps)
        lifted.append((on_frames - on_frames[:, :1]).astype(np.float32))
    return lifted


@dataclass(frozen=True, eq=False)
class Sampling:
    """How a sequence is sampled for a network: at a multiple of its rate, every sample belonging to one of the phases.

    A clip with more frames per second than the network takes is seen in several phases, each at the network's rate, so
    that every frame has an answer of its own.

    Attributes:
        fps: Samples per second of all phases together.
        phases: Windows of the samples n, n + P, n + 2 P, ... for every phase n of P.
    """

    fps: float
    phases: tuple[Windows, ...]

    @classmethod
    def of(cls, timestamps_s: np.ndarray, window: int, fps: float) -> Sampling:
        """Return the sampling of frames at ``timestamps_s`` (T,) for windows of a network that takes ``fps``."""
        clip_fps = 1 / np.median(np.diff(timestamps_s)) if len(timestamps_s) > 1 else fps
        most = min(MAX_PHASES, round(MOTION_FPS / fps))
        wanted = int(np.clip(np.ceil(clip_fps / fps - RATE_TOLERANCE), 1, most))
        count = int(np.ceil((timestamps_s[-1] - timestamps_s[0]) * wanted * fps - 1e-6)) + 1
        lengths = [len(range(phase, count, wanted)) for phase in range(min(wanted, count))]
        return cls(wanted * fps, tuple(Windows(length, window, int(window * OVERLAP)) for length in lengths))

    @property
    def num_windows(self) -> int:
        """Windows of all phases."""
        return sum(len(phase.starts) for phase in self.phases)

    def split(self, samples: np.ndarray) -> np.ndarray:
        """Return (num windows, window, ...) of ``samples`` (T', ...), phase by phase."""
        stride = len(self.phases)
        return np.concatenate([windows.split(samples[n::stride]) for n, windows in enumerate(self.phases)])

    def merge(self, windows: np.ndarray) -> np.ndarray:
        """Return (T', ...) of ``windows`` (num windows, window, ...): the inverse of ``split`` for slow changes.

        Two phases see different samples and disagree by a few millimeters, which would be a tremor at half the rate
        of the samples: every answer is the mean of its own phase and the other one at the same time.
        """
        stride, first = len(self.phases), 0
        merged = np.empty((sum(phase.num_frames for phase in self.phases), *windows.shape[2:]), windows.dtype)
        for n, phase in enumerate(self.phases):
            merged[n::stride] = phase.merge(windows[first : first + len(phase.starts)])
            first += len(phase.starts)
        return _agreed(merged) if stride == 2 else merged

    def seams_s(self) -> np.ndarray:
        """Return when windows begin or end inside the sequence [s], counted from its first frame."""
        seams = []
        for n, phase in enumerate(self.phases):
            starts = phase.starts
            seams += [starts[1:] * len(self.phases) + n, (starts[:-1] + phase.window) * len(self.phases) + n]
        return np.sort(np.concatenate(seams)) / self.fps


def _agreed(samples: np.ndarray) -> np.ndarray:
    """Return ``samples`` (T, ...), of two phases in turn, without what alternates between them."""
    reach = len(TWO_PHASES) // 2
    padding = [(reach, reach), *[(0, 0)] * (samples.ndim - 1)]
    padded = np.pad(samples, padding, mode="reflect", reflect_type="odd")
    return np.lib.stride_tricks.sliding_window_view(padded, len(TWO_PHASES), axis=0) @ TWO_PHASES.astype(samples.dtype)


def windows_of(lifter: Lifter, sequence: Sequence2D, fov_degrees: float) -> tuple[Sampling, Tensor, Tensor]:
    """Return how a sequence is cut, its network input (windows, T, 17, C) and rotations from camera to network axes.

    Raises:
        ValueError: The network reads scores and the sequence has none.
    """
    sampling = Sampling.of(sequence.timestamps_s, lifter.window, lifter.fps)

    def cut(values: np.ndarray) -> Tensor:
        samples = resample(coco17_to_h36m17(values.astype(np.float64)), sequence.timestamps_s, sampling.fps)
        return torch.from_numpy(sampling.split(samples)).float()

    inputs, rotations = _normalized(lifter, cut(sequence.keypoints), sequence, fov_degrees)
    if lifter.channels == 3:
        if sequence.scores is None:
            raise ValueError(f"{lifter.name} reads the scores of keypoints; give Sequence2D the detector's, or ones")
        inputs = torch.cat([inputs, cut(sequence.scores[..., None])], dim=-1)
    return sampling, inputs, rotations


def _normalized(lifter: Lifter, points_px: Tensor, sequence: Sequence2D, fov: float) -> tuple[Tensor, Tensor]:
    """Return network input (windows, T, 17, 2) and the rotations (windows, 3, 3) from camera to network axes."""
    if lifter.normalization == "picture":
        return normalize.to_picture(points_px, sequence.width, sequence.height), torch.eye(3).expand(
            len(points_px), 3, 3
        )
    center = torch.tensor([sequence.width / 2 - 0.5, sequence.height / 2 - 0.5])
    return normalize.to_person((points_px - center) / normalize.focal_px(sequence.width, sequence.height, fov))


def predict(lifter: Lifter, inputs: Tensor, use_flip: bool, progress: Progress) -> Tensor:
    """Return joints (windows, T, 17, 3) on the CPU; windows and their mirror images go through as one batch.

    Always in full float32 precision, so that every device gives the same numbers.

    Raises:
        torch.OutOfMemoryError: Not even one window fits; larger batches are halved until they do.
    """
    outputs, size = [], lifter.windows_per_batch
    with torch.inference_mode(), precision("fp32", lifter.device):
        for batch in progress(inputs.split(size), -(-len(inputs) // size)):
            both = torch.cat([batch, mirror(batch)]) if use_flip else batch
            joints = lifter.forward(both.to(lifter.device)).float().cpu()
            if use_flip:
                straight, flipped = joints.chunk(2)
                joints = (straight + mirror(flipped)) / 2
            outputs.append(joints)
    return torch.cat(outputs)


def resample(points: np.ndarray, timestamps_s: np.ndarray, fps: float) -> np.ndarray:
    """Return points (T, ...) at a constant rate over the same time, linearly interpolated; shape (T', ...)."""
    duration = timestamps_s[-1] - timestamps_s[0]
    count = int(np.ceil(duration * fps - 1e-6)) + 1
    return _at(points, timestamps_s - timestamps_s[0], np.arange(count) / fps)


def resample_back(points: np.ndarray, timestamps_s: np.ndarray, fps: float) -> np.ndarray:
    """Return points (T', ...) of a constant rate at the given times, linearly interpolated; shape (T, ...)."""
    return _at(points, np.arange(len(points)) / fps, timestamps_s - timestamps_s[0])


def _at(points: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return ``points`` (T, ...) given at ``times``, at the times ``wanted``; held constant beyond the ends."""
    if len(points) == 1:
        return np.repeat(points, len(wanted), axis=0)
    right = np.clip(np.searchsorted(times, wanted, side="right"), 1, len(times) - 1)
    before, after = times[right - 1], times[right]
    weight = np.clip((wanted - before) / (after - before), 0, 1).reshape(-1, *[1] * (points.ndim - 1))
    return points[right - 1] * (1 - weight) + points[right] * weight
