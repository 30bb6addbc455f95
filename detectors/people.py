"""Types of detections: ``People`` in one frame, a ``Track`` of one person over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_KEYPOINTS = 17  # COCO-17; names and order in lifter.skeletons.COCO17


def _require(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    """Raise ValueError unless ``array`` has exactly ``shape`` and ``dtype``."""
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must have shape {shape} and dtype {np.dtype(dtype)}, got {array.shape} and {array.dtype}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Everybody found in one frame (N may be 0).

    Attributes:
        boxes: (N, 4) float32, x0 y0 x1 y1 in pixels of the upright picture.
        box_scores: (N,) float32 in [0, 1].
        keypoints: (N, 17, 2) float32, COCO-17, x and y in pixels (the center of the first pixel is (0, 0)).
        scores: (N, 17) float32 in [0, 1].
    """

    boxes: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.boxes)
        _require("boxes", self.boxes, (n, 4), np.float32)
        _require("box_scores", self.box_scores, (n,), np.float32)
        _require("keypoints", self.keypoints, (n, NUM_KEYPOINTS, 2), np.float32)
        _require("scores", self.scores, (n, NUM_KEYPOINTS), np.float32)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def nobody(cls) -> People:
        """Return the empty frame."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, NUM_KEYPOINTS, 2), np.float32),
            np.zeros((0, NUM_KEYPOINTS), np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person over T consecutive frames; the frame axis has no holes.

    Attributes:
        person_id: Identity, stable over the clip.
        frames: (T,) int64, consecutive frame indices of the video.
        keypoints: (T, 17, 2) float32, COCO-17 in pixels, finite everywhere (gaps are filled).
        scores: (T, 17) float32 in [0, 1]; 0 where nothing was seen.
        observed: (T,) bool, True where a detector saw the person, False where keypoints were filled in.
        valid: (T,) bool, False inside gaps too long to be filled: there the keypoints are only a bridge, no estimate.
        repaired: (T, 17) bool, True for single joints of observed frames that are not where the detector put them: left
            and right swapped, or interpolated. Nothing is if left out.
        swapped: (T, 17) bool, True for those among them that the detector had on the other side.
    """

    person_id: int
    frames: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    observed: np.ndarray
    valid: np.ndarray
    repaired: np.ndarray = None  # type: ignore[assignment]
    swapped: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        t = len(self.frames)
        for flags in ("repaired", "swapped"):
            if getattr(self, flags) is None:
                object.__setattr__(self, flags, np.zeros((t, NUM_KEYPOINTS), np.bool_))
        if t == 0:
            raise ValueError(f"track {self.person_id} has no frames; drop it instead")
        _require("frames", self.frames, (t,), np.int64)
        _require("keypoints", self.keypoints, (t, NUM_KEYPOINTS, 2), np.float32)
        _require("scores", self.scores, (t, NUM_KEYPOINTS), np.float32)
        _require("observed", self.observed, (t,), np.bool_)
        _require("valid", self.valid, (t,), np.bool_)
        _require("repaired", self.repaired, (t, NUM_KEYPOINTS), np.bool_)
        _require("swapped", self.swapped, (t, NUM_KEYPOINTS), np.bool_)
        if np.any(np.diff(self.frames) != 1):
            raise ValueError(f"frames of track {self.person_id} must be consecutive, got {self.frames[:8]}...")
        if not np.isfinite(self.keypoints).all():
            raise ValueError(f"keypoints of track {self.person_id} must be finite; fill the gaps first")
        if np.any(self.observed & ~self.valid):
            raise ValueError(f"track {self.person_id} marks observed frames as invalid")
        if np.any(self.repaired & ~self.observed[:, None]):
            raise ValueError(f"track {self.person_id} marks joints as repaired in frames where nobody was observed")
        if np.any(self.swapped & ~self.repaired):
            raise ValueError(f"track {self.person_id} has joints that changed sides but are not marked as repaired")
