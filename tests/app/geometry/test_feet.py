"""Locked feet: they stay where they stand, legs keep their lengths, nothing else of the body bends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.geometry.feet import LEGS, bend_leg, contact_flags, find_contacts, lock_feet
from app.geometry.gravity import ANKLES
from lifter.skeletons import H36M17, with_rigid_bones
from tests.people import walkers

FPS, STANDING = 30, 0.1


@pytest.fixture(scope="module")
def sliding(walker):
    """A walker whose estimated place wanders in depth by some centimeters, as estimates do."""
    result = walkers(walker[:150], 1)
    (pose,) = result.poses
    times = np.arange(150) / FPS
    root = pose.root + np.stack([0 * times, 0 * times, 0.06 * np.sin(3 * times)], axis=1)
    pose = replace(pose, root=root.astype(np.float32), joints=with_rigid_bones(pose.joints))
    return replace(result, poses=[pose])


def skating(result):
    """Mean speed over the floor of feet in contact, m/s."""
    feet, flags = result.world_joints(0)[:, ANKLES][..., [0, 2]], contact_flags(result, 0)
    during = flags[1:] & flags[:-1]
    assert during.mean() > 0.2
    return (FPS * np.linalg.norm(np.diff(feet, axis=0), axis=-1))[during].mean()


def test_locked_feet_stay_and_nothing_else_of_the_body_bends(sliding):
    locked = lock_feet(sliding)
    assert skating(sliding) > 0.1
    assert skating(locked) < 0.01
    before, after = sliding.poses[0].joints, locked.poses[0].joints
    moved = np.linalg.norm(after - before, axis=-1)
    others = np.setdiff1d(np.arange(17), [joint for leg in LEGS for joint in leg[1:]])
    assert moved[:, others].max() < 1e-5
    assert moved.mean() < 0.005
    parents = list(H36M17.parents[1:])
    lengths = [np.linalg.norm(x[:, 1:] - x[:, parents], axis=-1) for x in (before, after)]
    np.testing.assert_allclose(lengths[1], lengths[0], atol=1e-5)
    steps = np.linalg.norm(np.diff(locked.world_joints(0)[:, ANKLES], n=2, axis=0), axis=-1)
    free_steps = np.linalg.norm(np.diff(sliding.world_joints(0)[:, ANKLES], n=2, axis=0), axis=-1)
    assert steps.max() < 2 * free_steps.max()  # blended, not dropped


def test_a_body_below_the_floor_is_lifted(sliding):
    (pose,) = sliding.poses
    root = pose.root.copy()
    root[60:90] -= (0.22 * sliding.shots[0].up).astype(np.float32)
    sunk = replace(sliding, poses=[replace(pose, root=root)])
    assert sunk.world_joints(0)[60:90, :, 1].min() < -0.1  # by a quarter of a meter it would be another floor
    assert lock_feet(sunk).world_joints(0)[..., 1].min() > 0


@pytest.mark.parametrize("what", ["moving camera", "no meters"])
def test_without_a_floor_nothing_changes(walker, what):
    result = walkers(walker[:60], 1, is_camera_moving=True) if what == "moving camera" else walkers(
        walker[:60], 1, unit="normalized")  # fmt: skip
    assert lock_feet(result).poses == result.poses
    assert not contact_flags(result, 0).any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_frames_can_be_locked(walker, count):
    joints = lock_feet(walkers(walker[:count], 1)).poses[0].joints
    assert np.isfinite(joints).all()


def test_contacts_are_where_a_foot_is_low_and_slow():
    times = np.arange(90) / FPS
    places = np.zeros((90, 17, 3))
    places[:, ANKLES, 1] = 0.5
    places[20:50, ANKLES[0], 1] = STANDING  # stands
    places[60:80, ANKLES[0], 1] = STANDING
    places[60:80, ANKLES[0], 0] = 2 * np.arange(20) / FPS * FPS / 10  # slides fast: no contact
    ((foot, run),) = find_contacts(places, times, STANDING)
    assert foot == 0
    assert 18 <= run.start <= 24
    assert 46 <= run.stop <= 52


def test_a_leg_reaches_its_target_or_stretches_towards_it():
    hip, knee, ankle = (np.array([[0.0, y, z]]) for y, z in ((0.9, 0.0), (0.5, 0.1), (0.1, 0.0)))
    near = np.array([[0.1, 0.15, 0.1]])
    bent, reached = bend_leg(hip, knee, ankle, near)
    np.testing.assert_allclose(reached, near, atol=1e-9)
    assert np.linalg.norm(bent - hip) == pytest.approx(np.linalg.norm(knee - hip))
    assert np.linalg.norm(bent - reached) == pytest.approx(np.linalg.norm(knee - ankle))
    assert bent[0, 2] > 0.05  # the knee still points forward
    far = np.array([[0.0, -2.0, 0.0]])
    _, stretched = bend_leg(hip, knee, ankle, far)
    np.testing.assert_allclose(stretched[0, [0, 2]], 0, atol=1e-9)
    full = np.linalg.norm(knee - hip) + np.linalg.norm(knee - ankle)
    assert 0.99 * full < np.linalg.norm(stretched - hip) <= full


def test_gaps_stay_bridged(walker):
    result = walkers(walker[:150])
    poses = [replace(pose, joints=with_rigid_bones(pose.joints)) for pose in result.poses]
    locked = lock_feet(replace(result, poses=poses))
    pelvis, valid = locked.world_joints(1)[:, 0], locked.tracks[1].valid
    assert not valid.all()
    steps = np.linalg.norm(np.diff(pelvis, axis=0), axis=1)
    assert steps[~(valid[1:] & valid[:-1])].max() < 2 * steps.max(where=valid[1:] & valid[:-1], initial=0)
