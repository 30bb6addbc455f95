"""Drawing: colors, fading, robustness to absurd points, and a 3D panel that stays still."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.options import OVERLAY_SHAPES, OVERLAY_STYLES, Options
from app.render.drawing import LEFT, RIGHT
from app.render.layout import layout_of
from app.render.overlay import output_size, render_frames
from app.render.scene3d import Scene3D
from app.render.scene_floor import SKY
from app.render.scene_stage import stage_of
from app.render.skeleton_2d import draw_skeleton
from app.results import Pose3D, PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter.skeletons import COCO17, H36M17
from lifter.training.augmentation.simulated_detector import coco17_from_h36m17
from tests.people import FACING, STANDING, walkers

BACKGROUND = 90
Y_UP = STANDING[:, [0, 2, 1]] * np.float32([1, 1, -1])  # facing the camera, meters, y up
ONES = np.ones(17, np.float32)
FACING_COCO = coco17_from_h36m17(torch.from_numpy(FACING)[None]).numpy()[0, :, :2]  # meters


def blank(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def keypoints(height_px: float = 200, x: float = 160, y: float = 20) -> np.ndarray:
    scale = height_px / np.ptp(FACING_COCO[:, 1])
    return (scale * (FACING_COCO - (0, FACING_COCO[:, 1].min())) + (x, y)).astype(np.float32)


def overlay_2d(frame: np.ndarray, points: np.ndarray, scores: np.ndarray, is_observed: bool) -> np.ndarray:
    drawn = frame.copy()
    draw_skeleton(drawn, points, scores, is_observed=is_observed)
    return drawn


def make_track(person_id: int = 1, num_frames: int = 6, x: float = 160, start: int = 0) -> Track:
    points = np.repeat(keypoints(x=x)[None], num_frames, axis=0)
    every = np.ones(num_frames, bool)
    scores = np.full((num_frames, 17), 0.9, np.float32)
    return Track(person_id, np.arange(start, start + num_frames), points, scores, every, every)


def make_pose(track: Track, joints: np.ndarray | None = None, scores: float = 0.9) -> Pose3D:
    t = len(track.frames)
    joints = np.repeat(FACING[None], t, axis=0) if joints is None else joints
    return Pose3D(track.person_id, track.frames, joints, np.full((t, 17), scores, np.float32), "m")


def make_result(tracks: list[Track], num_frames: int = 6, height: int = 240, width: int = 320) -> PoseResult:
    info = VideoInfo(Path("made up"), width, height, 30.0, num_frames, 0, np.arange(num_frames) / 30)
    return PoseResult(info, tracks, [make_pose(track) for track in tracks])


def panel(track: Track, joints: np.ndarray | None = None, scores: float = 0.9) -> Scene3D:
    return scene([track], [make_pose(track, joints, scores)], 240, 240)


def scene(tracks: list[Track], poses: list[Pose3D], height: int, width: int) -> Scene3D:
    result = replace(make_result(tracks, max(int(track.frames[-1]) + 1 for track in tracks)), poses=poses)
    return Scene3D(result, range(len(tracks)), height, width)


def invalid(track: Track, frames: slice) -> Track:
    valid = track.valid.copy()
    valid[frames] = False
    return replace(track, valid=valid, observed=valid)


def change(drawn: np.ndarray, plain: np.ndarray) -> float:
    return float(np.abs(drawn.astype(int) - plain).sum())


def color_at(picture: np.ndarray, point: np.ndarray) -> np.ndarray:
    return picture[round(float(point[1])), round(float(point[0]))].astype(int)


def blue_and_orange(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a picture is blue and where it is orange, but for the legend at the bottom."""
    difference = picture[: -round(0.1 * len(picture)), :, 2].astype(int) - picture[: -round(0.1 * len(picture)), :, 0]
    return difference > 120, difference < -120


@pytest.mark.parametrize(("left", "right"), COCO17.left_right[2:], ids=lambda j: COCO17.names[j])
def test_left_is_blue_and_right_is_orange_over_the_picture(left: int, right: int) -> None:
    points = keypoints()
    drawn = overlay_2d(blank(), points, ONES, True)
    blue, orange = color_at(drawn, points[left]), color_at(drawn, points[right])
    assert blue[2] > blue[0] + 40
    assert orange[0] > orange[2] + 40
    assert abs(LEFT[2] - RIGHT[2]) > 150  # told apart in every common color blindness, too


def test_lower_scores_are_fainter() -> None:
    changes = [change(overlay_2d(blank(), keypoints(), s * ONES, True), blank()) for s in (0.0, 0.2, 0.35, 0.9)]
    assert changes == sorted(changes)
    assert 0 < changes[0] < 0.4 * changes[-1]


def test_one_faint_joint_leaves_the_others_solid() -> None:
    scores, points = ONES.copy(), keypoints()
    scores[COCO17.index("left_wrist")] = 0.1
    faint, solid = (overlay_2d(blank(), points, s, True) for s in (scores, ONES))
    wrist, ankle = points[COCO17.index("left_wrist")], points[COCO17.index("left_ankle")]
    assert np.abs(color_at(faint, wrist) - BACKGROUND).sum() < np.abs(color_at(solid, wrist) - BACKGROUND).sum()
    np.testing.assert_array_equal(color_at(faint, ankle), color_at(solid, ankle))


def test_filled_in_frames_are_dimmer() -> None:
    seen, filled = (change(overlay_2d(blank(), keypoints(), ONES, o), blank()) for o in (True, False))
    assert 0 < filled < 0.7 * seen


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38, 5e4, -700.0])
@pytest.mark.parametrize("observed", [True, False])
def test_absurd_coordinates_leave_the_rest_drawn(bad: float, observed: bool) -> None:
    points = keypoints()
    points[COCO17.index("left_wrist")] = bad
    drawn = overlay_2d(blank(), points, ONES, observed)
    assert change(drawn[150:, 100:160], blank()[150:, 100:160]) > 0  # the right leg
    nothing = overlay_2d(blank(), np.full((17, 2), bad, np.float32), ONES, True)
    assert (nothing == BACKGROUND).all()


def test_scores_that_are_no_number_are_drawn_as_faintly_as_0() -> None:
    unknown, zero = (overlay_2d(blank(), keypoints(), score * ONES, True) for score in (np.nan, 0))
    np.testing.assert_array_equal(unknown, zero)


def test_lines_grow_with_the_picture() -> None:
    small = overlay_2d(blank(240, 320), keypoints(200, 160, 20), ONES, True)
    large = overlay_2d(blank(960, 1280), keypoints(800, 640, 80), ONES, True)
    shares = [(picture != BACKGROUND).any(axis=2).mean() for picture in (small, large)]
    assert shares[1] == pytest.approx(shares[0], rel=0.5)


def test_panel_shows_left_blue_and_right_orange() -> None:
    blue, orange = (np.argwhere(mask)[:, 1] for mask in blue_and_orange(panel(make_track()).draw(0)))
    assert len(blue) > 50
    assert len(orange) > 50
    assert blue.mean() > orange.mean()  # the person faces us


def test_panel_does_not_pulse() -> None:
    joints = np.repeat(FACING[None], 60, axis=0)
    joints[30:34] *= 1.5
    scene = panel(make_track(num_frames=60), joints)
    np.testing.assert_array_equal(scene.draw(5), scene.draw(55))
    heights = [np.ptp(np.argwhere(np.any(blue_and_orange(scene.draw(t)), axis=0))[:, 0]) for t in (5, 31)]
    assert heights[1] > 1.2 * heights[0]


def test_one_wild_frame_does_not_shrink_the_person() -> None:
    joints = np.repeat(FACING[None], 600, axis=0)
    wild = joints.copy()
    wild[300, 13] = (0, 0, 500)
    pictures = [panel(make_track(num_frames=600), x).draw(5).mean() for x in (joints, wild)]
    assert pictures[1] == pytest.approx(pictures[0], rel=0.02)


def test_scale_of_the_poses_does_not_matter() -> None:
    # Lifters without meters give another unit: the picture is the same.
    meters, other = (panel(make_track(), np.repeat(s * FACING[None], 6, axis=0)).draw(0) for s in (1.0, 0.37))
    assert np.abs(meters.astype(int) - other).mean() < 0.5


def test_low_scores_are_fainter_in_the_panel() -> None:
    empty = panel(invalid(make_track(), slice(0, 1))).draw(0)
    faint, solid = (panel(make_track(), scores=s).draw(0) for s in (0.1, 0.9))
    assert 0 < change(faint, empty) < change(solid, empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e20, -1e4])
def test_absurd_joints_do_not_fail(bad: float) -> None:
    joints = np.repeat(FACING[None], 6, axis=0)
    joints[2:4, H36M17.index("left_wrist")] = bad
    scene = panel(make_track(), joints)
    assert all(scene.draw(k).shape == (240, 240, 3) for k in range(6))


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_pose_without_extent_does_not_fail(fill: float) -> None:
    assert panel(make_track(), np.full((6, 17, 3), fill, np.float32)).draw(0).shape == (240, 240, 3)


def test_two_people_stand_side_by_side_as_in_the_picture() -> None:
    right, left = make_track(1, x=240), make_track(2, x=80)
    columns = []
    for tracks in ([invalid(right, slice(0, 1)), left], [right, invalid(left, slice(0, 1))]):
        drawn = scene(tracks, [make_pose(track) for track in tracks], 240, 300).draw(0).astype(int)
        columns.append(np.argwhere(np.any(blue_and_orange(drawn), axis=0))[:, 1].mean())
    assert columns[0] + 50 < columns[1]


def test_people_who_never_meet_share_a_place() -> None:
    first, later = make_track(1, 5), make_track(2, 5, start=5)
    both = scene([first, later], [make_pose(first), make_pose(later)], 240, 240)
    alone = panel(first).draw(0)
    np.testing.assert_array_equal(blue_and_orange(alone), blue_and_orange(both.draw(0)))
    np.testing.assert_array_equal(blue_and_orange(alone), blue_and_orange(both.draw(7)))


def bodies(picture: np.ndarray) -> np.ndarray:
    """Return (x, y) of the middle of all that is blue or orange."""
    return np.argwhere(np.any(blue_and_orange(picture), axis=0)).mean(axis=0)[::-1]


def test_people_stand_where_they_are_in_the_world(walker: np.ndarray) -> None:
    result = walkers(walker[:120])
    stage = stage_of(result, [0, 1])
    apart = stage.paths[1][10] - stage.paths[0][30]
    truth = result.world_joints(1)[10, 0] - result.world_joints(0)[30, 0]
    assert np.linalg.norm(apart[[0, 2]]) == pytest.approx(np.linalg.norm(truth[[0, 2]]), abs=0.03)
    assert abs(np.degrees(stage.turn)) == pytest.approx(35)
    for joints in stage.joints:
        assert np.nanpercentile(joints[..., 1].max(axis=1), 50) == pytest.approx(0, abs=0.15), "feet are on the floor"


def test_the_panel_shows_depth_that_the_picture_hides() -> None:
    """Somebody who comes straight to the camera stays in the middle of the picture and crosses the panel."""
    result = walkers(np.repeat(Y_UP[None], 60, axis=0) + np.linspace(-4, -1, 60)[:, None, None] * (0, 0, 1), 1)
    track = result.tracks[0]
    across = np.ptp(track.keypoints[..., 0].mean(axis=1))
    drawn = Scene3D(result, [0], 240, 240)
    far, near = (bodies(drawn.draw(t)) for t in (0, 59))
    assert across < 10
    assert abs(near[0] - far[0]) > 60
    assert near[1] > far[1] + 20, "nearer is lower, as seen from above"


def test_the_view_stays_while_people_move(walker: np.ndarray) -> None:
    result = walkers(walker[:120], 1)
    shown = Scene3D(result, [0], 240, 240)
    corners = [shown.draw(t)[:20, :60] for t in (0, 60, 119)]
    np.testing.assert_array_equal(corners[0], corners[1])
    np.testing.assert_array_equal(corners[0], corners[2])


def test_every_shot_has_its_own_view(walker: np.ndarray) -> None:
    """Far away in one shot and near in the other: both fill the panel."""
    world = np.repeat(Y_UP[None], 40, axis=0)
    first, second = walkers(world - (0, 0, 9), 1), walkers(world, 1)
    moved = [replace(x, frames=x.frames + 40, person_id=1) for x in (second.tracks[0], second.poses[0])]
    info = replace(first.video, num_frames=80, timestamps_s=np.arange(80) / 30)
    (shot,) = first.shots
    result = PoseResult(info, [first.tracks[0], moved[0]], [first.poses[0], moved[1]], first.options,
                        shots=(shot, replace(shot, start=40, stop=80)))  # fmt: skip
    frames = [np.zeros((info.height, info.width, 3), np.uint8)] * 80
    tall = []
    for index, picture in enumerate(render_frames(frames, result)):
        if index in (5, 75):
            tall.append(np.ptp(np.argwhere(np.any(blue_and_orange(picture[:, info.width :]), axis=0))[:, 0]))
    assert tall[0] == pytest.approx(tall[1], rel=0.1)
    assert tall[0] > 0.4 * info.height


def test_no_floor_is_drawn_on_as_if_there_were_one(walker: np.ndarray) -> None:
    result = walkers(walker[:60], 1, is_upright=False)
    joints = stage_of(result, [0]).joints[0]
    assert np.median(joints[:, 0, 1]) < -0.5, "the pelvis is above the floor, although heights are unknown"


@pytest.mark.parametrize("size", [(240, 320), (720, 404), (241, 321), (1080, 1920), (17, 17)])
@pytest.mark.parametrize("style", OVERLAY_STYLES)
@pytest.mark.parametrize("shape", OVERLAY_SHAPES)
def test_layouts_have_their_shape_and_show_the_picture_whole(size, style: str, shape: str) -> None:
    height, width = size
    layout = layout_of(width, height, Options(overlay_style=style, overlay_shape=shape))
    assert layout.height % 2 == layout.width % 2 == 0
    if shape != "clip":
        across, down = map(int, shape.split(":"))
        assert layout.width * down == pytest.approx(layout.height * across, abs=2 * max(across, down))
    assert (layout.picture is None) == (style == "3d")
    assert (layout.panel is None) == (style == "picture")
    boxes = [box for box in (layout.picture, layout.panel) if box is not None]
    for box in boxes:
        assert 0 <= box.left <= box.left + box.width <= layout.width
        assert 0 <= box.top <= box.top + box.height <= layout.height
    if layout.picture is not None:
        assert (layout.picture.height, layout.picture.width) == size
    if len(boxes) == 2:
        first, second = boxes
        assert second.left >= first.left + first.width or second.top >= first.top + first.height
        assert second.width * second.height >= 0.2 * first.width * first.height


@pytest.mark.parametrize("style", OVERLAY_STYLES)
def test_styles_show_what_they_say(style: str) -> None:
    result = make_result([make_track()])
    result = replace(result, options=replace(result.options, overlay_style=style))
    (drawn,) = render_frames([blank()], result)
    assert drawn.shape[:2] == output_size(result.video, result)
    has_picture = (drawn == BACKGROUND).all(axis=-1).mean() > 0.3
    has_floor = (np.abs(drawn.astype(int) - SKY).sum(axis=-1) < 30).mean() > 0.1
    assert (has_picture, has_floor) == {"picture": (True, False), "3d": (False, True), "side-by-side": (True, True)}[
        style
    ]


def test_angles_are_written_beside_joints_and_nowhere_where_there_is_none(walker: np.ndarray) -> None:
    result = walkers(walker[:30], 1)
    scores = result.poses[0].scores.copy()
    scores[20, H36M17.index("left_ankle")] = 0
    result = replace(result, poses=[replace(result.poses[0], scores=scores)])
    shown, plain = (replace(result, options=replace(result.options, has_angles=on)) for on in (True, False))
    frames = [np.full((720, 1280, 3), BACKGROUND, np.uint8)] * 21
    for t in (5, 20):
        with_text, without = (list(render_frames(frames, each))[t] for each in (shown, plain))
        added = (with_text != without).any(axis=-1)
        for side, is_known in (("left", t == 5), ("right", True)):
            x, y = np.rint(result.tracks[0].keypoints[t, COCO17.index(f"{side}_knee")]).astype(int)
            assert added[y - 8 : y + 8, max(0, x - 70) : x + 70].any() == is_known
        assert not added[:, 1280:].any()


def test_nobody_in_the_clip_leaves_frames_untouched() -> None:
    frames = [blank(241, 321), blank(241, 321)]
    result = make_result([], 2, 241, 321)
    assert all(out is frame for out, frame in zip(render_frames(frames, result), frames, strict=True))
    assert output_size(result.video, result) == (241, 321)


@pytest.mark.parametrize(
    ("track", "shown"),
    [(invalid(make_track(), slice(2, 4)), [0, 1, 4, 5]), (make_track(num_frames=2, start=3), [3, 4])],
    ids=["invalid", "absent"],
)
def test_frames_without_the_person_show_nobody(track: Track, shown: list[int]) -> None:
    drawn = list(render_frames([blank()] * 6, make_result([track])))
    assert [t for t, picture in enumerate(drawn) if change(picture[:, :320], blank())] == shown
    vivid = [np.any(blue_and_orange(picture[:, 320:])) for picture in drawn]
    assert np.flatnonzero(vivid).tolist() == shown


@pytest.mark.parametrize(
    "size", [(240, 320), (241, 321), (48, 64), (720, 404), (1200, 90), (90, 1200), (17, 17), (3, 2)]
)
@pytest.mark.parametrize("num_people", [1, 7])
def test_output_sizes_are_even_and_as_announced(size: tuple[int, int], num_people: int) -> None:
    result = make_result([make_track(i, x=40 * i) for i in range(num_people)], 6, *size)
    height, width = output_size(result.video, result)
    assert height % 2 == width % 2 == 0
    assert width - size[1] >= 240
    for out in render_frames([blank(*size)] * 2, result):
        assert out.shape == (height, width, 3)


def test_frames_are_drawn_lazily() -> None:
    frames = iter([blank()] * 6)
    next(render_frames(frames, make_result([make_track()])))
    assert len(list(frames)) == 5


def test_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 0 has shape"):
        next(render_frames([blank(100, 100)], make_result([make_track()])))
