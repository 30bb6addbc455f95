"""Joint angles as files, read back by other readers: pandas and the rules of OpenSim's tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy.spatial.transform import Rotation

from app.biomechanics.joint_angles import ANGLES, angles_of, joint_angles, names
from app.biomechanics.segment_axes import joint
from tests.people import EARLY, GAP, LATE, walkers


def read_mot(path) -> tuple[dict[str, str], pandas.DataFrame]:
    """Read a table as OpenSim does: keys until endheader, then names and rows between tabs."""
    lines = path.read_text(encoding="ascii").splitlines()
    end = lines.index("endheader")
    return dict(line.split("=") for line in lines[:end] if "=" in line), pandas.read_csv(
        path, sep="\t", skiprows=end + 1, na_values="nan"
    )


def test_angles_are_a_tidy_table_with_definitions_on_top(result, write):
    path = write("angles", result)
    table = pandas.read_csv(path, comment="#")
    assert list(table) == ["time_s", "frame", "person", "angle", "degrees", "valid"]
    assert len(table) == len(names()) * (150 + 150 - LATE - EARLY)
    assert (table.degrees.isna() == (table.valid == 0)).all()
    for index, track in enumerate(result.tracks):
        wide = table[table.person == track.person_id].pivot(index="frame", columns="angle", values="degrees")
        assert wide.index.tolist() == track.frames.tolist()
        for name, values in joint_angles(result, index).items():
            np.testing.assert_allclose(wide[name], values, atol=0.0051)
    assert table[(table.person == 1) & table.frame.between(LATE + GAP.start, LATE + GAP.stop - 1)].valid.sum() == 0
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert all(any(f"{key}: {angle.about}" in line for line in header) for key, angle in ANGLES.items())
    assert any("x right, y up, z towards the camera" in line for line in header)


def test_a_clip_name_cannot_add_lines(result, write):
    evil = replace(result, video=replace(result.video, path=Path('a\n0,0,0,x,1,1\nb".mp4')))
    assert set(pandas.read_csv(write("angles", evil), comment="#").angle) == set(names())
    _, table = read_mot(write("mot", evil, 0))
    assert len(table) == 150


def test_angles_of_nobody_are_a_header(nobody, write):
    assert len(pandas.read_csv(write("angles", nobody), comment="#")) == 0
    assert json.loads(write("movement", nobody).read_text())["people"] == []


@pytest.mark.parametrize("index", [0, 1])
def test_mot_holds_the_coordinates_of_opensim(result, write, index):
    settings, table = read_mot(write("mot", result, index))
    track, angles = result.tracks[index], angles_of(result.world_joints(index))
    count = int(track.valid.sum())
    assert settings == {"version": "1", "nRows": str(count), "nColumns": str(len(table.columns)), "inDegrees": "yes"}
    assert np.isfinite(table.to_numpy()).all(), "OpenSim's Storage stops at the first number that is none"
    np.testing.assert_allclose(table.time, result.video.timestamps_s[track.frames[track.valid]], atol=1e-6)
    pelvis = result.world_joints(index)[track.valid, 0]
    np.testing.assert_allclose(table[["pelvis_tx", "pelvis_ty", "pelvis_tz"]], pelvis, atol=1e-5)
    for column, name, sign in (
        ("knee_angle_r", "right_knee_flexion", 1), ("hip_adduction_l", "left_hip_abduction", -1),
        ("lumbar_extension", "trunk_flexion", -1), ("elbow_flex_l", "left_elbow_flexion", 1),
    ):  # fmt: skip
        np.testing.assert_allclose(table[column], sign * angles[name][track.valid], atol=1e-4)


def test_mot_rebuilds_the_directions_of_the_limbs(result, write):
    """A body that is turned by the coordinates, as OpenSim turns it, has the joints' own directions."""
    _, table = read_mot(write("mot", result, 0))
    world = result.world_joints(0)
    pelvis = Rotation.from_euler("ZXY", table[["pelvis_tilt", "pelvis_list", "pelvis_rotation"]], degrees=True)
    torso = pelvis * Rotation.from_euler(
        "ZXY", table[["lumbar_extension", "lumbar_bending", "lumbar_rotation"]], degrees=True
    )
    limbs = (
        ("hip_flexion", "hip_adduction", "hip", "knee", pelvis),
        ("arm_flex", "arm_add", "shoulder", "elbow", torso),
    )
    for side, sign in (("right", 1), ("left", -1)):
        for flexion, adduction, upper, lower, parent in limbs:
            turns = np.stack([table[f"{flexion}_{side[0]}"], sign * table[f"{adduction}_{side[0]}"]], axis=1)
            rebuilt = (parent * Rotation.from_euler("ZX", turns, degrees=True)).apply([0, -1, 0])
            bone = joint(world, f"{side}_{lower}") - joint(world, f"{side}_{upper}")
            np.testing.assert_allclose(rebuilt, bone / np.linalg.norm(bone, axis=1, keepdims=True), atol=1e-5)


def test_movement_is_json_without_nan(walker, write):
    document = json.loads(
        write("movement", walkers(walker[:150], unit="normalized")).read_text(), parse_constant=pytest.fail
    )
    assert [person["id"] for person in document["people"]] == [0, 1]
    assert set(document["people"][1]["angles"]) == set(names())
    assert document["people"][1]["angles"]["pelvis_tilt"]["valid_share"] == pytest.approx(1 - 20 / 120, abs=1e-4)
