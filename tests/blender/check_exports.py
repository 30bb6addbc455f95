"""Opens pose.glb and pose.person*.bvh in Blender and compares them with pose.csv: ``make blender``.

    PYTHON_WITH_bpy check_exports.py FOLDER    (pip install bpy; Blender 4.2 or later)

FOLDER is a result of ``posemamba run ... --rigid-bones --formats csv,glb,bvh``. Checked for every person: bone heads
are at the joints of pose.csv within 1 mm in every frame; bones point at their children; the rest pose is a T that
stands on the floor; bones have names that retargeting tools know; keys lie on whole frames; the animation has a name;
Blender warns about nothing. Exits with 1 if anything is wrong.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import bpy
from mathutils import Vector

JOINTS = {"pelvis": "Hips", "spine": "Spine1", "thorax": "Neck", "nose": "Head"}
CHAINS = [("Spine", "Spine1"), ("Spine1", "Neck"), ("Neck", "Head")]
for side in ("left", "right"):
    for joint, bone in (("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("shoulder", "Arm"), ("elbow", "ForeArm"),
                        ("wrist", "Hand")):  # fmt: skip
        JOINTS[f"{side}_{joint}"] = side.capitalize() + bone
    for chain in ("UpLeg Leg Foot ToeBase", "Shoulder Arm ForeArm Hand"):
        bones = [side.capitalize() + bone for bone in chain.split()]
        CHAINS += list(pairwise(bones))
# What Rokoko's add-on and Mixamo know, in lower case; Reference is MotionBuilder's node on the floor.
KNOWN = {"hips", "spine", "spine1", "neck", "head", "reference"} | {
    f"{side}{bone}"
    for side in ("left", "right")
    for bone in ("upleg", "leg", "foot", "toebase", "shoulder", "arm", "forearm", "hand")
}
HARMLESS = "zero length node found: Hips"  # the spine turns in the pelvis, where the hips do
LIMIT_MM, LIMIT_DEGREES = 1.0, 1.0
WHOLE = 0.01  # of a frame: times are rounded to 32 bits


def main(folder: Path) -> int:
    """Print a line per file and person and everything that is wrong; return 1 if anything is."""
    truth, rate = read_csv(folder / "pose.csv")
    wrong = []
    for path in [folder / "pose.glb", *sorted(folder.glob("pose.person*.bvh"))]:
        rigs, log = load(path, rate)
        is_glb = path.suffix == ".glb"
        for person in sorted(truth) if is_glb else [path.name.split(".")[1].removeprefix("person")]:
            rig = next((rig for rig in rigs if rig.name == f"person{person}"), rigs[0])
            off = distances_mm(rig, truth[person], first=0 if is_glb else 1)
            print(f"{path.name}, person {person}: {len(truth[person])} frames, bone heads off by "
                  f"{sum(off) / len(off):.4f} mm on average, {max(off):.4f} at most")  # fmt: skip
            wrong += [f"{path.name}, person {person}: {fault}" for fault in faults(rig, off)]
        wrong += [f"{path.name}: Blender says {line!r}" for line in log.splitlines() if is_warning(line)]
        names = sorted(action.name for action in bpy.data.actions)
        print(f"{path.name}: {len(rigs)} armatures, animation {', '.join(names)}")
        if names in ([], ["motion"]):
            wrong.append(f"{path.name}: the animation has no name of its own")
    print(*wrong, "all as expected" if not wrong else f"{len(wrong)} faults", sep="\n")
    return bool(wrong)


def distances_mm(rig: bpy.types.Object, frames: dict[int, dict[str, Vector]], first: int) -> list[float]:
    """Return how far bone heads are from their joints; ``first`` is where the file's frames begin in Blender."""
    off = []
    for frame, joints in frames.items():
        bpy.context.scene.frame_set(frame + first)
        heads = {joint: rig.matrix_world @ rig.pose.bones[JOINTS[joint]].head for joint in joints}
        off += [1000 * math.dist(heads[joint], place) for joint, place in joints.items()]
    return off


def read_csv(path: Path) -> tuple[dict[str, dict[int, dict[str, Vector]]], float]:
    """Return the places of joints, z up as in Blender, by person, frame and joint, and the frames per second."""
    truth: dict = defaultdict(lambda: defaultdict(dict))
    times = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            times[int(row["frame"])] = float(row["time_s"])
            if row["x_m"] and row["joint"] in JOINTS:
                x, y, z = (float(row[f"{axis}_m"]) for axis in "xyz")
                truth[row["person"]][int(row["frame"])][row["joint"]] = Vector((x, -z, y))
    frames = sorted(times)
    return truth, (frames[-1] - frames[0]) / (times[frames[-1]] - times[frames[0]])


def load(path: Path, rate: float) -> tuple[list, str]:
    """Import a file into an empty scene; return its armatures and what Blender printed."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        if path.suffix == ".glb":  # has seconds and no frame rate: the scene's must be set before
            bpy.context.scene.render.fps = round(rate)
            bpy.context.scene.render.fps_base = round(rate) / rate
            bpy.ops.import_scene.gltf(filepath=str(path))
        else:
            bpy.ops.import_anim.bvh(filepath=str(path), update_scene_fps=True)
    return [thing for thing in bpy.data.objects if thing.type == "ARMATURE"], log.getvalue()


def is_warning(line: str) -> bool:
    """Return whether a line of Blender's is more than a report of progress."""
    return any(word in line.lower() for word in ("warn", "error", "zero length")) and HARMLESS not in line


def angles(rig: bpy.types.Object) -> list[float]:
    """Return by how many degrees bones point past their child in the rest pose."""
    pairs = [(rig.data.bones[bone], rig.data.bones[child]) for bone, child in CHAINS]
    return [math.degrees((a.tail_local - a.head_local).angle(b.head_local - a.head_local)) for a, b in pairs]


def faults(rig: bpy.types.Object, off: list[float]) -> Iterator[str]:
    """Yield what is not as it should be, in words."""
    if max(off) > LIMIT_MM:
        yield f"bone heads are off by {max(off):.2f} mm, expected at most {LIMIT_MM} mm"
    if max(angles(rig)) > LIMIT_DEGREES:
        yield f"bones point {max(angles(rig)):.1f} degrees past their child, expected at most {LIMIT_DEGREES}"
    if unknown := {bone.name for bone in rig.data.bones if bone.name.lower() not in KNOWN}:
        yield f"bones {', '.join(sorted(unknown))} have names that retargeting tools do not know"
    heads = {bone.name: rig.matrix_world @ bone.head_local for bone in rig.data.bones}
    tails = [rig.matrix_world @ bone.tail_local for bone in rig.data.bones]
    lowest = min(place.z for place in [*heads.values(), *tails])
    if abs(lowest) > LIMIT_MM / 1000:
        yield f"the rest pose stands {1000 * lowest:.0f} mm above the floor"
    for side, sign in (("Left", 1), ("Right", -1)):
        arm = heads[f"{side}Hand"] - heads[f"{side}Arm"]
        if math.degrees(arm.angle(Vector((sign, 0, 0)))) > LIMIT_DEGREES:
            yield f"the {side.lower()} arm of the rest pose does not lie along the x axis"
    times = {
        point.co.x for action in bpy.data.actions for curve in curves_of(action) for point in curve.keyframe_points
    }
    if astray := [x for x in times if abs(x - round(x)) > WHOLE]:
        yield f"{len(astray)} keys lie between frames"


def curves_of(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    """Return the curves of an action, in Blender 4 and 5."""
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags for curve in bag.fcurves]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[-1])))
