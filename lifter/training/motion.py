"""Recorded motion: loads mocap npz files, keeps subjects apart, hands out windows. No camera, no noise here.

World axes of the recordings: metres, z up, 50 frames per second, H36M-17 joints.
"""

from __future__ import annotations

import fnmatch
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lifter.skeletons import MOTION_FPS as FPS

# Subjects of the rendered test clips, or possibly so: never trained on, scored as "unseen motion".
RESERVED = ("cmu_01", "cmu_02", "cmusub_*", "cmu_05", "cmu_05_ic", "cmu_06_ic", "cmu_07", "cmu_07_ic")
# Whole subjects held out, and single clips ("file:clip pattern") of subjects with several styles of motion.
VALIDATION = (
    "uiprmd_s09", "uiprmd_s10", "cmu_03", "cmu_49", "cmu_55", "cmu_94", "cmu_85:85_14*", "accad_per20", "accad_eric",
    "accad_female1:*A12_CrawlBackwards*", "accad_female1:*A10_LieToCrouch*",
    "accad_female1:*D3_ConversationGestures*", "accad_female1:*D6_CartWheel*", "quaternius_cyber",
)  # fmt: skip
# How often each kind of motion is drawn; by kind, because exercises fill half of all minutes. First match counts.
GROUPS = (
    ("exercise", ("uiprmd_*",), 0.33),
    ("salsa", ("cmu_60", "cmu_61"), 0.12),
    ("game", ("kaykit_*", "kenney_*", "mesh2motion_*", "quaternius_*"), 0.12),
    ("stage", ("accad_*",), 0.20),
    ("sport and dance", ("*",), 0.23),
)


@dataclass(frozen=True, eq=False)
class MotionLibrary:
    """Clips of joint positions, end to end.

    Attributes:
        joints: (F, 17, 3) float32, world metres, z up.
        starts: (M,) int64, first frame of each clip.
        lengths: (M,) int64, frames of each clip.
        names: "file:clip" of each clip.
        weights: (M,) float32, chance of each clip to be drawn.
    """

    joints: Tensor
    starts: Tensor
    lengths: Tensor
    names: tuple[str, ...]
    weights: Tensor

    @property
    def minutes(self) -> float:
        """Recorded minutes."""
        return len(self.joints) / FPS / 60

    def to(self, device: torch.device | str) -> MotionLibrary:
        """Return the library with its tensors on ``device``."""
        joints, starts, lengths = (x.to(device) for x in (self.joints, self.starts, self.lengths))
        return MotionLibrary(joints, starts, lengths, self.names, self.weights.to(device))

    def draw(self, count: int, frames: int, speed: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return (count, frames, 17, 3) windows from random clips at random places, played at a random speed.

        A clip shorter than the window stands still at its end, as padding does at inference.
        """
        device = self.joints.device
        clip = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        rate = speed[0] + (speed[1] - speed[0]) * torch.rand(count, device=device, generator=generator)
        last = (self.lengths[clip] - 1).float()
        first = torch.rand(count, device=device, generator=generator) * (last - rate * (frames - 1)).clamp(min=0)
        steps = torch.arange(frames, device=device) * rate[:, None] + first[:, None]
        place = torch.minimum(steps, last[:, None])
        floor = place.floor().long()
        ceil = torch.minimum(floor + 1, last[:, None].long())
        start = self.starts[clip][:, None]
        return torch.lerp(self.joints[start + floor], self.joints[start + ceil], (place - floor)[..., None, None])


def load_motion(folder: Path, split: str) -> MotionLibrary:
    """Return all clips below ``folder`` that belong to ``split``: "train", "validation" or "unseen".

    Args:
        folder: Searched for ``*.npz`` with keys rel (F, 17, 3), root (F, 3), clip_start (M + 1,), clip_name (M,), fps.
        split: Which subjects.

    Raises:
        FileNotFoundError: No such folder, or no motion of that split in it.
        ValueError: A file at another frame rate.
    """
    files = sorted(Path(folder).rglob("*.npz"))
    joints, lengths, names = [], [], []
    for file in files:
        npz = read_npz(file, ("fps", "root", "rel", "clip_start", "clip_name"))
        if float(npz["fps"]) != FPS:
            raise ValueError(f"{file} has {float(npz['fps'])} fps, expected {FPS}; resample it first")
        motion = npz["root"][:, None] + npz["rel"].astype(np.float32)
        borders, clips = npz["clip_start"], [str(name) for name in npz["clip_name"]]
        chosen = [i for i, clip in enumerate(clips) if split_of(file.stem, clip) == split]
        joints += [motion[borders[i] : borders[i + 1]] for i in chosen]
        lengths += [int(borders[i + 1] - borders[i]) for i in chosen]
        names += [f"{file.stem}:{clips[i]}" for i in chosen]
    if not joints:
        raise FileNotFoundError(f"no {split} motion (*.npz) below {folder}; pass the folder with the mocap files")
    weights = clip_weights(names, np.array(lengths))
    ends = np.cumsum(lengths)
    return MotionLibrary(
        torch.from_numpy(np.concatenate(joints)).float(),
        torch.from_numpy(ends - lengths),
        torch.tensor(lengths),
        tuple(names),
        torch.from_numpy(weights).float(),
    )


def read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the arrays ``keys`` of an npz file; never unpickles.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an npz file, or an array is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            missing = [key for key in keys if key not in npz]
            if not missing:
                return {key: npz[key] for key in keys}
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no npz file; expected one with the arrays {', '.join(keys)}") from error
    raise ValueError(f"{path} lacks {', '.join(missing)}; expected an npz file with {', '.join(keys)}")


def split_of(file: str, clip: str) -> str:
    """Return "unseen", "validation" or "train" for one clip of a file (its name without ending)."""
    if any(fnmatch.fnmatch(file, pattern) for pattern in RESERVED):
        return "unseen"
    for pattern in VALIDATION:
        name, _, clips = pattern.partition(":")
        if fnmatch.fnmatch(file, name) and fnmatch.fnmatch(clip, clips or "*"):
            return "validation"
    return "train"


def clip_weights(names: list[str], lengths: np.ndarray) -> np.ndarray:
    """Return the chance (M,) of every clip: groups share as in ``GROUPS``, inside a group by the root of the length."""
    group = np.array([_group_of(name.partition(":")[0]) for name in names])
    weights = np.sqrt(lengths.astype(np.float64))
    for index, (_, _, share) in enumerate(GROUPS):
        members = group == index
        if members.any():
            weights[members] *= share / weights[members].sum()
    return weights / weights.sum()


def _group_of(file: str) -> int:
    return next(i for i, (_, patterns, _) in enumerate(GROUPS) if any(fnmatch.fnmatch(file, p) for p in patterns))


def fingerprint(library: MotionLibrary) -> str:
    """Return the SHA-256 of the library's joints and clip names, for the provenance of trained weights."""
    digest = hashlib.sha256(library.joints.cpu().numpy().tobytes())
    digest.update("\n".join(library.names).encode())
    return digest.hexdigest()
