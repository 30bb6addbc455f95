"""World coordinates: a filmed walker is where he was, with either axis up, upright or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.geometry.world import body_height, seen_level, to_world
from app.options import Options
from app.results import PoseResult, Shot
from tests.people import with_options

EYE = np.array([0.5, 1.6, 2.5])


@pytest.fixture
def result(walker, filmed):
    one = filmed(walker, pitch=15.0, roll=4.0, eye=EYE)
    pose = estimate_root_trajectory(one.track, one.pose, one.video, Options(fov_degrees=one.fov_degrees))
    shot = estimate_gravity(Shot(0, len(walker), False), [one.track], [pose], one.video)
    return PoseResult(one.video, [one.track], [pose], shots=(shot,))


def test_the_walker_is_where_he_was(result, walker):
    joints = result.world_joints(0)
    below_camera = walker - EYE * (1, 0, 1)
    assert np.linalg.norm(joints - below_camera, axis=-1).mean() < 0.06  # 1 degree at 4 m is 7 cm
    assert result.camera_height(0) == pytest.approx(EYE[1], abs=0.03)
    walked, truth = (x[60, 0] - x[0, 0] for x in (joints, walker))
    assert walked @ truth / np.linalg.norm(walked) / np.linalg.norm(truth) > np.cos(np.radians(2))


def test_feet_neither_sink_nor_float(result):
    lower = result.world_joints(0)[:, [3, 6], 1].min(axis=1)
    assert np.percentile(lower, 5) > 0.05
    assert np.percentile(lower, 95) < 0.15


def test_z_up_is_y_up_turned(result):
    y_up, z_up = (result.world_joints(0, up=axis) for axis in "yz")
    np.testing.assert_allclose(z_up, np.stack([y_up[..., 0], -y_up[..., 2], y_up[..., 1]], axis=-1))
    assert z_up[:, 10, 2].min() > 1.3  # the head is up


def test_not_upright_is_camera_space_with_y_up(result):
    pose = result.poses[0]
    places = with_options(result, is_upright=False).world_joints(0)
    np.testing.assert_allclose(places, (pose.joints + pose.root[:, None]) * (1, -1, -1), atol=1e-5)


def test_world_axes_are_a_rotation_that_keeps_the_cameras_heading(result):
    turn = to_world(result.shots[0].up)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert (turn @ [0, 0, 1])[0] == pytest.approx(0, abs=1e-12)  # it looks along -z, not aside
    assert (turn @ [0, 0, 1])[2] < 0
    np.testing.assert_allclose(to_world(None), np.diag([1, -1, -1]), atol=0)


def test_the_panel_sees_what_a_level_camera_would_see(result):
    track = result.tracks[0]
    level = seen_level(result.poses[0], result.world_rotation(result.shot_of(track)))
    np.testing.assert_allclose(
        level.joints * (1, -1, -1), result.world_joints(0) - result.world_joints(0)[:, :1], atol=1e-4
    )


def test_rigid_bones_only_where_asked(result):
    wobbly = replace(result.poses[0], joints=result.poses[0].joints * np.linspace(0.9, 1.1, 257)[:, None, None])
    wobbly = replace(result, poses=[replace(wobbly, joints=wobbly.joints.astype(np.float32))])
    shin = [np.linalg.norm(x[:, 2] - x[:, 3], axis=1) for x in (
        wobbly.world_joints(0), wobbly.world_joints(0, has_rigid_bones=True))]  # fmt: skip
    assert np.ptp(shin[0]) > 0.05
    assert np.ptp(shin[1]) < 1e-5


def test_without_meters_the_pelvis_stays_above_the_origin(result):
    pose = replace(result.poses[0], unit="normalized", root=None)
    still = replace(result, poses=[pose])
    pelvis = still.world_joints(0)[:, 0]
    np.testing.assert_allclose(pelvis[:, [0, 2]], 0, atol=1e-9)
    np.testing.assert_allclose(pelvis[:, 1], pelvis[0, 1])
    assert still.camera_height(0) is None


def test_tracks_of_two_shots_have_two_cameras(result):
    (track,), (pose,) = result.tracks, result.poses
    late = replace(track, frames=track.frames + 300)
    video = replace(result.video, num_frames=600, timestamps_s=np.arange(600) / 30)
    shots = (replace(result.shots[0], stop=300), Shot(300, 600))
    both = PoseResult(video, [track, late], [pose, replace(pose, frames=late.frames)], shots=shots)
    assert both.shot_of(track) is shots[0]
    assert both.shot_of(late) is shots[1]
    tilted, level = both.world_joints(0), both.world_joints(1)
    assert np.abs(tilted - level).max() > 0.2


def test_body_height_does_not_count_bending(walker):
    every = np.ones(len(walker), bool)
    assert body_height(walker - walker[:, :1], every) == pytest.approx(1.72, abs=0.02)
    assert body_height(np.full_like(walker, np.nan), every) == 1.0
