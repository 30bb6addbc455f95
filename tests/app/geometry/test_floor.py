"""Floors: where bodies rest, who shares one, who stands elsewhere, and whose feet are not seen."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.evaluation.smoothness import certain_track
from app.export import export
from app.export.json import SCHEMA_FILE
from app.geometry.floor import Floor, shared_floors
from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.geometry.unseen_joints import unseen_joints
from app.options import FORMATS, Options
from app.quality.warnings import NO_UP
from app.results import PoseResult, Shot
from app.video.video_info import VideoInfo
from lifter.skeletons import COCO17, H36M17
from tests.people import PROVENANCE, standing

LEGS = [H36M17.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle")]
AWAY, BACK, UP_THERE = np.array([[0.8, 0, -2.5], [0, 0, -2.0], [1.5, 3.0, -4.0]])


def turned(world, degrees):
    """Return joints turned about the camera's axis, the lowest at 0."""
    a = np.radians(degrees)
    world = world @ np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]).T
    return world - (0, world[..., 1].min(), 0) + (0, 0, -2.0)


def result_of(*people, is_camera_moving=False, **options):
    settings = Options(fov_degrees=people[0].fov_degrees, **options)
    poses = [estimate_root_trajectory(one.track, one.pose, one.video, settings) for one in people]
    tracks = [one.track for one in people]
    shot = estimate_gravity(Shot(0, people[0].video.num_frames, is_camera_moving), tracks, poses, people[0].video)
    return PoseResult(people[0].video, tracks, poses, settings, shots=(shot,))


def cut_off_at_the_waist(one):
    """Somebody whose knees and ankles are below the border, where a detector guesses them 30 % too far down."""
    keypoints, scores = one.track.keypoints.copy(), one.track.scores.copy()
    hips = keypoints[:, 11:13].mean(axis=1, keepdims=True)
    keypoints[:, 13:] += 0.3 * (keypoints[:, 13:] - hips)
    scores[:, 13:] = 0.2
    height = int(keypoints[:, 13:, 1].min())
    track = replace(one.track, keypoints=keypoints, scores=scores)
    unseen = unseen_joints(track, replace(one.video, height=height))
    joint_scores = one.pose.scores.copy()
    joint_scores[:, LEGS] = 0.2
    return one._replace(track=track, pose=replace(one.pose, scores=joint_scores, unseen=unseen))


@pytest.mark.parametrize("degrees", [180, 90, 150], ids=["upside down", "lying", "cartwheel"])
def test_nothing_hangs_below_the_floor_and_something_touches_it(walker, filmed, degrees):
    result = result_of(filmed(turned(walker[100:160], degrees), pitch=0.0))
    for has_rigid_bones in (False, True):
        lowest = result.world_joints(0, has_rigid_bones=has_rigid_bones)[..., 1].min(axis=1)
        assert lowest.min() > -0.05
        assert np.median(lowest) < 0.15


def test_who_comes_down_from_a_wall_ends_on_the_floor(walker, filmed):
    still = np.repeat(walker[100:101], 90, axis=0)
    height = np.r_[np.full(60, 2.0), np.linspace(2, 0, 12), np.zeros(18)]  # most of the time up there
    result = result_of(filmed(still + np.stack([0 * height, height, 0 * height - 3], axis=1)[:, None]))
    lowest = result.world_joints(0)[..., 1].min(axis=1)
    assert lowest[-10:] == pytest.approx(0.1, abs=0.06)
    assert lowest[:50] == pytest.approx(2.1, abs=0.1)


def test_the_man_on_the_wall_keeps_his_height_with_a_warning(walker, filmed):
    still = np.repeat(walker[100:101], len(walker), axis=0)
    above = filmed(still + UP_THERE, person_id=1)
    result = result_of(filmed(walker + BACK), above)
    assert result.world_joints(1)[..., 1].min(axis=1) == pytest.approx(3.1, abs=0.25)
    assert result.world_joints(0)[..., 1].min() == pytest.approx(0.1, abs=0.06)
    assert any("above the floor of the others" in text for text in result.quality[1].warnings)
    assert not any("floor" in text for text in result.quality[0].warnings)
    assert result.camera_height(0) == pytest.approx(result.camera_height(1), abs=0.05)


def test_a_moving_camera_has_no_floor_in_common(walker, filmed):
    still = np.repeat(walker[100:101], len(walker), axis=0)
    above = filmed(still + UP_THERE, person_id=1)
    result = result_of(filmed(walker + BACK), above, is_camera_moving=True)
    assert result.world_joints(1)[..., 1].min() == pytest.approx(0.1, abs=0.06)


def test_a_child_taken_for_an_adult_stands_on_the_floor(walker, filmed):
    child = filmed(0.6 * walker + AWAY, person_id=1)
    adult_sized = child._replace(pose=replace(child.pose, joints=child.pose.joints / 0.6))
    result = result_of(filmed(walker), adult_sized)
    for index in (0, 1):
        assert np.median(result.world_joints(index)[..., 1].min(axis=1)) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("levels", "votes", "expected"),
    [
        ([-1.5, -1.6, -1.45], [9, 9, 9], [Floor(-1.5), Floor(-1.6), Floor(-1.45)]),
        ([-1.5, 0.5], [9, 9], [Floor(-1.5), Floor(-1.5, is_own=False, above=2.0)]),
        ([0.5, -1.5], [12, 9], [Floor(-1.5, is_own=False, above=2.0), Floor(-1.5)]),  # the lower one wins a near tie
        ([-1.5, -1.5, -5.0], [9, 9, 9], [Floor(-1.5), Floor(-1.5), Floor(-5.0, above=-3.5)]),  # and no lone outlier
        ([-1.5, None], [9, 9], [Floor(-1.5), Floor(-1.5, is_own=False)]),
    ],
)
def test_the_vote(levels, votes, expected):
    assert shared_floors(levels, [4.0] * len(levels), votes) == expected


def test_who_is_cut_off_at_the_waist_has_no_floor_no_guessed_legs_and_one_sentence(walker, filmed):
    one = cut_off_at_the_waist(filmed(walker[100:160]))
    assert np.array_equal(np.flatnonzero(one.pose.unseen.all(axis=0)), sorted(LEGS))
    result = result_of(one)
    (floor,), (quality,) = result.floors, result.quality
    assert (floor, result.camera_height(0), result.shots[0].up, quality.foot_skating) == (None, None, None, None)
    (text,) = quality.warnings
    assert text.startswith("not in the picture or hidden: ankles, knees; these joints are guesses and not valid")
    assert NO_UP not in quality.warnings
    assert np.linalg.norm(result.poses[0].root - one.root, axis=1).mean() < 0.05  # guessed legs move nobody


def test_what_is_not_seen_is_in_no_file(walker, filmed, tmp_path):
    one = cut_off_at_the_waist(filmed(walker[100:160]))
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"any")
    result = result_of(one._replace(video=replace(one.video, path=path)))
    formats = [name for name in FORMATS if name != "report"]  # which shows pictures of the video
    files = export(replace(result, provenance=PROVENANCE), tmp_path / "out", formats=formats, has_overlay=False)
    pose = json.loads(files["json"].read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(pose)
    (person,) = pose["people"]
    assert person["camera_height"] is None
    assert person["unseen"] == [sorted(LEGS)] * 60
    with files["csv"].open() as file:
        rows = list(csv.DictReader(file))
    hidden = {H36M17.names[joint] for joint in LEGS}
    assert all((row["valid"] == "0" and row["y_m"] == "") == (row["joint"] in hidden) for row in rows)
    cells = files["trc person0"].read_text().splitlines()[6].split("\t")[2:53]
    assert [cell == "" for cell in cells[::3]] == [joint in LEGS for joint in range(17)]
    with np.load(files["npz"]) as arrays:
        assert np.isnan(arrays["camera_height"]).all()
        assert arrays["unseen"][:, 0, LEGS].all()


def test_a_guessed_leg_beside_others_stands_on_their_floor(walker, filmed):
    one = cut_off_at_the_waist(filmed(walker[100:160] + AWAY, person_id=1))
    result = result_of(filmed(walker[100:160]), one)
    assert result.floors[1] == Floor(result.floors[0].height, is_own=False)


def seen_as(scores=None, keypoints=None, frames=90):
    """Return which joints of somebody who stands in a picture of 400 x 400 px are unseen, by name and frame."""
    points = np.repeat(standing(200, 200, 150)[None], frames, axis=0)
    track = certain_track(points, np.full((frames, 17), 0.9))
    for names, rows, value in scores or []:
        for name in names:
            track.scores[rows, COCO17.index(name)] = value
    for name, rows, place in keypoints or []:
        track.keypoints[rows, COCO17.index(name)] = place
    unseen = unseen_joints(track, VideoInfo(Path("clip.mp4"), 400, 400, 30.0, frames, 0, np.arange(frames) / 30))
    return {name: np.flatnonzero(unseen[:, joint]) for joint, name in enumerate(H36M17.names) if unseen[:, joint].any()}


ALL = slice(None)
KNEES, HIPS = ("left_knee", "right_knee"), ("left_hip", "right_hip")


def test_which_joints_are_unseen():
    assert seen_as() == {}
    assert set(seen_as([(KNEES, ALL, 0.1)])) == set(KNEES)  # behind a desk
    assert seen_as([(("left_wrist",), ALL, 0.1)]) == {}  # behind the back
    assert seen_as([(("nose", "left_eye", "right_eye"), ALL, 0.1)]) == {}  # seen from behind
    assert set(seen_as([(HIPS, ALL, 0.1)])) == {*HIPS, "pelvis", "spine"}
    assert seen_as([(KNEES, slice(40, 46), 0.1)]) == {}  # for a fifth of a second
    assert seen_as([(KNEES, slice(60, None), 0.1)])["left_knee"] == pytest.approx(np.arange(60, 90))
    outside = [("left_wrist", ALL, (450, 200))]
    assert set(seen_as([(("left_wrist",), ALL, 0.2)], outside)) == {"left_wrist"}
    assert seen_as(keypoints=outside) == {}  # a detector that is sure of it
