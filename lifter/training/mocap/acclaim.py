"""Acclaim files, as of the CMU database: a skeleton (.asf) and its motion (.amc)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
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
ROOT_ORDER = ["TX", "TY", "TZ", "RX", "RY", "RZ"]
ZEROS = ["0", "0", "0"]
Entries = dict[str, list[str]]  # words by the lower-case word before them


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """An .asf file.

    Attributes:
        joints: The starts of the bones, then the ends of bones without children.
        widths: Channels of "root" and of each bone that turns, in the order of their columns.
        unit_m: Metres per unit of length.
        in_degrees: Whether angles are degrees.
    """

    joints: tuple[Joint, ...]
    widths: dict[str, int]
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
        header, channels = parse_amc(file, skeleton.widths)
    fps = numbers(header.get("samples-per-second", [str(FPS)]), 1, "samples per second")[0]
    if not takes.FRAME_TIMES_S[0] <= 1 / max(fps, 1e-9) <= takes.FRAME_TIMES_S[1]:
        raise ValueError(f"it has {fps:g} frames per second, expected 10 to 1000")
    if "degrees" in header or (skeleton.in_degrees and "radians" not in header):
        to_radians(skeleton.joints, channels)
    return Take(skeleton.joints, channels, float(fps), skeleton.unit_m)


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
    units, root, bones = entries(sections.get("units", [])), entries(sections["root"]), bones_of(sections["bonedata"])
    length = numbers(units.get("length", ["1"]), 1, "unit of length")[0]
    if length <= 0:
        raise ValueError(f"unit of length is {length:g}, expected a positive number")
    in_degrees = " ".join(units.get("angle", ["deg"])).lower().startswith("deg")
    order = letters_of("order of the root", root.get("order", ROOT_ORDER), ROOT_ORDER)
    axes = parse_axes([*root.get("orientation", ZEROS), *root.get("axis", [])], in_degrees)
    moves = tuple((i, AXES.index(channel[1])) for i, channel in enumerate(order) if channel[0] == "t")
    turns = tuple((i, AXES.index(channel[1])) for i, channel in reversed([*enumerate(order)]) if channel[0] == "r")
    joints = [Joint("root", -1, numbers(root.get("position", ZEROS), 3, "position of the root"), moves, turns, axes)]
    index, widths, vectors = {"root": 0}, {"root": len(order)}, {"root": np.zeros(3)}
    parents = parents_of(sections["hierarchy"], bones)
    for name, parent in parents.items():
        dof = letters_of(f"dof of {name!r}", bones[name].get("dof", []), ROOT_ORDER[3:])
        columns = range(sum(widths.values()), sum(widths.values()) + len(dof))
        turns = tuple((column, AXES.index(word[1])) for column, word in zip(columns, dof, strict=True))
        axes = parse_axes(bones[name].get("axis", ZEROS), in_degrees)
        index[name], vectors[name] = len(joints), vector_of(name, bones[name])
        joints.append(Joint(name, index[parent], vectors[parent], (), turns[::-1], axes))  # the first dof turns first
        widths |= {name: len(dof)} if dof else {}
    leaves = [name for name in parents if name not in parents.values()]
    ends = [Joint(f"{name} {END}", index[name], vectors[name]) for name in leaves]
    return Skeleton((*joints, *ends), widths, INCH_M / length, in_degrees)


def read_sections(file: TextIO) -> dict[str, list[list[str]]]:
    """Return the words of every line by section (":units" and so on), without comments and blank lines."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for count, words in enumerate(lines_of(file)):
        if count > MAX_LINES:
            raise ValueError(f"it has over {MAX_LINES} lines")
        if words[0].startswith(":"):
            lines = sections.setdefault(words[0][1:].lower(), [])
        else:
            lines.append(words)
    return sections


def lines_of(file: TextIO) -> Iterator[list[str]]:
    """Yield the words of every line that has any, without comments."""
    for line in iter(lambda: file.readline(10_000), ""):
        if words := line.split("#")[0].split():
            yield words


def entries(lines: list[list[str]]) -> Entries:
    """Return the words of every line by its first word."""
    return {words[0].lower(): words[1:] for words in lines}


def bones_of(lines: list[list[str]]) -> dict[str, Entries]:
    """Return the entries of every begin ... end block by the bone's name."""
    bones: dict[str, Entries] = {}
    block: list[list[str]] | None = None
    for words in lines:
        keyword = words[0].lower()
        if (keyword == "begin") != (block is None):
            raise ValueError(f"{' '.join(words)[:30]!r} stands where 'begin' or 'end' was expected")
        if keyword == "begin":
            block = []
        elif keyword == "end":
            bone = entries(block or [])
            name = " ".join(bone.get("name", []))
            if not name or name in bones or name == "root":
                raise ValueError(f"bone {name!r} has no name of its own")
            bones[name], block = bone, None
        elif block is not None:
            block.append(words)
    if block is not None or len(bones) > takes.MAX_JOINTS:
        raise ValueError(f"the file ends inside a bone, or has over {takes.MAX_JOINTS} of them")
    return bones


def parents_of(lines: list[list[str]], bones: dict[str, Entries]) -> dict[str, str]:
    """Return each bone's parent, parents first; ValueError if the bones are no tree under "root"."""
    children: Entries = {}
    for parent, *names in lines:
        children.setdefault(parent, []).extend(names)  # "begin" and "end" have none
    parents: dict[str, str] = {}
    todo = ["root"]
    for parent in todo:  # grows meanwhile
        for name in children.get(parent, []):
            if name in parents or name not in bones:
                raise ValueError(f"hierarchy: {name!r} is no bone, or has two parents")
            parents[name] = parent
            todo.append(name)
    if len(parents) != len(bones):
        loose = ", ".join(name for name in bones if name not in parents)
        raise ValueError(f"hierarchy: not connected to the root (or in a circle): {loose[:200]}")
    return parents


def letters_of(what: str, words: list[str], known: list[str]) -> list[str]:
    """Return channels such as "rx" in lower case; ValueError if they are not distinct or not among ``known``."""
    channels = [word.lower() for word in words]
    if not {word.upper() for word in words} <= set(known) or len(set(channels)) != len(channels):
        raise ValueError(f"{what} is {' '.join(words)[:40]!r}, expected some of {' '.join(known).lower()}")
    return channels


def vector_of(name: str, bone: Entries) -> np.ndarray:
    """Return a bone (3,) from start to end at rest, in the file's unit."""
    direction = numbers(bone.get("direction", []), 3, f"direction of {name!r}")
    norm = np.linalg.norm(direction)
    if not 0.5 < norm < 2:
        raise ValueError(f"direction of {name!r} has length {norm:g}, expected 1")
    return direction / norm * numbers(bone.get("length", []), 1, f"length of {name!r}")[0]


def parse_axes(words: list[str], in_degrees: bool) -> np.ndarray:
    """Return the axes (3, 3) that "a b c XYZ" stands for: turned by a around x, then by b around y, c around z."""
    order = words[3].lower() if len(words) > 3 else AXES
    if sorted(order) != sorted(AXES):
        raise ValueError(f"order of an axis is {order!r}, expected XYZ or another order of the three")
    angles = numbers(words[:3], 3, "an axis")
    return Rotation.from_euler(order, angles, degrees=in_degrees).as_matrix()  # small letters: fixed axes


def parse_amc(file: TextIO, widths: dict[str, int]) -> tuple[Entries, np.ndarray]:
    """Return the header of an .amc file, and its values (F, C) in the order of ``widths``.

    Raises:
        ValueError: No frames, or one without all values that the skeleton asks for, or with others.
    """
    header: Entries = {}
    frame: Entries = {}
    values = array("d")
    count = 0
    for words in lines_of(file):
        if words[0].startswith(":") and not count:
            header[words[0][1:].lower()] = words[1:]
        elif len(words) == 1 and words[0].isdigit():
            if count:
                values.extend(row_of(frame, widths, count))
            count, frame = count + 1, {}
        elif not count or words[0] in frame or len(frame) > takes.MAX_JOINTS:
            raise ValueError(f"{' '.join(words)[:30]!r} in frame {count}, expected :FULLY-SPECIFIED or a frame number")
        else:
            frame[words[0]] = words[1:]
        if count > takes.MAX_FRAMES:
            raise ValueError(f"it has over {takes.MAX_FRAMES} frames")
    if "fully-specified" not in header or not count:
        raise ValueError("expected :FULLY-SPECIFIED, then frame numbers and one line per bone")
    values.extend(row_of(frame, widths, count))
    channels = np.array(values).reshape(count, -1)
    require_usable(channels)
    return header, channels


def row_of(frame: Entries, widths: dict[str, int], number: int) -> Iterator[float]:
    """Yield the values of a frame in the order of ``widths``."""
    wrong = [name for name in {**frame, **widths} if len(frame.get(name, ())) != widths.get(name)]
    if wrong:
        found, expected = len(frame.get(wrong[0], ())), widths.get(wrong[0], "no such bone")
        raise ValueError(
            f"frame {number} has {found} values of {wrong[0][:30]!r}, expected {expected} as the .asf says"
        )
    try:
        yield from [float(word) for name in widths for word in frame[name]]
    except ValueError as error:
        raise ValueError(f"frame {number}: {error}") from error
