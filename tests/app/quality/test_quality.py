"""What a result says about itself: known numbers, and one warning for every cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.options import Options
from app.quality.indicators import assess
from app.quality.warnings import CAMERA_MOVES, CAMERA_UNKNOWN, LIMITS, NO_METERS, NO_UP, summary_lines
from app.results import PoseResult, Shot
from lifter.lift import Sampling

BACK = {"eye": (0.0, 1.5, 5.2)}  # far enough to see everybody from head to foot
ASIDE = np.array([0.3, 0, 0])


def provenance(**options):
    return {"lifter": {"unit": "m", "window": 243, "fps": 50.0}, "options": {"fov_degrees": 50.0, **options}}


def result_of(*people, moves=False, **options):
    poses = [estimate_root_trajectory(p.track, p.pose, p.video, Options(fov_degrees=50.0)) for p in people]
    tracks = [p.track for p in people]
    shot = estimate_gravity(Shot(0, people[0].video.num_frames, moves), tracks, poses, people[0].video)
    return PoseResult(people[0].video, tracks, poses, provenance(**options), shots=(shot,))


@pytest.fixture
def good(walker, filmed):
    return filmed(walker, **BACK)


def changed(one, track=None, pose=None):
    return one._replace(track=replace(one.track, **(track or {})), pose=replace(one.pose, **(pose or {})))


def test_a_perfect_result_has_nothing_to_warn_of(good):
    (report,) = assess(result_of(good))
    assert report["warnings"] == []
    assert report["reprojection_px"] < 0.5
    assert (report["coverage"], report["interpolated"], report["cut"], report["mean_score"]) == (1, 0, 0, 1)
    assert report["foot_slide"] < 0.35  # recorded feet roll and, in this clip, slide a little
    assert report["bone_length_variation"] < 0.02


def test_height_is_that_in_the_picture(good):
    (report,) = assess(result_of(good))
    heights = np.ptp(good.track.keypoints[..., 1], axis=1)
    assert report["height_px"] == pytest.approx(np.median(heights), abs=0.1)


def only_warning(result):
    (report,) = assess(result)
    assert len(report["warnings"]) == 1, report["warnings"]
    return report["warnings"][0]


def test_a_small_person_is_warned_of(walker, filmed):
    small = filmed(walker, size=(220, 124), **BACK)
    height = np.median(np.ptp(small.track.keypoints[..., 1], axis=1))
    assert height < 100
    assert only_warning(result_of(small)) == f"person is {height:.0f} px tall, smaller than 120 px: expect large errors"


def test_low_scores_are_warned_of(good):
    low = changed(good, track={"scores": 0.4 * good.track.scores})
    assert only_warning(result_of(low)).startswith("2D score is 0.40, below 0.5")


def test_a_person_cut_by_the_border_is_warned_of(walker, filmed):
    beside = filmed(walker + np.array([2.2, 0, 0]), **BACK)
    assert "cut by the picture's border" in only_warning(result_of(beside))


def test_filled_frames_are_warned_of(good):
    observed = np.arange(257) % 4 != 1
    filled = changed(good, track={"observed": observed})
    assert only_warning(result_of(filled)).startswith("25% of the person's frames are filled in")


def test_sides_that_were_exchanged_back_are_counted_and_warned_of(good):
    swapped = np.zeros((257, 17), bool)
    swapped[:20, 5:] = True
    few = changed(good, track={"swapped": swapped, "repaired": swapped})
    assert assess(result_of(few))[0]["sides_repaired"] == pytest.approx(20 / 257, abs=1e-4)
    assert assess(result_of(few))[0]["warnings"] == []
    swapped = swapped.copy()
    swapped[100:140, 13:] = True
    many = changed(good, track={"swapped": swapped, "repaired": swapped})
    assert only_warning(result_of(many)).startswith("left and right were exchanged back in 23% of frames")


def test_joints_that_were_only_interpolated_changed_no_sides(good):
    repaired = np.zeros((257, 17), bool)
    repaired[:, 9] = True
    assert assess(result_of(changed(good, track={"repaired": repaired})))[0]["sides_repaired"] == 0


def test_a_pose_that_does_not_fit_the_picture_is_warned_of(good):
    bent = good.pose.joints.copy()
    bent[:, [12, 13, 15, 16]] += (0.5, -0.8, 0)  # both arms somewhere else
    (report,) = assess(result_of(changed(good, pose={"joints": bent.astype(np.float32)})))
    assert report["reprojection"] > 0.05
    assert any(text.startswith("3D misses 2D by") for text in report["warnings"])


def test_shaking_and_wobbling_are_warned_of(good):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.03, good.pose.joints.shape)
    (report,) = assess(result_of(changed(good, pose={"joints": (good.pose.joints + noise).astype(np.float32)})))
    assert any(text.startswith("jitter is") for text in report["warnings"])
    assert any(text.startswith("bone lengths vary by") for text in report["warnings"])


def test_jumps_at_window_borders_are_warned_of_and_jumps_elsewhere_are_not(good):
    times, fps = good.video.timestamps_s, result_of(good).provenance["lifter"]["fps"]
    borders = np.searchsorted(times, times[0] + Sampling.of(times, 243, fps).seams_s())
    assert len(borders) == 4  # three windows, which overlap
    for places, is_warned in ((borders, True), (borders + 20, False)):
        joints = good.pose.joints.copy()
        for frame in places:
            joints[frame:, 1:] += (0.1, 0, 0)
        (report,) = assess(result_of(changed(good, pose={"joints": joints})))
        assert any(text.startswith("motion is") for text in report["warnings"]) == is_warned
        assert (report["seam_ratio"] > 1.5) == is_warned


def test_sliding_feet_are_measured_and_warned_of(walker, filmed):
    standing = np.repeat(walker[100:101], 120, axis=0)
    skating = filmed(standing + np.linspace([-1.8, 0, -1], [0.6, 0, -1], 120)[:, None], **BACK)
    (report,) = assess(result_of(skating))
    assert report["foot_slide"] == pytest.approx(2.4 / (119 / 30), abs=0.1)  # 0.6 m/s
    faster = filmed(standing + np.linspace([-2.8, 0, -2], [1.2, 0, -2], 120)[:, None], **BACK)
    assert only_warning(result_of(faster)).startswith("standing feet slide at 1.0")


@pytest.mark.parametrize(("moves", "text"), [(True, CAMERA_MOVES), (None, CAMERA_UNKNOWN)])
def test_a_camera_that_moves_or_may_move_is_warned_of(good, moves, text):
    assert only_warning(result_of(good, moves=moves)) == text
    assert (assess(result_of(good, moves=moves))[0]["foot_slide"] is None) == (moves is True)


def test_unknown_gravity_is_warned_of(walker, filmed):
    lying = filmed(walker[..., [1, 0, 2]] * (1, -1, 1) + (-1, 1.5, 0))
    assert NO_UP in assess(result_of(lying))[0]["warnings"]


def test_no_meters_are_warned_of(good):
    result = result_of(changed(good, pose={"unit": "normalized"}))
    assert NO_METERS in assess(result)[0]["warnings"]
    assert CAMERA_UNKNOWN not in assess(replace(result, shots=(replace(result.shots[0], moves=None),)))[0]["warnings"]


def test_smoothing_that_cannot_work_is_warned_of(good):
    assert only_warning(result_of(good, smooth_hz=20.0)) == "--smooth 20 changes nothing at 30 frames per second"
    assert assess(result_of(good, smooth_hz=6.0))[0]["warnings"] == []


def test_limits_are_named_after_numbers_of_the_report(good):
    (report,) = assess(result_of(good))
    assert {limit.name for limit in LIMITS} <= set(report)


def test_the_terminal_shows_a_line_per_person_and_every_warning_once(walker, filmed):
    first, second = (
        filmed(walker, size=(220, 124), **BACK),
        filmed(walker + ASIDE, size=(220, 124), person_id=1, **BACK),
    )
    lines = summary_lines(assess(result_of(first, second, moves=True)))
    assert [line.split(":")[0] for line in lines[:2]] == ["person 0", "person 1"]
    assert lines.count(f"warning: {CAMERA_MOVES}") == 1
    low = changed(first, track={"scores": 0.1 * first.track.scores})
    lines = summary_lines(assess(result_of(low, second)))
    assert any(line.startswith("warning: person 0: 2D score is 0.10") for line in lines)
    assert summary_lines([]) == []
