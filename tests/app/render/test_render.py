"""Drawing: colors, fading, robustness to absurd points, and a 3D panel that stays still."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.render.drawing import LEFT, RIGHT
from app.render.overlay import output_size, overlay_2d, render_frames
from app.render.scene3d import Scene3D
from app.results import Pose3D, PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter.skeletons import COCO17, H36M17

BACKGROUND = 90

# A person facing the camera: x to the right of the picture, y down, in body heights.
STANDING_COCO = np.array(
    [
        (0.0, 0.08), (0.02, 0.06), (-0.02, 0.06), (0.05, 0.07), (-0.05, 0.07),
        (0.11, 0.2), (-0.11, 0.2), (0.15, 0.36), (-0.15, 0.36), (0.16, 0.5), (-0.16, 0.5),
        (0.07, 0.53), (-0.07, 0.53), (0.08, 0.75), (-0.08, 0.75), (0.08, 0.97), (-0.08, 0.97),
    ],
    np.float32,
)  # fmt: skip
# Meters, camera axes, pelvis at the origin.
STANDING_H36M = np.array(
    [
        (0, 0, 0), (-0.13, 0, 0), (-0.14, 0.42, 0), (-0.14, 0.84, 0.03), (0.13, 0, 0), (0.14, 0.42, 0),
        (0.14, 0.84, 0.03),
        (0, -0.25, 0), (0, -0.5, 0), (0, -0.6, -0.1), (0, -0.72, 0),
        (0.17, -0.48, 0), (0.25, -0.2, 0), (0.27, 0.02, -0.1), (-0.17, -0.48, 0), (-0.25, -0.2, 0), (-0.27, 0.02, -0.1),
    ],
    np.float32,
)  # fmt: skip


def blank(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def keypoints(height_px: float = 200, x: float = 160, y: float = 20) -> np.ndarray:
    return (STANDING_COCO * height_px + (x, y)).astype(np.float32)


def make_track(person_id: int = 1, num_frames: int = 6, x: float = 160, start: int = 0) -> Track:
    return Track(
        person_id,
        np.arange(start, start + num_frames),
        np.repeat(keypoints(x=x)[None], num_frames, axis=0),
        np.full((num_frames, 17), 0.9, np.float32),
        np.ones(num_frames, bool),
        np.ones(num_frames, bool),
    )


def make_pose(track: Track, joints: np.ndarray | None = None, scores: float = 0.9) -> Pose3D:
    t = len(track.frames)
    joints = np.repeat(STANDING_H36M[None], t, axis=0) if joints is None else joints
    return Pose3D(track.person_id, track.frames, joints, np.full((t, 17), scores, np.float32), "m")


def make_result(tracks: list[Track], num_frames: int = 6, height: int = 240, width: int = 320) -> PoseResult:
    info = VideoInfo(Path("made up"), width, height, 30.0, num_frames, 0, np.arange(num_frames) / 30)
    return PoseResult(info, tracks, [make_pose(track) for track in tracks], {})


def invalid(track: Track, frames: slice) -> Track:
    valid = track.valid.copy()
    valid[frames] = False
    return Track(track.person_id, track.frames, track.keypoints, track.scores, valid, valid)


def change(drawn: np.ndarray, plain: np.ndarray) -> float:
    return float(np.abs(drawn.astype(int) - plain).sum())


def color_at(picture: np.ndarray, point: np.ndarray) -> np.ndarray:
    return picture[round(float(point[1])), round(float(point[0]))].astype(int)


def hue_of(color: np.ndarray) -> str:
    return "blue" if color[2] > color[0] + 40 else "orange" if color[0] > color[2] + 40 else "neither"


@pytest.mark.parametrize(("left", "right"), COCO17.left_right[2:], ids=lambda j: COCO17.names[j])
def test_left_is_blue_and_right_is_orange_over_the_picture(left: int, right: int) -> None:
    points = keypoints()
    drawn = overlay_2d(blank(), points, np.ones(17, np.float32), True)
    assert hue_of(color_at(drawn, points[left])) == "blue"
    assert hue_of(color_at(drawn, points[right])) == "orange"


def test_left_and_right_differ_in_brightness_too() -> None:
    # Blue and orange are told apart in every common color blindness; far apart in the blue channel.
    assert abs(LEFT[2] - RIGHT[2]) > 150


def test_the_given_frame_is_not_changed() -> None:
    frame = blank()
    overlay_2d(frame, keypoints(), np.ones(17, np.float32), True)
    assert (frame == BACKGROUND).all()


def test_lower_scores_are_fainter() -> None:
    changes = [
        change(overlay_2d(blank(), keypoints(), np.full(17, s, np.float32), True), blank())
        for s in (0.0, 0.2, 0.35, 0.9)
    ]
    assert changes == sorted(changes)
    assert 0 < changes[0] < 0.4 * changes[-1]


def test_one_faint_joint_leaves_the_others_solid() -> None:
    scores = np.ones(17, np.float32)
    scores[COCO17.index("left_wrist")] = 0.1
    points = keypoints()
    faint, solid = (overlay_2d(blank(), points, s, True) for s in (scores, np.ones(17, np.float32)))
    wrist, ankle = points[COCO17.index("left_wrist")], points[COCO17.index("left_ankle")]
    assert np.abs(color_at(faint, wrist) - BACKGROUND).sum() < np.abs(color_at(solid, wrist) - BACKGROUND).sum()
    np.testing.assert_array_equal(color_at(faint, ankle), color_at(solid, ankle))


def test_filled_in_frames_are_dimmer() -> None:
    scores = np.ones(17, np.float32)
    seen, filled = (change(overlay_2d(blank(), keypoints(), scores, o), blank()) for o in (True, False))
    assert 0 < filled < 0.7 * seen


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38, 5e4, -700.0])
@pytest.mark.parametrize("observed", [True, False])
def test_absurd_coordinates_leave_the_rest_drawn(bad: float, observed: bool) -> None:
    points = keypoints()
    points[COCO17.index("left_wrist")] = bad
    drawn = overlay_2d(blank(), points, np.ones(17, np.float32), observed)
    assert change(drawn[150:, 100:155], blank()[150:, 100:155]) > 0


@pytest.mark.parametrize("bad", [np.nan, 1e30, -900.0])
def test_nothing_in_the_picture_draws_nothing(bad: float) -> None:
    drawn = overlay_2d(blank(), np.full((17, 2), bad, np.float32), np.ones(17, np.float32), True)
    assert (drawn == BACKGROUND).all()


def test_scores_that_are_no_number_do_not_fail() -> None:
    drawn = overlay_2d(blank(), keypoints(), np.full(17, np.nan, np.float32), True)
    assert change(drawn, blank()) > 0


def test_lines_grow_with_the_picture() -> None:
    scores = np.ones(17, np.float32)
    small = overlay_2d(blank(240, 320), keypoints(200, 160, 20), scores, True)
    large = overlay_2d(blank(960, 1280), keypoints(800, 640, 80), scores, True)
    shares = [(picture != BACKGROUND).any(axis=2).mean() for picture in (small, large)]
    assert shares[1] == pytest.approx(shares[0], rel=0.5)


def test_panel_shows_left_blue_and_right_orange() -> None:
    track = make_track()
    panel = Scene3D([track], [make_pose(track)], 240, 240).draw(0).astype(int)
    blue = np.argwhere(panel[..., 2] - panel[..., 0] > 120)[:, 1]
    orange = np.argwhere(panel[..., 0] - panel[..., 2] > 120)[:, 1]
    assert len(blue) > 50
    assert len(orange) > 50
    assert blue.mean() > orange.mean()  # the person faces us


def test_panel_does_not_pulse() -> None:
    track = make_track(num_frames=60)
    joints = np.repeat(STANDING_H36M[None], 60, axis=0)
    joints[30:34] *= 1.5
    scene = Scene3D([track], [make_pose(track, joints)], 240, 240)
    np.testing.assert_array_equal(scene.draw(5), scene.draw(55))
    assert change(scene.draw(31), scene.draw(5)) > 0


def test_one_wild_frame_does_not_shrink_the_person() -> None:
    track = make_track(num_frames=600)
    joints = np.repeat(STANDING_H36M[None], 600, axis=0)
    calm = Scene3D([track], [make_pose(track, joints)], 240, 240).draw(5)
    joints = joints.copy()
    joints[300, 13] = (0, 0, 500)
    np.testing.assert_allclose(
        Scene3D([track], [make_pose(track, joints)], 240, 240).draw(5).mean(), calm.mean(), rtol=0.02
    )


def test_scale_of_the_poses_does_not_matter() -> None:
    # Lifters without meters give another unit: the picture is the same.
    track = make_track()
    meters, other = (
        Scene3D([track], [make_pose(track, np.repeat(s * STANDING_H36M[None], 6, axis=0))], 240, 240).draw(0)
        for s in (1.0, 0.37)
    )
    assert np.abs(meters.astype(int) - other).mean() < 0.5


def test_low_scores_are_fainter_in_the_panel() -> None:
    track = make_track()
    empty = Scene3D([invalid(track, slice(0, 1))], [make_pose(track)], 240, 240).draw(0)
    faint, solid = (Scene3D([track], [make_pose(track, scores=s)], 240, 240).draw(0) for s in (0.1, 0.9))
    assert 0 < change(faint, empty) < change(solid, empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e20, -1e4])
def test_absurd_joints_do_not_fail(bad: float) -> None:
    track = make_track()
    joints = np.repeat(STANDING_H36M[None], 6, axis=0)
    joints[2:4, H36M17.index("left_wrist")] = bad
    scene = Scene3D([track], [make_pose(track, joints)], 240, 240)
    assert all(scene.draw(k).shape == (240, 240, 3) for k in range(6))


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_pose_without_extent_does_not_fail(fill: float) -> None:
    track = make_track()
    scene = Scene3D([track], [make_pose(track, np.full((6, 17, 3), fill, np.float32))], 240, 240)
    assert scene.draw(0).shape == (240, 240, 3)


def test_two_people_stand_side_by_side_as_in_the_picture() -> None:
    right, left = make_track(1, x=240), make_track(2, x=80)
    only_right = [right, invalid(left, slice(None))]
    only_left = [invalid(right, slice(None)), left]
    columns = []
    for tracks in (only_left, only_right):
        panel = Scene3D(tracks, [make_pose(track) for track in tracks], 240, 300).draw(0).astype(int)
        columns.append(np.argwhere(np.ptp(panel, axis=2) > 120)[:, 1].mean())
    assert columns[0] + 50 < columns[1]


def test_people_who_never_meet_share_a_place() -> None:
    first, later = make_track(1, 5), make_track(2, 5, start=5)
    alone = Scene3D([first], [make_pose(first)], 240, 240)
    both = Scene3D([first, later], [make_pose(first), make_pose(later)], 240, 240)
    np.testing.assert_array_equal(alone.draw(0), both.draw(0))


def test_nobody_in_the_clip_leaves_frames_untouched() -> None:
    frames = [blank(241, 321), blank(241, 321)]
    result = make_result([], 2, 241, 321)
    assert all(out is frame for out, frame in zip(render_frames(frames, result), frames, strict=True))
    assert output_size(result.video, result) == (241, 321)


def test_invalid_frames_show_no_person() -> None:
    result = make_result([invalid(make_track(), slice(2, 4))])
    drawn = list(render_frames([blank()] * 6, result))
    assert change(drawn[2][:, :320], blank()) == 0
    assert change(drawn[1][:, :320], blank()) > 0
    assert change(drawn[2][:, 320:], drawn[1][:, 320:]) > 0
    np.testing.assert_array_equal(drawn[2], drawn[3])


def test_frames_outside_the_track_show_no_person() -> None:
    drawn = list(render_frames([blank()] * 6, make_result([make_track(num_frames=2, start=3)])))
    assert [change(picture[:, :320], blank()) > 0 for picture in drawn] == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    "size", [(240, 320), (241, 321), (48, 64), (720, 404), (1200, 90), (90, 1200), (17, 17), (3, 2)]
)
@pytest.mark.parametrize("num_people", [1, 2, 7])
def test_output_sizes_are_even_and_as_announced(size: tuple[int, int], num_people: int) -> None:
    result = make_result([make_track(i, x=40 * i) for i in range(num_people)], 6, *size)
    height, width = output_size(result.video, result)
    assert height % 2 == width % 2 == 0
    assert width - size[1] >= 240
    for out in render_frames([blank(*size)] * 2, result):
        assert out.shape == (height, width, 3)


def test_frames_are_drawn_lazily() -> None:
    taken = []

    def frames():
        for k in range(6):
            taken.append(k)
            yield blank()

    next(render_frames(frames(), make_result([make_track()])))
    assert taken == [0]


def test_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 0 has shape"):
        next(render_frames([blank(100, 100)], make_result([make_track()])))
