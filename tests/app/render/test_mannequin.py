"""The mannequin of the 3D panel: sides, light, depth, feet on the floor and their shadows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.render.drawing import LEFT, MIDDLE, RIGHT
from app.render.mannequin import FEET, body_points, contact_of, draw_limbs, limbs_of
from app.render.scene3d import Scene3D
from app.render.scene_floor import GROUND
from lifter.skeletons import H36M17
from tests.people import STANDING, walkers

HEIGHT = 1.72
STAGE = STANDING[:, [0, 2, 1]].astype(float) * (1, -1, 1)  # facing us, the left side at +x, the floor at y = 0
WORLD = STANDING[:, [0, 2, 1]] * np.float32([1, 1, -1])  # the same, y up
FLOOR_ROW, SCALE = 380, 200  # of pictures without perspective
SIDES = [("left", LEFT), ("right", RIGHT)]


def drawn(joints: np.ndarray, scores: np.ndarray | float = 1.0) -> np.ndarray:
    """Return a body from the front, without perspective but nearer limbs before others."""
    points = body_points(joints[None], HEIGHT)[0]
    pixels = np.stack([200 + SCALE * points[:, 0], FLOOR_ROW + SCALE * points[:, 1], SCALE - points[:, 2]], axis=1)
    canvas = np.full((400, 400, 3), GROUND, np.uint8)
    limbs = limbs_of(pixels, np.isfinite(pixels).all(axis=1), np.broadcast_to(scores, 17), HEIGHT)
    draw_limbs(canvas, [limbs])
    return canvas


def between(picture: np.ndarray, joints: np.ndarray, first: str, second: str, above_m: float = 0) -> np.ndarray:
    """Return the color halfway between two joints, or above it."""
    middle = joints[[H36M17.index(first), H36M17.index(second)]].mean(axis=0)
    return picture[round(FLOOR_ROW + SCALE * (middle[1] - above_m)), round(200 + SCALE * middle[0])].astype(float)


def hue(color: np.ndarray) -> np.ndarray:
    """Return red and blue beside green, which light does not change."""
    return np.asarray(color, float)[[0, 2]] / color[1]


@pytest.mark.parametrize(("side", "color"), SIDES)
@pytest.mark.parametrize("limb", [("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")])
def test_limbs_have_the_color_of_their_side(side: str, color: tuple[int, int, int], limb: tuple[str, str]) -> None:
    picture = drawn(STAGE)
    seen = between(picture, STAGE, *(f"{side}_{joint}" for joint in limb))
    assert np.abs(hue(seen) - hue(color)).max() < 0.35
    assert np.abs(hue(between(picture, STAGE, "spine", "thorax")) - hue(MIDDLE)).max() < 0.05


def test_limbs_taper_and_the_trunk_is_wider_than_a_bone() -> None:
    is_body = (drawn(STAGE) != GROUND).any(axis=2)
    rows = [round(FLOOR_ROW - SCALE * up) for up in (0.85, 0.25, 1.3)]  # thigh, shin, chest
    thighs, shins = (is_body[row, 200:].sum() for row in rows[:2])
    assert thighs > 1.5 * shins
    assert is_body[rows[2], 180:220].all()


def test_light_comes_from_above() -> None:
    joints = STAGE.copy()
    for name, x in (("left_elbow", 0.45), ("left_wrist", 0.7)):  # an arm held out
        joints[H36M17.index(name)] = (x, joints[H36M17.index("left_shoulder"), 1], 0)
    picture = drawn(joints)
    above, below = (between(picture, joints, "left_elbow", "left_wrist", up).sum() for up in (0.02, -0.02))
    assert above > 1.2 * below


@pytest.mark.parametrize(("z", "color"), [(-0.3, LEFT), (0.3, MIDDLE)], ids=["before", "behind"])
def test_nearer_limbs_cover_others(z: float, color: tuple[int, int, int]) -> None:
    joints = STAGE.copy()
    joints[H36M17.index("left_elbow")] = (0.08, -1.33, z)
    joints[H36M17.index("left_wrist")] = (-0.08, -1.33, z)
    assert np.abs(hue(between(drawn(joints), joints, "left_elbow", "left_wrist")) - hue(color)).max() < 0.35


def test_what_is_guessed_is_fainter() -> None:
    scores = np.ones(17)
    scores[H36M17.index("left_wrist")] = 0.1
    faint, solid = (drawn(STAGE, each) for each in (scores, np.ones(17)))
    limb = ("left_elbow", "left_wrist")
    assert (
        np.abs(between(faint, STAGE, *limb) - GROUND).sum() < 0.4 * np.abs(between(solid, STAGE, *limb) - GROUND).sum()
    )
    shin = ("left_knee", "left_ankle")
    np.testing.assert_array_equal(between(faint, STAGE, *shin), between(solid, STAGE, *shin))


def test_an_unseen_joint_leaves_the_rest_drawn() -> None:
    joints = STAGE.copy()
    joints[H36M17.index("left_ankle")] = np.nan
    missing, whole = drawn(joints), drawn(STAGE)
    changed = np.argwhere((missing != whole).any(axis=2))
    assert (missing[FLOOR_ROW - 60 : FLOOR_ROW, 220:240] == GROUND).all(), "neither shin nor foot"
    assert changed[:, 0].min() > FLOOR_ROW - SCALE * 0.6
    assert changed[:, 1].min() > 200
    assert (drawn(np.full((17, 3), np.nan)) == GROUND).all()


def test_feet_point_where_the_hips_face_and_reach_before_the_ankles() -> None:
    turns = np.radians([0, 90, 200])
    turned = np.stack([
        np.stack([c * STAGE[:, 0] + s * STAGE[:, 2], STAGE[:, 1], c * STAGE[:, 2] - s * STAGE[:, 0]], axis=1)
        for c, s in zip(np.cos(turns), np.sin(turns), strict=True)
    ])  # fmt: skip
    heel_to_toe = np.diff(body_points(turned, HEIGHT)[:, FEET], axis=2)[:, :, 0]
    ahead = np.stack([-np.sin(turns), np.zeros(3), -np.cos(turns)], axis=1)  # towards us, then turned
    assert np.einsum("tfk,tk->tf", heel_to_toe, ahead) == pytest.approx(0.12 * HEIGHT, abs=0.01)


@pytest.mark.parametrize("sunk_m", [0.0, 0.05, 0.3])
def test_no_foot_is_below_the_floor(sunk_m: float) -> None:
    joints = STAGE.copy()
    joints[[H36M17.index("left_ankle"), H36M17.index("right_ankle")], 1] += sunk_m
    points = body_points(joints[None], HEIGHT)[0, FEET]
    assert (points[..., 1] <= -0.02 * HEIGHT).all()
    if sunk_m == 0:
        picture = drawn(joints)
        is_body = (picture != GROUND).any(axis=2)
        assert not is_body[FLOOR_ROW + 3 :].any()
        assert is_body[FLOOR_ROW - 3].any(), "nobody hovers"


def test_feet_in_the_air_lose_their_contact() -> None:
    heights = np.array([0, 0.12, 0.2, 0.4])
    points = body_points(STAGE - heights[:, None, None] * (0, 1, 0), HEIGHT)[:, FEET, 1]
    contact = contact_of(points, HEIGHT)[:, 0]
    assert contact[0] == pytest.approx(1, abs=0.05)
    assert (np.diff(contact) < 0).all()
    assert contact[-1] == 0


def test_the_floor_is_dark_under_feet_that_stand_and_not_under_a_jump() -> None:
    world = np.repeat(WORLD[None], 60, axis=0)
    world[40:44, :, 1] += 0.5
    result = walkers(world, 1)
    scene = Scene3D(result, [0], 480, 480)
    hidden = replace(result.tracks[0], valid=np.arange(60) != 10, observed=np.arange(60) != 10)
    empty = Scene3D(replace(result, tracks=[hidden]), [0], 480, 480)
    standing, jumping, nobody = (each.draw(t).astype(float) for each, t in ((scene, 10), (scene, 42), (empty, 10)))
    colored = np.abs(standing[:430, :, 2] - standing[:430, :, 0]) > 120
    row, column = np.argwhere(colored)[-1]  # the tip of the foot in front
    under = (slice(row + 4, row + 8), slice(column - 3, column + 4))
    light = [picture[under].mean() / nobody[under].mean() for picture in (standing, jumping)]
    assert light[0] < 0.7
    assert light[1] > 0.9


@pytest.mark.parametrize("bad", [1e20, -1e4, 1e-30])
@pytest.mark.parametrize("joint", ["left_hip", "left_ankle", "left_wrist", "head"])
def test_absurd_joints_leave_the_right_arm_drawn(bad: float, joint: str) -> None:
    result = walkers(np.repeat(WORLD[None], 300, axis=0), 1)
    joints = result.poses[0].joints.copy()
    joints[150, H36M17.index(joint)] = bad
    scene = Scene3D(replace(result, poses=[replace(result.poses[0], joints=joints)]), [0], 240, 240)
    for t in (2, 150):
        picture = scene.draw(t)[:120].astype(int)
        assert ((picture[..., 0] - picture[..., 2]) > 120).sum() > 100


def test_unseen_legs_leave_the_rest_drawn() -> None:
    result = walkers(np.repeat(WORLD[None], 30, axis=0), 1)
    unseen = np.zeros((30, 17), bool)
    unseen[:, [H36M17.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]] = True
    scene = Scene3D(replace(result, poses=[replace(result.poses[0], unseen=unseen)]), [0], 240, 240)
    difference = scene.draw(5)[:200, :, 2].astype(int) - scene.draw(5)[:200, :, 0]
    rows = [np.argwhere(mask)[:, 0] for mask in (difference > 120, difference < -120)]  # blue and orange
    hips = scene.draw(5).max(axis=2)[:200] > 200
    assert all(len(each) > 100 for each in rows)
    assert max(each.max() for each in rows) < np.argwhere(hips)[:, 0].max() + 5, "arms only"
