"""From a video file to a PoseResult, with a fake detector that knows the truth (it enters through the registry)."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from app import pipeline
from app.motion import contiguous_segments
from app.options import Options
from app.pipeline import estimate, lift_tracks, shareable
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from detectors import DETECTORS, DetectorSpec
from detectors.people import People, Track
from lifter.load import Lifter
from lifter.skeletons import coco17_to_h36m17
from tests.video_files import with_bars

SIZE = (320, 240)  # width, height
FOCAL = 300.0


def walk(times):
    """COCO-17 keypoints (T, 17, 2) px of a stick figure that swings arms and legs while it walks across the picture."""
    swing = np.sin(2 * np.pi * times)[:, None]
    x = np.zeros((len(times), 17))
    y = np.tile(
        [0.9, 0.95, 0.95, 0.93, 0.93, 0.7, 0.7, 0.4, 0.4, 0.15, 0.15, 0.1, 0.1, -0.3, -0.3, -0.7, -0.7], (len(times), 1)
    )
    x[:, :5] = [0, 0.03, -0.03, 0.07, -0.07]
    x[:, 5:] = np.tile([0.18, -0.18], 6)
    z = np.zeros_like(x)
    z[:, [7, 9]], z[:, [8, 10]] = 0.3 * swing, -0.3 * swing
    z[:, [13, 15]], z[:, [14, 16]] = -0.35 * swing, 0.35 * swing
    depth = 4.0 + z
    travel = (0.3 * times - 0.5)[:, None]
    return np.stack([FOCAL * (x + travel) / depth + SIZE[0] / 2, -FOCAL * y / depth + SIZE[1] / 2], -1).astype(
        np.float32
    )


def person(keypoints, score=0.9):
    box = np.concatenate([keypoints.min(0), keypoints.max(0)])[None].astype(np.float32)
    return People(box, np.ones(1, np.float32), keypoints[None], np.full((1, 17), score, np.float32))


@pytest.fixture
def project_to_camera(tmp_path, monkeypatch):
    """A function that writes a gray video and registers a detector answering with the given list of People.

    The picture turns bright at the frame ``cut``; ``picture`` is shown instead of gray.
    """

    def make(people, fps=25.0, name="clip.mp4", cut=None, picture=None):
        path = tmp_path / name
        count = len(people)
        info = VideoInfo(path, *SIZE, fps, count, 0, np.arange(count) / fps)
        grays = [220 if cut is not None and i >= cut else 90 for i in range(count)]
        plain = (np.full((SIZE[1], SIZE[0], 3), gray, np.uint8) for gray in grays)
        write_video(path, plain if picture is None else itertools.repeat(picture, count), info)

        class Detector:
            @property
            def provenance(self):
                return {"detector": "fake", "version": "1", "weights": {}}

            def __call__(self, frames):
                for _, answer in zip(frames, people, strict=True):
                    yield answer

        module = types.ModuleType("fake_detector")
        module.build = lambda weights, device: Detector()
        monkeypatch.setitem(sys.modules, "fake_detector", module)
        monkeypatch.setitem(DETECTORS, "fake", DetectorSpec("fake_detector", "numpy", "", "answers known", "none"))
        pipeline.cached_detector.cache_clear()
        return path

    yield make
    pipeline.cached_detector.cache_clear()


@pytest.fixture
def options(tiny_weights):
    return lambda **changes: Options(detector="fake", lifter=str(tiny_weights), **changes)


@pytest.mark.parametrize("count", [1, 2, 60, 245])
def test_every_frame_of_the_video_has_a_pose(project_to_camera, options, count):
    keypoints = walk(np.arange(count) / 25)
    result = estimate(project_to_camera([person(k) for k in keypoints]), options())
    (track,), (pose,) = result.tracks, result.poses
    assert np.array_equal(track.frames, np.arange(count))
    assert pose.joints.shape == (count, 17, 3)
    assert np.isfinite(pose.joints).all()
    assert track.observed.all()
    np.testing.assert_allclose(track.keypoints, keypoints)  # a clean detection passes through unchanged
    assert np.abs(pose.joints[:, 0]).max() == 0  # the pelvis is the origin


def test_bars_around_the_picture_change_neither_motion_nor_distance(project_to_camera, options):
    people = [person(k) for k in walk(np.arange(30) / 25)]
    texture = (
        np.random.default_rng(0).integers(60, 250, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    bare = estimate(project_to_camera(people, picture=texture), options())
    boxed = estimate(project_to_camera(people, name="boxed.mp4", picture=with_bars(texture, 80, 40, 0)), options())
    assert (boxed.video.width, boxed.video.height) == (SIZE[0] + 160, SIZE[1] + 80)
    assert tuple(boxed.video.bars) == (80, 40, 80, 40)
    np.testing.assert_allclose(boxed.tracks[0].keypoints, bare.tracks[0].keypoints + np.array([80, 40]), atol=1e-3)
    np.testing.assert_allclose(boxed.poses[0].joints, bare.poses[0].joints, atol=1e-4)
    np.testing.assert_allclose(boxed.poses[0].root, bare.poses[0].root, atol=1e-3)
    assert boxed.quality[0].reprojection_px == pytest.approx(bare.quality[0].reprojection_px, abs=0.02)


def test_a_part_of_the_clip_has_every_frame_and_times_from_zero_on(project_to_camera, options):
    keypoints = walk(np.arange(20) / 25)
    path = project_to_camera([person(k) for k in keypoints])  # answers for the part, which has 20 frames
    longer = path.with_name("longer.mp4")
    info = VideoInfo(longer, *SIZE, 25.0, 60, 0, np.arange(60) / 25)
    write_video(longer, itertools.repeat(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), 60), info)
    result = estimate(longer, options(start="0.4", stop="0:01.2", slow_motion=2.0))
    assert (result.video.num_frames, result.video.start_s, result.video.fps) == (20, pytest.approx(0.4), 50.0)
    np.testing.assert_allclose(result.video.timestamps_s, np.arange(20) / 50)
    assert np.array_equal(result.tracks[0].frames, np.arange(20))


def test_everybody_lying_on_the_side_calls_for_a_turned_picture(project_to_camera, options):
    upright = walk(np.arange(30) / 25)
    head_right = np.stack([SIZE[1] - upright[..., 1], upright[..., 0]], -1)  # turned clockwise
    for points, hint in ((upright, None), (head_right, "--rotate 270"), (SIZE[0] - head_right, "--rotate 90")):
        warnings = estimate(project_to_camera([person(k) for k in points]), options()).video.warnings
        assert (hint is None and not warnings) or (len(warnings) == 1 and hint in warnings[0])


def test_nobody_is_an_empty_result(project_to_camera, options):
    result = estimate(project_to_camera([People.nobody()] * 10), options())
    assert result.tracks == []
    assert result.poses == []
    assert result.video.num_frames == 10


def test_a_short_gap_is_filled_and_flagged(project_to_camera, options):
    people = [person(k) for k in walk(np.arange(60) / 25)]
    people[20:26] = [People.nobody()] * 6
    (track,) = estimate(project_to_camera(people), options(max_gap_s=0.5)).tracks
    assert np.flatnonzero(~track.observed).tolist() == list(range(20, 26))
    assert track.valid.all()


def test_a_long_gap_keeps_the_frame_axis_but_not_validity(project_to_camera, options):
    people = [person(k) for k in walk(np.arange(90) / 25)]
    people[30:60] = [People.nobody()] * 30
    result = estimate(project_to_camera(people), options(max_gap_s=0.5))
    (track,), (pose,) = result.tracks, result.poses
    assert np.array_equal(track.frames, np.arange(90))
    assert np.flatnonzero(~track.valid).tolist() == list(range(30, 60))
    bridge = pose.joints[29:61]
    np.testing.assert_allclose(bridge, np.linspace(bridge[0], bridge[-1], 32), atol=1e-5)  # float32 rounding


def test_the_two_sides_of_a_long_gap_do_not_touch_each_other(project_to_camera, options):
    keypoints = walk(np.arange(90) / 25)
    people = [person(k) for k in keypoints]
    people[30:60] = [People.nobody()] * 30
    both = estimate(project_to_camera(people), options(has_rigid_bones=False)).poses[0].joints
    alone = estimate(project_to_camera(people[:30], name="first.mp4"), options(has_rigid_bones=False)).poses[0].joints
    np.testing.assert_allclose(both[:30], alone, atol=1e-4)  # batched differently: float32 sums in another order


def test_a_person_seen_for_a_moment_is_dropped(project_to_camera, options):
    people = [People.nobody()] * 50
    people[20:23] = [person(k) for k in walk(np.arange(3) / 25)]
    assert estimate(project_to_camera(people), options(min_track_s=0.3)).tracks == []


def together(*people):
    """One frame with several people."""
    return People(
        *(np.concatenate([getattr(p, n) for p in people]) for n in ("boxes", "box_scores", "keypoints", "scores"))
    )


@pytest.fixture
def two_people(project_to_camera):
    """A video of somebody who walks and somebody smaller who stands at the right and is there for 40 of 60 frames."""
    walking = walk(np.arange(60) / 25)
    standing = 0.5 * walking[0] + np.float32([170, 60])
    clip = [together(person(k), person(standing)) if t < 40 else person(k) for t, k in enumerate(walking)]
    return project_to_camera(clip)


def test_everybody_is_lifted_on_their_own_frames(two_people, options):
    result = estimate(two_people, options())
    assert [(pose.person_id, len(pose.frames)) for pose in result.poses] == [(0, 60), (1, 40)]


def test_people_can_be_selected(two_people, options):
    assert [pose.person_id for pose in estimate(two_people, options(people="1")).poses] == [1]


def test_nobody_is_followed_across_a_cut(project_to_camera, options):
    clip = project_to_camera([person(k) for k in walk(np.arange(60) / 25)], cut=30)
    assert [(int(t.frames[0]), int(t.frames[-1])) for t in estimate(clip, options()).tracks] == [(0, 29), (30, 59)]


@pytest.mark.parametrize("fps", [24.0, 50.0, 60.0])
def test_frame_rate_does_not_change_the_motion(project_to_camera, fps):
    seconds = 2.0
    slow_times, times = np.arange(int(seconds * 25)) / 25, np.arange(int(seconds * fps)) / fps
    slow_clip = project_to_camera([person(k) for k in walk(slow_times)])
    slow = estimate(slow_clip, Options(detector="fake")).poses[0].joints
    other_clip = project_to_camera([person(k) for k in walk(times)], fps, "other.mp4")
    other = estimate(other_clip, Options(detector="fake")).poses[0].joints
    on_slow = np.stack([np.interp(slow_times, times, c) for c in other.reshape(len(times), -1).T], 1).reshape(
        slow.shape
    )
    # linear interpolation at 24 fps of a 1 Hz swing errs by (2 pi / 24)^2 / 8 = 0.9 % of its amplitude; the very ends,
    # where the clips do not last equally long, are left out
    difference = np.linalg.norm(on_slow - slow, axis=-1)[5:-5]
    assert difference.mean() < 0.01  # meters


def test_a_pause_of_an_hour_costs_no_time_and_joins_nothing():
    times = np.r_[np.arange(40) / 25, 3600 + np.arange(40) / 25]
    info = VideoInfo(Path("clip.mp4"), *SIZE, 80 / 3602, 80, 0, times, False)
    every = np.ones(80, bool)
    track = Track(0, np.arange(80), walk(times % 3600), np.ones((80, 17), np.float32), every, every)
    assert [(run.start, run.stop) for run in contiguous_segments(track, info)] == [(0, 40), (40, 80)]
    lifter = Lifter(Flat(), "flat", 243, "picture", "normalized", torch.device("cpu"), {})
    (pose,) = lift_tracks(lifter, [track], info, Options())  # 180 000 frames at 50 fps if it went across
    np.testing.assert_allclose(pose.joints[:40], pose.joints[40:], atol=1e-5)  # float32


class Flat(torch.nn.Module):
    """Answers every keypoint with itself at depth 0."""

    def forward(self, keypoints):
        return torch.nn.functional.pad(keypoints, (0, 1))


def test_joints_of_a_known_lifter_come_back_in_place():
    times = np.arange(61) / 50
    info = VideoInfo(Path("clip.mp4"), *SIZE, 50.0, 61, 0, times)
    every = np.ones(61, bool)
    track = Track(7, np.arange(61), walk(times), np.ones((61, 17), np.float32), every, every)
    lifter = Lifter(Flat(), "flat", 243, "picture", "m", torch.device("cpu"), {})
    (pose,) = lift_tracks(lifter, [track], info, Options(height="1.7", has_rigid_bones=False))
    points = coco17_to_h36m17(track.keypoints) * 2 / SIZE[0]
    expected = np.concatenate([points - points[:, :1], np.zeros((61, 17, 1))], axis=-1)
    np.testing.assert_allclose(pose.joints, expected, atol=1e-5)  # float32; no resampling at 50 fps
    assert pose.person_id == 7


def test_height_scales_the_joints(project_to_camera, options):
    path = project_to_camera([person(k) for k in walk(np.arange(30) / 25)])
    nominal = estimate(path, options()).poses[0].joints
    tall = estimate(path, options(height="2.04")).poses[0].joints
    np.testing.assert_allclose(tall, nominal * 2.04 / 1.70, rtol=1e-5, atol=1e-6)


def test_results_name_models_hashes_and_options(project_to_camera, options, tiny_weights):
    result = estimate(project_to_camera([person(k) for k in walk(np.arange(5) / 25)]), options())
    lifter = result.provenance["lifter"]
    assert lifter["weights"]["file"] == tiny_weights.name
    assert len(lifter["weights"]["sha256"]) == 64
    assert result.provenance["options"]["detector"] == "fake"
    assert result.provenance["detector"]["detector"] == "fake"
    assert result.options == options()
    assert (result.models.unit, result.models.window, result.models.fps) == ("m", 243, lifter["fps"])
    assert result.models.summary == "quality balanced: fake; flip averaging"


def test_progress_can_cancel(project_to_camera, options):
    class CancelError(Exception):
        pass

    def progress(items, stage, total):
        for i, item in enumerate(items):
            if i == 3:
                raise CancelError
            yield item

    with pytest.raises(CancelError):
        estimate(project_to_camera([person(k) for k in walk(np.arange(9) / 25)]), options(), progress)


def test_provenance_does_not_say_where_weights_lie():
    options = Options(
        detector="yolo-hrnet",
        detector_weights=("/home/me/secret/yolo26n.pt", "hrnet"),
        lifter="/home/me/my.safetensors",
    )
    recorded = shareable(options)
    assert recorded["detector_weights"] == ["yolo26n.pt", "hrnet"]
    assert recorded["lifter"] == "my.safetensors"
    assert "secret" not in json.dumps(recorded)
