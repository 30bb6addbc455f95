"""Recorded motion: loads mocap (npz, bvh, amc), keeps subjects apart, hands out windows. No camera, no noise here.

World axes of the recordings: meters, z up, 50 frames per second, H36M-17 joints.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lifter.skeletons import MOTION_FPS as FPS
from lifter.training.mocap.recordings import READERS, read_recording

log = logging.getLogger(__name__)

# Subjects of the rendered test clips, or possibly so: never trained on, scored as "unseen motion".
RESERVED = ("cmu_01", "cmu_02", "cmusub_*", "cmu_05", "cmu_05_ic", "cmu_06_ic", "cmu_07", "cmu_07_ic")
# Whole subjects held out, and single clips ("file:clip pattern") of subjects with several styles of motion.
VALIDATION = (
    "uiprmd_s09", "uiprmd_s10", "cmu_03", "cmu_49", "cmu_55", "cmu_94", "cmu_85:85_14*", "accad_per20", "accad_eric",
    "accad_female1:*A12_CrawlBackwards*", "accad_female1:*A10_LieToCrouch*",
    "accad_female1:*D3_ConversationGestures*", "accad_female1:*D6_CartWheel*", "quaternius_cyber",
)  # fmt: skip
# How often each kind of motion is drawn; by kind, because exercises fill half of all minutes. First match counts.
# "own" are .bvh and .amc files that are no trial of the CMU database.
GROUPS = (
    ("own", ("*.bvh", "*.amc"), 0.25),
    ("exercise", ("uiprmd_*",), 0.33),
    ("salsa", ("cmu_60", "cmu_61"), 0.12),
    ("game", ("kaykit_*", "kenney_*", "mesh2motion_*", "quaternius_*"), 0.12),
    ("stage", ("accad_*",), 0.20),
    ("sport and dance", ("*",), 0.23),
)
HELD_OUT = 10  # one of so many files is held out where no subject of VALIDATION is there
MAX_REPORTED = 20  # unreadable files named one by one


@dataclass(frozen=True, eq=False)
class MotionLibrary:
    """Clips of joint positions, end to end.

    Attributes:
        joints: (F, 17, 3) float32, world meters, z up.
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

    def draw(
        self, count: int, frames: int, speed: tuple[float, float], generator: torch.Generator,
        back_and_forth: float = 0.0,
    ) -> Tensor:  # fmt: skip
        """Return (count, frames, 17, 3) windows from random clips at random places, played at a random speed.

        A clip shorter than the window stands still at its end, as padding does at inference; a share of
        ``back_and_forth`` of them is played backwards from there, and so on.
        """
        device = self.joints.device
        clip = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        rate = speed[0] + (speed[1] - speed[0]) * torch.rand(count, device=device, generator=generator)
        last = (self.lengths[clip] - 1).float()
        first = torch.rand(count, device=device, generator=generator) * (last - rate * (frames - 1)).clamp(min=0)
        steps = torch.arange(frames, device=device) * rate[:, None] + first[:, None]
        place = torch.minimum(steps, last[:, None])
        if back_and_forth:
            turns = torch.rand(count, device=device, generator=generator) < back_and_forth
            period = (2 * last[:, None]).clamp(min=1)
            around = steps % period
            place = torch.where(turns[:, None], torch.minimum(around, period - around), place)
            place = torch.minimum(place, last[:, None])
        floor = place.floor().long()
        ceil = torch.minimum(floor + 1, last[:, None].long())
        start = self.starts[clip][:, None]
        return torch.lerp(self.joints[start + floor], self.joints[start + ceil], (place - floor)[..., None, None])


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip: its file ("cmu_05" for subjects of the tables above, else "folder/walk.bvh"), name and joints.

    ``joints`` is (F, 17, 3) float32, world meters, z up, 50 frames per second.
    """

    file: str
    name: str
    joints: np.ndarray


def load_motion(folder: Path, split: str, report: Callable[[str], None] = log.warning) -> MotionLibrary:
    """Return all clips below ``folder`` that belong to ``split``: "train", "validation" or "unseen".

    Subjects of ``RESERVED`` and ``VALIDATION`` have their split. All others are trained on; but if no subject of
    ``VALIDATION`` is there, one file of ten is held out (at least one, of at least two), chosen by its name.

    Args:
        folder: Searched for ``*.bvh``, ``*.amc`` (with its ``*.asf``) and ``*.npz`` with the keys rel (F, 17, 3),
            root (F, 3), clip_start (M + 1,), clip_name (M,) and fps.
        split: Which subjects.
        report: Takes a line for every file that was left out, with the reason.

    Raises:
        FileNotFoundError: No such folder, or no motion of that split in it.
        ValueError: None of the files can be read; says why.
    """
    clips, problems = read_folder(Path(folder))
    reasons = [f"{file}: {reason}" for file, reason in problems]
    if problems and not clips:
        raise ValueError(f"no motion below {folder} can be read:\n" + "\n".join(reasons[:MAX_REPORTED]))
    for reason in reasons[:MAX_REPORTED]:
        report(f"left out {reason}")
    if len(reasons) > MAX_REPORTED:
        report(f"left out {len(reasons) - MAX_REPORTED} more files")
    held_out = files_held_out(clips)
    splits = ["validation" if clip.file in held_out else split_of(clip.file, clip.name) for clip in clips]
    chosen = [clip for clip, its_split in zip(clips, splits, strict=True) if its_split == split]
    if not chosen:
        raise FileNotFoundError(
            f"no {split} motion below {folder}; expected npz, bvh or amc files, at least two files to hold one out"
        )
    names = [f"{clip.file}:{clip.name}" for clip in chosen]
    lengths = np.array([len(clip.joints) for clip in chosen])
    return MotionLibrary(
        torch.from_numpy(np.concatenate([clip.joints for clip in chosen])).float(),
        torch.from_numpy(np.cumsum(lengths) - lengths),
        torch.from_numpy(lengths),
        tuple(names),
        torch.from_numpy(clip_weights(names, lengths)).float(),
    )


def read_folder(folder: Path) -> tuple[list[Clip], list[tuple[Path, str]]]:
    """Return the clips of all mocap files below ``folder``, and the files that cannot be read with the reason."""
    clips: list[Clip] = []
    problems: list[tuple[Path, str]] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".npz", *READERS) and p.is_file()):
        try:
            clips += read_npz_clips(path) if path.suffix.lower() == ".npz" else read_own_clips(path, folder)
        except (ValueError, OSError, MemoryError) as error:
            problems.append((path, str(error)))
    return clips, problems


def read_npz_clips(path: Path) -> list[Clip]:
    """Return the clips of one of our npz files; ValueError if it is none or has another frame rate."""
    npz = read_npz(path, ("fps", "root", "rel", "clip_start", "clip_name"))
    if float(npz["fps"]) != FPS:
        raise ValueError(f"{path.name} has {float(npz['fps'])} fps, expected {FPS}; resample it first")
    motion = npz["root"][:, None] + npz["rel"].astype(np.float32)
    borders = npz["clip_start"]
    return [Clip(path.stem, str(name), motion[borders[i] : borders[i + 1]]) for i, name in enumerate(npz["clip_name"])]


def read_own_clips(path: Path, folder: Path) -> list[Clip]:
    """Return the clips of a .bvh or .amc file; ValueError or FileNotFoundError if it has none."""
    recording = read_recording(path)
    own = path.relative_to(folder).with_suffix(path.suffix.lower()).as_posix().replace(":", "_")
    return [Clip(recording.subject or own, name, joints) for name, joints in recording.clips.items()]


def files_held_out(clips: Iterable[Clip]) -> set[str]:
    """Return the files to validate with: none if a subject of ``VALIDATION`` is there, else those of lowest hash."""
    splits = {(clip.file, split_of(clip.file, clip.name)) for clip in clips}
    if any(split == "validation" for _, split in splits):
        return set()
    files = sorted((file for file, split in splits if split == "train"), key=name_hash)
    return set(files[: -(-len(files) // HELD_OUT)]) if len(files) > 1 else set()


def name_hash(name: str) -> str:
    """Return the SHA-256 of a name: an order that does not follow the alphabet and is the same everywhere."""
    return hashlib.sha256(name.encode()).hexdigest()


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
