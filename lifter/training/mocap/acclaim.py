"""Acclaim files, as of the CMU database: a skeleton (.asf) and its motion (.amc)."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from scipy.spatial.transform import Rotation

from lifter.training.mocap import takes
from lifter.training.mocap.takes import Joint, Take, numbers, open_text, require_usable, to_radians

INCH_M = 0.0254
FPS = 120.0  # of an .amc that does not say; the usual rate of the CMU database
MAX_LINES = 20_000  # of an .asf
AXES = "xyz"
END = "end"  # "head end": where the bone "head" ends


@dataclass(frozen=True, slots=True, eq=False)
class Bone:
    """One bone of an .asf file: ``vector`` (3,) from start to end at rest, ``axes`` (3, 3), turning axes ``dof``."""

    vector: np.ndarray
    axes: np.ndarray
    dof: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """An .asf file.

    Attributes:
        bones: By name, parents first; "root" is no bone.
        parents: Name of the bone (or "root") that a bone is fixed to.
        root_order: Channels of the root: (moves, axis).
        root: Place and turning axes of the root.
        unit_m: Metres per unit of length.
        in_degrees: Whether angles are degrees.
    """

    bones: dict[str, Bone]
    parents: dict[str, str]
    root_order: tuple[tuple[bool, int], ...]
    root: Bone
    unit_m: float
    in_degrees: bool


def read_amc(path: Path) -> Take:
    """Return the skeleton and motion of an .amc file; its .asf is looked for beside it.

    A joint bears the name of the bone that *starts* there; "<bone> end" is the end of a bone without children. The
    frame rate is 120 unless the file has ``:SAMPLES-PER-SECOND``.

    Raises:
        FileNotFoundError: No .asf for it.
        ValueError: One of the two files is malformed or beyond the limits of ``lifter.training.mocap.takes``.
    """
    asf = find_asf(path)
    try:
        with open_text(asf) as file:
            skeleton = parse_asf(file)
    except ValueError as error:
        raise ValueError(f"its skeleton {asf.name}: {error}") from error
    with open_text(path) as file:
        layout, values, header = parse_amc(file, skeleton)
    columns = dict(zip(layout, np.cumsum([0, *layout.values()]).tolist(), strict=False))
    joints = build_joints(skeleton, columns)
    if header.get("degrees", skeleton.in_degrees):
        to_radians(joints, values)
    return Take(joints, values, header.get("fps", FPS), skeleton.unit_m)


def find_asf(amc: Path) -> Path:
    """Return the skeleton of an .amc: of the same name, or named like what stands before "_", or the only one there."""
    skeletons = sorted(p for p in amc.parent.iterdir() if p.suffix.lower() == ".asf")
    for stem in (amc.stem, amc.stem.partition("_")[0]):
        for skeleton in skeletons:
            if skeleton.stem.lower() == stem.lower():
                return skeleton
    if len(skeletons) == 1:
        return skeletons[0]
    raise FileNotFoundError(
        f"no skeleton for it among the {len(skeletons)} .asf files of its folder; expected {amc.stem}.asf or "
        f"{amc.stem.partition('_')[0]}.asf"
    )


def parse_asf(file: TextIO) -> Skeleton:
    """Return the skeleton in an .asf file; ValueError if it is none."""
    sections = read_sections(file)
    for name in ("root", "bonedata", "hierarchy"):
        if name not in sections:
            raise ValueError(f"no section :{name}; expected an .asf file")
    units = {words[0].lower(): words[1:] for words in sections.get("units", [])}
    length = numbers(units.get("length", ["1"]), 1, "unit of length")[0]
    if length <= 0:
        raise ValueError(f"unit of length is {length:g}, expected a positive number")
    in_degrees = " ".join(units.get("angle", ["deg"])).lower().startswith("deg")
    bones = dict(parse_bones(sections["bonedata"], in_degrees))
    parents = parse_parents(sections["hierarchy"], bones)
    root = {words[0].lower(): words[1:] for words in sections["root"]}
    order = [channel.lower() for channel in root.get("order", ["TX", "TY", "TZ", "RX", "RY", "RZ"])]
    if not set(order) <= {kind + axis for kind in "tr" for axis in AXES} or len(set(order)) != len(order):
        raise ValueError(f"order of the root is {' '.join(order)[:40]!r}, expected some of TX TY TZ RX RY RZ")
    root_order = tuple((channel[0] == "t", AXES.index(channel[1])) for channel in order)
    turned = [*root.get("orientation", ["0", "0", "0"]), *root.get("axis", [])]
    root_bone = Bone(
        numbers(root.get("position", ["0", "0", "0"]), 3, "position of the root"), parse_axes(turned, in_degrees), ()
    )
    return Skeleton(
        {name: bones[name] for name in parents}, parents, root_order, root_bone, INCH_M / length, in_degrees
    )


def read_sections(file: TextIO) -> dict[str, list[list[str]]]:
    """Return the words of every line by section (":units" and so on), without comments and blank lines."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for count, line in enumerate(iter(lambda: file.readline(1000), "")):
        if count > MAX_LINES:
            raise ValueError(f"it has over {MAX_LINES} lines")
        words = line.split("#")[0].split()
        if words and words[0].startswith(":"):
            lines = sections.setdefault(words[0][1:].lower(), [])
        elif words:
            lines.append(words)
    return sections


def parse_bones(lines: list[list[str]], in_degrees: bool) -> Iterator[tuple[str, Bone]]:
    """Yield the name and the bone of every begin ... end block."""
    names: set[str] = set()
    for block in blocks(lines):
        entry = {words[0].lower(): words[1:] for words in block}
        name = " ".join(entry.get("name", []))
        if not name or name in names or name == "root":
            raise ValueError(f"bone {name!r} has no name of its own")
        names.add(name)
        if len(names) > takes.MAX_JOINTS:
            raise ValueError(f"the skeleton has over {takes.MAX_JOINTS} bones")
        direction = numbers(entry.get("direction", []), 3, f"direction of {name!r}")
        length = numbers(entry.get("length", []), 1, f"length of {name!r}")[0]
        norm = np.linalg.norm(direction)
        if not 0.5 < norm < 2:
            raise ValueError(f"direction of {name!r} has length {norm:g}, expected 1")
        dof = [word.lower() for word in entry.get("dof", [])]
        if not set(dof) <= {"rx", "ry", "rz"} or len(set(dof)) != len(dof):
            raise ValueError(f"dof of {name!r} is {' '.join(dof)!r}, expected some of rx ry rz")
        axes = parse_axes(entry.get("axis", ["0", "0", "0"]), in_degrees)
        yield name, Bone(direction / norm * length, axes, tuple(AXES.index(word[1]) for word in dof))


def blocks(lines: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the lines of every begin ... end block."""
    block: list[list[str]] | None = None
    for words in lines:
        keyword = words[0].lower()
        if keyword == "begin" and block is None:
            block = []
        elif keyword == "end" and block is not None:
            yield block
            block = None
        elif block is None or keyword == "begin":
            raise ValueError(f"{' '.join(words)[:30]!r} stands where 'begin' or 'end' was expected")
        else:
            block.append(words)
    if block is not None:
        raise ValueError("the file ends inside a begin ... end block")


def parse_axes(words: list[str], in_degrees: bool) -> np.ndarray:
    """Return the axes (3, 3) that "a b c XYZ" stands for: turned by a around x, then by b around y, c around z."""
    order = words[3].lower() if len(words) > 3 else AXES
    if sorted(order) != sorted(AXES):
        raise ValueError(f"order of an axis is {order!r}, expected XYZ or another order of the three")
    angles = numbers(words[:3], 3, "an axis")
    return Rotation.from_euler(order, angles, degrees=in_degrees).as_matrix()  # small letters: fixed axes


def parse_parents(lines: list[list[str]], bones: dict[str, Bone]) -> dict[str, str]:
    """Return each bone's parent, parents first; ValueError if the bones are no tree under "root"."""
    children: dict[str, list[str]] = {}
    known: set[str] = set()
    for block in blocks(lines):
        for parent, *names in block:
            for name in names:
                if name in known or name not in bones:
                    raise ValueError(f"hierarchy: {name!r} is no bone, or has two parents")
                known.add(name)
            children.setdefault(parent, []).extend(names)
    parents: dict[str, str] = {}
    level, depth = ["root"], 0
    while level:
        parents.update({name: parent for parent in level for name in children.get(parent, [])})
        level = [name for parent in level for name in children.get(parent, [])]
        depth += 1
        if depth > takes.MAX_DEPTH:
            raise ValueError(f"the skeleton has over {takes.MAX_DEPTH} levels")
    if len(parents) != len(bones):
        loose = ", ".join(name for name in bones if name not in parents)
        raise ValueError(f"hierarchy: not connected to the root (or in a circle): {loose[:200]}")
    return parents


def build_joints(skeleton: Skeleton, columns: dict[str, int]) -> tuple[Joint, ...]:
    """Return the joints at the starts of the bones, then the ends of bones without children.

    Args:
        skeleton: Bones at rest.
        columns: First channel of the root and of each bone that turns.
    """
    places = [(columns["root"] + i, is_move, axis) for i, (is_move, axis) in enumerate(skeleton.root_order)]
    moves = tuple((at, axis) for at, is_move, axis in places if is_move)
    turns = tuple((at, axis) for at, is_move, axis in reversed(places) if not is_move)
    joints = [Joint("root", -1, skeleton.root.vector, moves, turns, skeleton.root.axes)]
    index = {"root": 0}
    for name, bone in skeleton.bones.items():
        parent = skeleton.parents[name]
        offset = np.zeros(3) if parent == "root" else skeleton.bones[parent].vector
        turns = tuple((columns[name] + i, axis) for i, axis in enumerate(bone.dof)) if bone.dof else ()
        index[name] = len(joints)
        joints.append(Joint(name, index[parent], offset, (), turns[::-1], bone.axes))  # the first dof turns first
    leaves = [name for name in skeleton.bones if name not in skeleton.parents.values()]
    ends = [Joint(f"{name} {END}", index[name], skeleton.bones[name].vector) for name in leaves]
    return (*joints, *ends)


def parse_amc(file: TextIO, skeleton: Skeleton) -> tuple[dict[str, int], np.ndarray, dict[str, float]]:
    """Return the channels of an .amc file.

    Returns:
        Number of values of the root and each bone in the file's order, the values (F, C) as they stand there, and what
        the header says: "degrees" (1 or 0) and "fps", where it does.
    """
    lines = (words for line in iter(lambda: file.readline(10_000), "") if (words := line.split("#")[0].split()))
    header, first = parse_header(lines)
    layout: list[tuple[str, int]] = []
    values = array("d")
    for count, block in enumerate(frame_blocks(itertools.chain([first], lines)), start=1):
        widths = [(words[0], len(words) - 1) for words in block]
        if count == 1:
            check_layout(widths, skeleton)
            layout = widths
        if widths != layout:
            raise ValueError(f"frame {count} has not the bones and values of the first frame; is the file cut short?")
        try:
            values.extend(float(word) for words in block for word in words[1:])
        except ValueError as error:
            raise ValueError(f"frame {count}: {error}") from error
    channels = np.array(values).reshape(-1, sum(width for _, width in layout))
    require_usable(channels)
    return dict(layout), channels, header


def parse_header(lines: Iterator[list[str]]) -> tuple[dict[str, float], list[str]]:
    """Return what the lines with ":" say and the first line after them; ValueError if this is no .amc file."""
    header: dict[str, float] = {}
    keywords = set()
    for words in lines:
        keyword = words[0].upper()
        keywords.add(keyword)
        if not keyword.startswith(":"):
            break
        if keyword in (":DEGREES", ":RADIANS"):
            header["degrees"] = float(keyword == ":DEGREES")
        elif keyword == ":SAMPLES-PER-SECOND":
            header["fps"] = float(numbers(words[1:], 1, keyword)[0])
            if not takes.FRAME_TIMES_S[0] <= 1 / max(header["fps"], 1e-9) <= takes.FRAME_TIMES_S[1]:
                raise ValueError(f"it has {header['fps']:g} frames per second, expected 10 to 1000")
    else:
        raise ValueError("it has no frames; expected :FULLY-SPECIFIED, then frame numbers and one line per bone")
    if ":FULLY-SPECIFIED" not in keywords:
        raise ValueError("it does not say :FULLY-SPECIFIED; expected an .amc file with all values of every frame")
    return header, words


def frame_blocks(lines: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the lines of each frame without the frame number that begins it."""
    block: list[list[str]] | None = None
    for count, words in enumerate(lines):
        if len(words) == 1 and words[0].isdigit():
            if block is not None:
                yield block
            block = []
        elif block is None or len(block) > takes.MAX_JOINTS:
            raise ValueError(f"{' '.join(words)[:30]!r} in line {count + 1} of the frames, expected a frame number")
        else:
            block.append(words)
        if count > takes.MAX_FRAMES * 100:
            raise ValueError(f"it has over {takes.MAX_FRAMES} frames")
    if block is not None:
        yield block


def check_layout(widths: list[tuple[str, int]], skeleton: Skeleton) -> None:
    """Raise a ValueError unless the first frame has all values that the skeleton asks for, and no other bones."""
    expected = {"root": len(skeleton.root_order)}
    expected.update({name: len(bone.dof) for name, bone in skeleton.bones.items() if bone.dof})
    for name, width in widths:
        if expected.get(name) != width:
            by_asf = expected.get(name, "no such bone")
            raise ValueError(f"{width} values of {name[:30]!r}, expected {by_asf} as the .asf says")
    missing = [name for name in expected if name not in dict(widths)]
    if missing or len(widths) != len(expected):
        raise ValueError(f"the first frame lacks or repeats bones; missing: {', '.join(missing)[:200] or 'none'}")
