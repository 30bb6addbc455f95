"""Sign, zero and mirror image of every angle on constructed poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from app.biomechanics.joint_angles import ANGLES, angles_of, joint_angles, names
from app.biomechanics.movement_summary import movement_summary
from lifter.skeletons import H36M17
from tests.people import walkers

EXACT = 1e-6
# Standing, facing the camera (z), arms hanging: meters, y up, the left side at +x.
RIGHT = {"hip": (-0.1, 0.9, 0), "knee": (-0.1, 0.5, 0), "ankle": (-0.1, 0.1, 0),
         "shoulder": (-0.18, 1.4, 0), "elbow": (-0.18, 1.1, 0), "wrist": (-0.18, 0.85, 0)}  # fmt: skip
MIDDLE = {"pelvis": (0, 0.9, 0), "spine": (0, 1.15, 0), "thorax": (0, 1.4, 0), "nose": (0, 1.6, 0.1),
          "head": (0, 1.65, 0)}  # fmt: skip
LEGS, ARM = ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
UPPER_BODY = ("thorax", "nose", "head", *(f"{side}_{part}" for side in ("left", "right") for part in ARM))


def standing() -> dict[str, np.ndarray]:
    sides = {f"{side}_{part}": np.array(at) * (sign, 1, 1)
             for side, sign in (("right", 1), ("left", -1)) for part, at in RIGHT.items()}  # fmt: skip
    return sides | {name: np.array(at, float) for name, at in MIDDLE.items()}


def turned(body: dict[str, np.ndarray], about: str, axis, degrees: float, *joints: str) -> dict[str, np.ndarray]:
    """Turn joints about an axis through another joint, right-handed."""
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array(axis, float))
    center = body[about]
    return body | {name: center + rotation.apply(body[name] - center) for name in joints or body}


def measure(body: dict[str, np.ndarray]) -> dict[str, float]:
    world = np.stack([body[name] for name in H36M17.names])[None]
    return {name: float(values[0]) for name, values in angles_of(world).items()}


def mirrored(body: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    other = {"left": "right", "right": "left"}
    names = {name: name.replace(side, other[side]) if (side := name.split("_")[0]) in other else name for name in body}
    return {names[name]: at * (-1, 1, 1) for name, at in body.items()}


def leg(side: str, *parts: str) -> list[str]:
    return [f"{side}_{part}" for part in parts]


X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
# What is done to the standing body, its right side, and which angles differ from 0 then.
POSES = {
    "right knee bent": (lambda b: turned(b, "right_knee", X, 90, "right_ankle"),
                        {"right_knee_flexion": 90, "right_hip_rotation": 0}),
    "right thigh raised": (lambda b: turned(b, "right_hip", X, -40, "right_knee", "right_ankle"),
                           {"right_hip_flexion": 40}),
    "right leg back": (lambda b: turned(b, "right_hip", X, 20, "right_knee", "right_ankle"),
                       {"right_hip_flexion": -20}),
    "right leg out": (lambda b: turned(b, "right_hip", Z, -30, "right_knee", "right_ankle"),
                      {"right_hip_abduction": 30}),
    "right foot turned in": (  # sitting, the foot swings outward when the thigh turns inward
        lambda b: turned(turned(turned(b, "right_knee", X, 90, "right_ankle"), "right_hip", X, -90, "right_knee",
                                "right_ankle"), "right_knee", Z, -25, "right_ankle"),
        {"right_knee_flexion": 90, "right_hip_flexion": 90, "right_hip_rotation": 25}),
    "right arm out": (lambda b: turned(b, "right_shoulder", Z, -90, "right_elbow", "right_wrist"),
                      {"right_shoulder_elevation": 90, "right_shoulder_plane": 0}),
    "right arm forward": (lambda b: turned(b, "right_shoulder", X, -90, "right_elbow", "right_wrist"),
                          {"right_shoulder_elevation": 90, "right_shoulder_plane": 90}),
    "right arm up": (lambda b: turned(b, "right_shoulder", X, -180, "right_elbow", "right_wrist"),
                     {"right_shoulder_elevation": 180}),
    "right elbow bent": (lambda b: turned(b, "right_elbow", X, -120, "right_wrist"), {"right_elbow_flexion": 120}),
}  # fmt: skip


@pytest.mark.parametrize("mirror", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("pose", POSES)
def test_a_pose_moves_its_own_angles_and_no_other(pose, mirror):
    change, expected = POSES[pose]
    body = change(standing())
    found = measure(mirrored(body) if mirror else body)
    if mirror:
        expected = {name.replace("right", "left"): value for name, value in expected.items()}
    zero = measure(standing())
    for name, value in found.items():
        wanted = expected.get(name, zero[name])
        assert value == pytest.approx(wanted, abs=1e-4, nan_ok=True), name


def test_standing_is_zero_and_hides_what_joint_centers_do_not_show():
    hidden = {f"{side}_{key}" for side in ("left", "right") for key in ("hip_rotation", "shoulder_plane")}
    found = measure(standing())
    assert {name for name, value in found.items() if np.isnan(value)} == hidden
    assert all(abs(value) < 1e-4 for name, value in found.items() if name not in hidden)
    assert list(found) == names()


def test_a_t_pose_raises_both_arms_sideways():
    body = turned(standing(), "right_shoulder", Z, -90, "right_elbow", "right_wrist")
    found = measure(turned(body, "left_shoulder", Z, 90, "left_elbow", "left_wrist"))
    for side in ("left", "right"):
        assert found[f"{side}_shoulder_elevation"] == pytest.approx(90, abs=1e-4)
        assert found[f"{side}_shoulder_plane"] == pytest.approx(0, abs=1e-4)
        assert found[f"{side}_elbow_flexion"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("axis", "degrees", "joints", "expected"),
    [
        (X, 30, UPPER_BODY, {"trunk_flexion": 30}),
        (Z, 20, UPPER_BODY, {"trunk_side_bend": 20}),  # the left side is at +x: this leans to the right
        (Y, 40, UPPER_BODY, {"trunk_rotation": 40}),
    ],
    ids=["forward", "right", "left turn"],
)
def test_the_thorax_on_the_pelvis(axis, degrees, joints, expected):
    found = measure(turned(standing(), "spine", axis, degrees, *joints))
    for name in ("trunk_flexion", "trunk_side_bend", "trunk_rotation", "pelvis_tilt", "head_flexion", "head_rotation"):
        assert found[name] == pytest.approx(expected.get(name, 0), abs=1e-4), name


@pytest.mark.parametrize(
    ("axis", "degrees", "expected"),
    [
        (X, 35, {"pelvis_tilt": 35, "trunk_lean_forward": 35}),
        (Z, 15, {"pelvis_obliquity": 15, "trunk_lean_right": 15}),
        (Y, 60, {"pelvis_rotation": 60}),
    ],
    ids=["forward", "right", "left turn"],
)
@pytest.mark.parametrize("heading", [0, 130])
def test_the_whole_body_in_the_world(axis, degrees, expected, heading):
    """Joint angles do not notice; the angles of the trunk in the world do, wherever the person faces."""
    found = measure(turned(turned(standing(), "pelvis", axis, degrees), "pelvis", Y, heading))
    still = measure(standing())
    for name in names():
        wanted = expected.get(name, 0 if name.startswith(("pelvis", "trunk_lean")) else still[name])
        if name == "pelvis_rotation":
            wanted = (wanted + heading + 180) % 360 - 180
        assert found[name] == pytest.approx(wanted, abs=1e-4, nan_ok=True), name


@pytest.mark.parametrize(
    ("axis", "degrees", "name"),
    [(X, 25, "head_flexion"), (Z, 25, "head_side_bend"), (Y, 50, "head_rotation")],
)
def test_the_head_on_the_thorax(axis, degrees, name):
    assert measure(turned(standing(), "thorax", axis, degrees, "head", "nose"))[name] == pytest.approx(degrees, abs=1)


def test_where_an_angle_has_no_meaning_there_is_no_number():
    sideways = measure(turned(standing(), "right_hip", Z, -85, "right_knee", "right_ankle"))
    assert np.isnan(sideways["right_hip_flexion"])
    assert sideways["right_hip_abduction"] == pytest.approx(85)
    nowhere = measure({name: np.zeros(3) for name in standing()})
    assert np.isnan([nowhere["pelvis_tilt"], nowhere["left_hip_flexion"], nowhere["trunk_flexion"]]).all()
    lost = measure(standing() | {"left_wrist": np.full(3, np.nan)})
    assert np.isnan(lost["left_elbow_flexion"])
    assert lost["right_elbow_flexion"] == pytest.approx(0, abs=1e-4)


def test_invalid_frames_and_unseen_joints_have_no_number(walker):
    result = walkers(walker[:150])
    track = result.tracks[1]
    assert not track.valid.all()
    for values in joint_angles(result, 1).values():
        assert np.isnan(values[~track.valid]).all()
    scores = result.poses[0].scores.copy()
    scores[50:60, H36M17.index("left_ankle")] = 0.02
    unseen = replace(result, poses=[replace(result.poses[0], scores=scores), result.poses[1]])
    before, after = joint_angles(result, 0), joint_angles(unseen, 0)
    for name in names():
        is_of_the_leg = name in {f"left_{key}" for key in ANGLES if key.startswith(("knee", "hip"))}
        assert np.isnan(after[name][50:60]).all() or not is_of_the_leg
        rest = np.delete(before[name], np.s_[50:60])
        np.testing.assert_allclose(np.delete(after[name], np.s_[50:60]), rest, atol=EXACT)
        if not is_of_the_leg:
            np.testing.assert_allclose(after[name], before[name], atol=EXACT)


def test_somebody_who_turns_round_is_counted_on():
    spin = np.stack([
        np.stack([turned(standing(), "pelvis", Y, degrees)[name] for name in H36M17.names])
        for degrees in np.linspace(0, 720, 150)
    ])  # fmt: skip
    turn = joint_angles(walkers(spin, 1), 0)["pelvis_rotation"]
    assert turn[-1] - turn[0] == pytest.approx(720, abs=1)


def test_ranges_peaks_and_symmetry_of_a_known_swing():
    times = np.arange(150) / 30
    swing = {"left": 30 - 30 * np.cos(2 * np.pi * 0.5 * times), "right": 20 - 20 * np.cos(2 * np.pi * 0.5 * times)}
    frames = []
    for left, right in zip(swing["left"], swing["right"], strict=True):
        body = turned(standing(), "left_knee", X, left, "left_ankle")
        body = turned(body, "right_knee", X, right, "right_ankle")
        frames.append(np.stack([body[name] for name in H36M17.names]))
    (person,) = movement_summary(walkers(np.stack(frames), 1))["people"]
    knee = person["angles"]["left_knee_flexion"]
    assert (knee["min"], knee["max"], knee["range"]) == pytest.approx((0, 60, 60), abs=1.5)
    assert knee["peak_velocity"] == pytest.approx(30 * 2 * np.pi * 0.5, rel=0.03)
    assert person["symmetry"]["knee_flexion"] == pytest.approx(200 * (60 - 40) / 100, abs=3)
    assert person["symmetry"]["elbow_flexion"] is None  # nothing moved
    assert person["gait"]["kind"] == "none"
