"""Which way is up: known cameras before a walker, several people, moving cameras, people who do not stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.geometry.gravity import estimate_gravity, stance_level, tilt_degrees
from app.geometry.root_trajectory import estimate_root_trajectory
from app.options import Options
from app.results import PoseResult, Shot


def placed(one):
    return estimate_root_trajectory(one.track, one.pose, one.video, Options(fov_degrees=one.fov_degrees))


def shot_of(*people, is_camera_moving=False):
    shot = Shot(0, people[0].video.num_frames, is_camera_moving)
    return estimate_gravity(shot, [p.track for p in people], [placed(p) for p in people], people[0].video)


def angle(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


CAMERAS = [{"pitch": 0.0}, {"pitch": 25.0, "eye": (0, 4.0, 4.0)}, {"pitch": -8.0, "eye": (0, 0.5, 3)}, {"roll": 6.0}]


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_tilt_of_a_known_camera_is_found(walker, filmed, camera):
    one = filmed(walker, **camera)
    shot = shot_of(one)
    assert shot.up_from == "bodies and feet"
    assert np.linalg.norm(shot.up) == pytest.approx(1)
    assert angle(shot.up, one.up) < 1.5  # 0.3 to 1.2 when written
    pitch, roll = tilt_degrees(shot.up)
    assert pitch == pytest.approx(camera.get("pitch", 10.0), abs=1.5)
    assert roll == pytest.approx(camera.get("roll", 0.0), abs=1.5)


def test_feet_correct_somebody_who_leans_into_the_walk(walker, filmed):
    straight = walker[:55]  # towards the camera and to its right, never back
    lean = np.radians(10)
    bent = straight.copy()
    above = np.maximum(straight[..., 1:2] - 0.1, 0)
    heading = straight[-1, 0] - straight[0, 0]
    heading[1] = 0
    bent += np.tan(lean) * above * heading / np.linalg.norm(heading)
    one = filmed(bent)
    bodies, both = shot_of(one, is_camera_moving=True), shot_of(one)
    assert (bodies.up_from, both.up_from) == ("bodies", "bodies and feet")
    assert angle(bodies.up, one.up) > 5
    assert angle(both.up, one.up) < 0.5 * angle(bodies.up, one.up)


def test_people_share_one_direction_whatever_their_size(walker, filmed):
    tall = filmed(walker)
    child = filmed(0.6 * walker + (1.0, 0, -1.0), person_id=1)
    as_adult = child._replace(pose=replace(child.pose, joints=child.pose.joints / 0.6))  # so the network sees a child
    shot = shot_of(tall, as_adult)
    assert angle(shot.up, tall.up) < 1.5
    poses = [placed(tall), placed(as_adult)]
    result = PoseResult(tall.video, [tall.track, as_adult.track], poses, shots=(shot,))
    heights = [result.camera_height(i) for i in (0, 1)]
    np.testing.assert_allclose(heights, [1.5, 1.5 / 0.6], rtol=0.05)  # each in its own size
    for i in (0, 1):
        lower = result.world_joints(i)[:, [3, 6], 1].min(axis=1)
        np.testing.assert_allclose(np.percentile(lower, (5, 95)), 0.1, atol=0.06)  # the ankle of a foot on the floor


@pytest.mark.parametrize("turn", [90, 180], ids=["lying", "upside down"])
def test_nobody_upright_leaves_the_camera_level(walker, filmed, turn):
    a = np.radians(turn)
    lying = walker @ np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]).T + (0, 1.5, -2)
    one = filmed(lying)
    shot = shot_of(one)
    assert (shot.up, shot.up_from) == (None, "nothing")


def test_unseen_ankles_say_nothing(walker, filmed):
    one = filmed(walker)
    scores = one.pose.scores.copy()
    scores[:, [3, 6]] = 0
    assert shot_of(one._replace(pose=replace(one.pose, scores=scores))).up is None


def test_nobody_at_all(walker, filmed):
    video = filmed(walker).video
    assert estimate_gravity(Shot(0, video.num_frames, False), [], [], video).up is None


def test_one_frame_of_somebody_standing_is_enough(walker, filmed):
    one = filmed(walker[120:121])
    assert angle(shot_of(one).up, one.up) < 6  # one body: no steps to learn from


def test_without_meters_bodies_still_tell(walker, filmed):
    one = filmed(walker)
    pose = replace(one.pose, unit="normalized")
    shot = estimate_gravity(Shot(0, len(walker), False), [one.track], [pose], one.video)
    assert shot.up_from == "bodies"
    assert angle(shot.up, one.up) < 5


def test_a_jump_does_not_lift_the_floor():
    heights = np.r_[np.full(60, 0.1), 0.1 + 0.5 * np.sin(np.linspace(0, np.pi, 30)), np.full(60, 0.1)]
    noise = np.random.default_rng(0).normal(0, 0.01, len(heights))
    assert stance_level(heights + noise, np.ones(len(heights))) == pytest.approx(0.1, abs=0.01)
