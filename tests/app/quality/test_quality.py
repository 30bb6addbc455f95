"""What a result says about itself: known numbers, and one warning for every cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.options import Options
from app.quality.person_quality import summary_lines
from app.quality.warnings import CAMERA_MOVING, CAMERA_UNKNOWN, NO_METERS, NO_UP
from app.results import PoseResult, Shot
from lifter.lift import Sampling

BACK = {"eye": (0.0, 1.5, 5.2)}  # far enough to see everybody from head to foot
ASIDE = np.array([0.3, 0, 0])


def result_of(*people, is_camera_moving=False, **options):
    poses = [estimate_root_trajectory(p.track, p.pose, p.video, Options(fov_degrees=50.0)) for p in people]
    tracks = [p.track for p in people]
    shot = estimate_gravity(Shot(0, people[0].video.num_frames, is_camera_moving), tracks, poses, people[0].video)
    return PoseResult(people[0].video, tracks, poses, Options(fov_degrees=50.0, **options), shots=(shot,))


@pytest.fixture
def good(walker, filmed):
    return filmed(walker, **BACK)


def changed(one, track=None, pose=None):
    return one._replace(track=replace(one.track, **(track or {})), pose=replace(one.pose, **(pose or {})))


def test_a_perfect_result_has_nothing_to_warn_of(good):
    (report,) = result_of(good).quality
    assert report.warnings == ()
    assert report.reprojection_px < 0.5
    assert (report.coverage, report.interpolated, report.truncated, report.mean_score) == (1, 0, 0, 1)
    assert report.foot_skating < 0.35  # recorded feet roll and, in this clip, slide a little
    assert report.bone_length_variation < 0.02


def only_warning(result):
    (text,) = result.quality[0].warnings
    return text


def test_a_small_person_is_warned_of(walker, filmed):
    small = filmed(walker, size=(220, 124), **BACK)
    height = np.median(np.ptp(small.track.keypoints[..., 1], axis=1))
    assert result_of(small).quality[0].height_px == pytest.approx(height, abs=0.1)
    assert only_warning(result_of(small)) == f"person is {height:.0f} px tall, smaller than 120 px: expect large errors"


def test_a_person_cut_by_the_border_is_warned_of(walker, filmed):
    beside = filmed(walker + np.array([2.2, 0, 0]), **BACK)
    assert "cut by the picture's border" in only_warning(result_of(beside))


def sides(*frames):
    """Which joints (257, 17) were swapped: those of the trunk's one side and the other in some frames."""
    swapped = np.zeros((257, 17), bool)
    swapped[list(frames), 5:] = True
    return {"swapped": swapped, "repaired": swapped}


@pytest.mark.parametrize(
    ("track", "text"),
    [
        ({"scores": np.full((257, 17), 0.4, np.float32)}, "2D score is 0.40, below 0.5"),
        ({"observed": np.arange(257) % 4 != 1}, "25% of the person's frames are filled in"),
        (sides(*range(20), *range(100, 140)), "left and right were swapped in 23% of frames"),
    ],
    ids=["scores", "filled in", "swapped"],
)
def test_uncertain_detections_are_warned_of(good, track, text):
    assert only_warning(result_of(changed(good, track=track))).startswith(text)


@pytest.mark.parametrize(
    ("track", "share"), [(sides(*range(20)), 20 / 257), ({"repaired": np.arange(17) == np.full((257, 1), 9)}, 0)]
)
def test_few_swapped_or_interpolated_joints_are_no_reason_to_warn(good, track, share):
    (report,) = result_of(changed(good, track=track)).quality
    assert report.sides_repaired == pytest.approx(share, abs=1e-4)
    assert report.warnings == ()


def test_a_pose_that_does_not_fit_the_picture_is_warned_of(good):
    bent = good.pose.joints.copy()
    bent[:, [12, 13, 15, 16]] += (0.5, -0.8, 0)  # both arms somewhere else
    (report,) = result_of(changed(good, pose={"joints": bent.astype(np.float32)})).quality
    assert report.reprojection > 0.05
    assert any(text.startswith("3D misses 2D by") for text in report.warnings)


def test_shaking_and_wobbling_are_warned_of(good):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.03, good.pose.joints.shape)
    (report,) = result_of(changed(good, pose={"joints": (good.pose.joints + noise).astype(np.float32)})).quality
    assert any(text.startswith("jitter is") for text in report.warnings)
    assert any(text.startswith("bone lengths vary by") for text in report.warnings)


def test_jumps_at_window_borders_are_warned_of_and_jumps_elsewhere_are_not(good):
    times, fps = good.video.timestamps_s, result_of(good).models.fps
    borders = np.searchsorted(times, times[0] + Sampling.of(times, 243, fps).seams_s())
    assert len(borders) == 4  # three windows, which overlap
    for places, is_warned in ((borders, True), (borders + 20, False)):
        joints = good.pose.joints.copy()
        for frame in places:
            joints[frame:, 1:] += (0.1, 0, 0)
        (report,) = result_of(changed(good, pose={"joints": joints})).quality
        assert any(text.startswith("motion is") for text in report.warnings) == is_warned
        assert (report.window_boundary_ratio > 1.5) == is_warned


def test_sliding_feet_are_measured_and_warned_of(walker, filmed):
    standing = np.repeat(walker[100:101], 120, axis=0)
    skating = filmed(standing + np.linspace([-1.8, 0, -1], [0.6, 0, -1], 120)[:, None], **BACK)
    (report,) = result_of(skating).quality
    assert report.foot_skating == pytest.approx(2.4 / (119 / 30), abs=0.1)  # 0.6 m/s
    faster = filmed(standing + np.linspace([-2.8, 0, -2], [1.2, 0, -2], 120)[:, None], **BACK)
    assert only_warning(result_of(faster)).startswith("standing feet slide at 1.0")


@pytest.mark.parametrize(("moves", "text"), [(True, CAMERA_MOVING), (None, CAMERA_UNKNOWN)])
def test_a_camera_that_moves_or_may_move_is_warned_of(good, moves, text):
    assert only_warning(result_of(good, is_camera_moving=moves)) == text
    assert (result_of(good, is_camera_moving=moves).quality[0].foot_skating is None) == (moves is True)


def test_unknown_gravity_is_warned_of(walker, filmed):
    lying = filmed(walker[..., [1, 0, 2]] * (1, -1, 1) + (-1, 1.5, 0))
    assert NO_UP in result_of(lying).quality[0].warnings


def test_no_meters_are_warned_of(good):
    result = result_of(changed(good, pose={"unit": "normalized"}))
    assert NO_METERS in result.quality[0].warnings
    unknown = replace(result, shots=(replace(result.shots[0], is_camera_moving=None),))
    assert CAMERA_UNKNOWN not in unknown.quality[0].warnings


def test_smoothing_that_cannot_work_is_warned_of(good):
    assert (
        only_warning(result_of(good, smooth_hz=20.0)) == "smoothing with 20 Hz changes nothing at 30 frames per second"
    )
    assert result_of(good, smooth_hz=6.0).quality[0].warnings == ()


def test_the_terminal_shows_a_line_per_person_and_every_warning_once(walker, filmed):
    first, second = (
        filmed(walker, size=(220, 124), **BACK),
        filmed(walker + ASIDE, size=(220, 124), person_id=1, **BACK),
    )
    lines = summary_lines(result_of(first, second, is_camera_moving=True).quality)
    assert [line.split(":")[0] for line in lines[:2]] == ["person 0", "person 1"]
    assert lines.count(f"warning: {CAMERA_MOVING}") == 1
    low = changed(first, track={"scores": 0.1 * first.track.scores})
    lines = summary_lines(result_of(low, second).quality)
    assert any(line.startswith("warning: person 0: 2D score is 0.10") for line in lines)
    assert summary_lines([]) == []


def test_nothing_is_compared_across_a_gap(walker, filmed):
    one = filmed(np.repeat(walker[100:101], 60, axis=0), **BACK)
    valid = ~np.isin(np.arange(60), range(20, 40))
    joints = one.pose.joints.copy()
    joints[30:, 1:] += 1.0  # stands still on either side of the gap, in two places
    gap = changed(one, track={"observed": valid, "valid": valid}, pose={"joints": joints})
    assert result_of(gap).quality[0].jitter == 0
