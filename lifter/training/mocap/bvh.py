"""BVH files: text with a skeleton (HIERARCHY) and one row of channel values per frame (MOTION)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from lifter.training.mocap import takes
from lifter.training.mocap.takes import Joint, Take, numbers, open_text, require_usable, to_radians

CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "xyz")
CHANNELS_HELP = "up to six of Xposition, Yrotation and so on"
MAX_HEADER = 2**20  # characters; a skeleton of takes.MAX_JOINTS has a tenth of it
END = "end"  # "LeftHand end": the End Site of LeftHand


def read_bvh(path: Path) -> Take:
    """Return the skeleton and motion of a BVH file.

    Rotations are composed in the order of the channels, the first one outermost. Position channels give the place of
    a joint instead of its OFFSET, for the root as for any other joint. An End Site becomes a joint "<parent> end".

    Raises:
        ValueError: Not a BVH file, cut short, beyond the limits of ``lifter.training.mocap.takes``, or with values
            that are no finite numbers.
    """
    with open_text(path) as file:
        joints, num_channels = parse_hierarchy(iter(header_words(file)))
        num_frames = int(setting(file, "Frames:"))
        frame_time = setting(file, "Frame Time:")
        if not 0 < num_frames <= takes.MAX_FRAMES:
            raise ValueError(f"Frames: is {num_frames}, expected 1 to {takes.MAX_FRAMES}")
        if not takes.FRAME_TIMES_S[0] <= frame_time <= takes.FRAME_TIMES_S[1]:
            raise ValueError(
                f"Frame Time: is {frame_time:g} s, expected {takes.FRAME_TIMES_S[0]} to {takes.FRAME_TIMES_S[1]}"
            )
        channels = read_rows(file, num_frames, num_channels)
    to_radians(joints, channels)
    return Take(joints, channels, 1 / frame_time)


def header_words(file: TextIO) -> list[str]:
    """Return the words between HIERARCHY and MOTION, braces apart; the file then stands behind MOTION."""
    words: list[str] = []
    size = 0
    while line := file.readline(MAX_HEADER):
        size += len(line)
        if line.strip().upper() == "MOTION":
            break
        if size > MAX_HEADER:
            raise ValueError(f"no line MOTION in the first {MAX_HEADER} characters; expected a BVH file")
        words += line.replace("{", " { ").replace("}", " } ").split()
        if words and words[0].upper() != "HIERARCHY":
            raise ValueError(f"it begins with {words[0][:20]!r}, expected HIERARCHY; this is no BVH file")
    else:
        raise ValueError("it ends before MOTION; expected HIERARCHY, MOTION and rows of numbers")
    return words[1:]


def setting(file: TextIO, name: str) -> float:
    """Return the number in the next line that is not blank, which must begin with ``name``."""
    line = ""
    while not line and (raw := file.readline(1000)):
        line = raw.strip()
    if not line.lower().startswith(name.lower()):
        raise ValueError(f"{line[:30]!r} follows MOTION, expected {name!r} and a number")
    return float(numbers(line[len(name) :].split(), 1, name)[0])


def read_rows(file: TextIO, num_frames: int, num_channels: int) -> np.ndarray:
    """Return the rest of the file as float64 (num_frames, num_channels)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows at all: a clearer error is raised below
            rows = np.loadtxt(file, dtype=np.float64, comments=None, ndmin=2, max_rows=num_frames + 1)
    except ValueError as error:
        reason = str(error).split(";")[0]
        raise ValueError(f"the rows are no table of {num_channels} numbers per frame: {reason}") from error
    if rows.size and rows.shape[1] != num_channels:
        raise ValueError(f"a frame has {rows.shape[1]} numbers, expected {num_channels} as the CHANNELS say")
    if len(rows) != num_frames:
        count = "more" if len(rows) > num_frames else f"only {len(rows)}"
        raise ValueError(f"it has {count} rows of numbers, expected {num_frames} as Frames: says")
    require_usable(rows)
    return rows


def parse_hierarchy(words: Iterator[str]) -> tuple[tuple[Joint, ...], int]:
    """Return the joints and the number of channels of the words behind HIERARCHY."""
    joints: list[Joint] = []
    open_joints: list[int] = []  # from the root to where we are; a list, not recursion: depth is the file's choice
    num_channels = 0
    for word in words:
        if word == "}":
            if not open_joints:
                raise ValueError("HIERARCHY closes a brace that is not open")
            open_joints.pop()
            continue
        if word.upper() not in (("JOINT", "END") if open_joints else ("ROOT",)) or (not open_joints and joints):
            raise ValueError(f"{word[:20]!r} in HIERARCHY, expected {'JOINT, End Site' if open_joints else 'one ROOT'}")
        joint, width = parse_joint(words, joints, open_joints, is_end=word.upper() == "END", column=num_channels)
        open_joints.append(len(joints))
        joints.append(joint)
        num_channels += width
        if len(joints) > takes.MAX_JOINTS or len(open_joints) > takes.MAX_DEPTH:
            raise ValueError(f"the skeleton has over {takes.MAX_JOINTS} joints or {takes.MAX_DEPTH} levels")
    if open_joints or not joints:
        raise ValueError("HIERARCHY ends inside a joint; expected its closing braces")
    if not num_channels:
        raise ValueError("no joint has CHANNELS")
    return tuple(joints), num_channels


def parse_joint(
    words: Iterator[str], joints: list[Joint], open_joints: list[int], is_end: bool, column: int
) -> tuple[Joint, int]:
    """Return the joint whose name comes next and its number of channels; reads up to its CHANNELS."""
    parent = open_joints[-1] if open_joints else -1
    if parent >= 0 and is_end_site(joints, parent):
        raise ValueError("HIERARCHY has a joint inside an End Site")
    name = " ".join(until(words, "{"))  # names of 3ds Max have blanks
    expect(words, "OFFSET", name)
    offset = numbers([next(words, "") for _ in range(3)], 3, f"OFFSET of {name[:40]!r}")
    if is_end:
        return Joint(f"{joints[parent].name} {END}", parent, offset), 0
    if not name:
        raise ValueError("HIERARCHY has a joint without a name")
    expect(words, "CHANNELS", name)
    count = int(numbers([next(words, "")], 1, f"number of CHANNELS of {name[:40]!r}")[0])
    names = [next(words, "").lower() for _ in range(min(max(count, 0), len(CHANNELS)))]
    if len(names) != count or len(set(names)) != count or not set(names) <= set(CHANNELS):
        raise ValueError(f"CHANNELS of {name[:40]!r} are {count} {' '.join(names)[:80]}, expected {CHANNELS_HELP}")
    places = [(column + i, *divmod(CHANNELS.index(channel), 3)) for i, channel in enumerate(names)]
    moves = tuple((at, axis) for at, kind, axis in places if kind == 0)
    turns = tuple((at, axis) for at, kind, axis in places if kind == 1)
    return Joint(name, parent, offset, moves, turns), count


def is_end_site(joints: list[Joint], index: int) -> bool:
    """Return whether a joint was made of an End Site."""
    return joints[index].name == f"{joints[joints[index].parent].name} {END}" and not joints[index].turns


def until(words: Iterator[str], last: str) -> list[str]:
    """Return the words before ``last``, which is taken as well."""
    taken: list[str] = []
    for word in words:
        if word == last:
            return taken
        taken.append(word)
        if len(taken) > 16:
            break
    raise ValueError(f"{' '.join(taken)[:40]!r} in HIERARCHY is not followed by {last!r}")


def expect(words: Iterator[str], keyword: str, name: str) -> None:
    """Take ``keyword``; ValueError if another word comes."""
    word = next(words, "")
    if word.upper() != keyword:
        raise ValueError(f"joint {name[:40]!r} goes on with {word[:20]!r}, expected {keyword}")
