"""viewer.html in a real browser: what a person sees of a result and does with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.results import Pose3D
from app.viewer import page
from detectors.people import Track
from tests.app.viewer.viewing import UNSTEADY, frame_of, go_to, stage, vividness
from tests.people import FILLED, GAP, LATE


def test_the_picture_rests_when_paused(make_result, visit):
    tab = visit(page(make_result()))
    tab.get_by_label("Play (space)").click()
    tab.wait_for_function("() => viewer.drawn > 10")
    tab.get_by_label("Pause (space)").click()
    np.testing.assert_array_equal(stage(tab), stage(tab))


def test_playing_stops_at_the_end_and_begins_again(make_result, visit):
    tab = visit(page(make_result(1, times=UNSTEADY[:12])))
    tab.keyboard.press("Space")
    tab.wait_for_function("() => viewer.drawn === 11 && !viewer.clock.playing")
    tab.keyboard.press("Space")
    tab.wait_for_function("() => viewer.drawn < 11")


def test_dragging_turns_the_wheel_zooms_and_a_double_click_resets(make_result, visit):
    tab = visit(page(make_result()))
    before = stage(tab)
    box = tab.locator(".pm-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 2 * box["height"] / 3
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 150, y - 20, steps=4)
    tab.mouse.up()
    turned = stage(tab)
    assert tab.evaluate("viewer.scene.yaw") == pytest.approx(0.5 - 150 * 0.008)
    tab.mouse.wheel(0, 400)
    zoomed = stage(tab)
    tab.mouse.dblclick(x, box["y"] + 60)
    tab.mouse.move(0, 0)
    assert vividness(zoomed) < vividness(turned)  # farther away
    np.testing.assert_array_equal(stage(tab), before)


def test_keys_scrub(make_result, visit):
    tab = visit(page(make_result()))
    for key, frame in (("End", 119), ("ArrowLeft", 118), ("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2)):
        tab.keyboard.press(key)
        assert frame_of(tab) == frame
    tab.keyboard.press("Shift+ArrowRight")  # a second
    assert frame_of(tab) == 27
    tab.get_by_label("Frame", exact=True).focus()
    tab.keyboard.press("ArrowRight")
    assert frame_of(tab) == 28
    assert f"{UNSTEADY[28]:.3f} s" in tab.locator(".pm-readout").inner_text()
    assert "frame 28 / 119" in tab.locator(".pm-readout").inner_text()


def test_people_can_be_hidden(make_result, visit):
    tab = visit(page(make_result()))
    go_to(tab, 25)
    both = vividness(stage(tab))
    tab.get_by_role("button", name="Person 1").click()
    assert tab.get_by_role("button", name="Person 1").get_attribute("aria-pressed") == "false"
    one = vividness(stage(tab))
    tab.get_by_role("button", name="Person 0").click()
    nobody = vividness(stage(tab))
    assert both > 1.3 * one > 100
    assert nobody < 0.05 * one


def test_frames_without_a_detection_are_paler_and_invalid_ones_empty(make_result, visit):
    tab = visit(page(make_result(2)))
    tab.get_by_role("button", name="Person 0").click()
    amount = []
    for frame in (LATE + 5, LATE + FILLED.start, LATE + GAP.start, LATE - 1):
        go_to(tab, frame)
        amount.append(vividness(stage(tab)))
    observed, filled_in, *absent = amount
    assert filled_in < 0.7 * observed
    assert absent == [0, 0]


def test_views_follow_and_trails(make_result, visit):
    tab = visit(page(make_result(1)))
    go_to(tab, 60)

    def extents():
        """Return how far apart the shoulders are, across, and head and ankle, upwards, and the pelvis is off center."""
        stage(tab)
        return tab.evaluate("""() => {
            const { scene, data } = viewer, [person] = data.people;
            const at = (name) => scene.projectJoint(person, 60, data.joint_names.indexOf(name));
            return [Math.abs(at("left_shoulder")[0] - at("right_shoulder")[0]), at("left_ankle")[1] - at("head")[1],
                    Math.abs(at("pelvis")[0] - scene.width / 2)];
        }""")

    seen = {}
    for name in ("front", "side", "top"):
        tab.get_by_role("button", name=f"View from the {name}").click()
        seen[name] = extents()
    assert seen["side"][1] == pytest.approx(seen["front"][1], rel=0.3)
    assert abs(seen["top"][1]) < 0.5 * seen["front"][1]
    assert abs(seen["side"][0] - seen["front"][0]) > 5
    assert seen["top"][2] > 20
    tab.get_by_label("Follow").check()
    assert extents()[2] < 20
    plain = vividness(stage(tab))
    tab.get_by_label("Joint trails").select_option("hands and feet")
    assert vividness(stage(tab)) > 1.1 * plain


def test_people_belong_to_their_shot(make_result, visit):
    result = make_result(2)
    first, second = result.tracks
    early = Track(0, first.frames[:20], *(a[:20] for a in (first.keypoints, first.scores, first.observed, first.valid)))
    pose = result.poses[0]
    poses = [Pose3D(0, early.frames, pose.joints[:20], pose.scores[:20], "m", pose.root[:20]), result.poses[1]]
    (shot,) = result.shots
    shots = (replace(shot, stop=20), replace(shot, start=20, is_camera_moving=True))
    tab = visit(page(replace(result, tracks=[early, second], poses=poses, shots=shots)))
    assert "shot 1 of 2" in tab.locator(".pm-readout").inner_text()
    assert tab.evaluate("viewer.scene.present(19).map(({ person }) => person.id)") == [0]
    go_to(tab, 20)
    assert "shot 2 of 2" in tab.locator(".pm-readout").inner_text()
    assert tab.evaluate("viewer.scene.present(20).map(({ person }) => person.id)") == [1]
    assert tab.get_by_text("The camera moves").is_visible()
    assert vividness(stage(tab)) > 100  # the view went to where the people of this shot are


def test_nobody_found_is_said(make_result, visit):
    tab = visit(page(make_result(0)))
    assert tab.get_by_text("Nobody was found in this clip.").is_visible()
    tab.keyboard.press("End")
    assert frame_of(tab) == 119


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_color_scheme(make_result, visit, scheme):
    tab = visit(page(make_result()), scheme=scheme)
    brightness = stage(tab).mean()
    assert brightness > 180 if scheme == "light" else brightness < 80


def test_a_phone_needs_no_sideways_scrolling(make_result, visit):
    tab = visit(page(make_result(name="a-very-long-name-" * 12 + ".mp4")), width=360, height=640)
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    for control in tab.locator("button, select, input[type=range]").all():
        if control.is_visible():
            box = control.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360 or control.evaluate("(e) => !!e.closest('.pm-chips')")
    assert vividness(stage(tab)) > 100


def test_a_click_on_somebody_plots_this_person(make_result, visit):
    tab = visit(page(make_result()))
    go_to(tab, 30)
    where = "viewer.scene.projectJoint(viewer.data.people[1], 30 - viewer.data.people[1].start, 1).slice(0, 2)"
    x, y = tab.evaluate(where)
    box = tab.locator(".pm-canvas").bounding_box()
    tab.mouse.click(box["x"] + x, box["y"] + y)
    assert tab.get_by_label("Person of the plot").input_value() == "1"
    assert tab.evaluate("viewer.plot.person.id") == 1


def test_it_loops(make_result, visit):
    tab = visit(page(make_result(1, times=UNSTEADY[:12])))
    tab.keyboard.press("l")
    tab.keyboard.press("Space")
    tab.wait_for_function("() => viewer.drawn === 11")
    tab.wait_for_function("() => viewer.drawn < 8 && viewer.clock.playing")


def test_dragging_with_shift_pans_and_the_camera_view_faces_the_camera(make_result, visit):
    result = make_result(1)
    tab = visit(page(result))
    box = tab.locator(".pm-canvas").bounding_box()
    tab.mouse.move(box["x"] + 300, box["y"] + 150)
    tab.keyboard.down("Shift")
    tab.mouse.down()
    tab.mouse.move(box["x"] + 360, box["y"] + 150)
    tab.mouse.up()
    tab.keyboard.up("Shift")
    moved = tab.evaluate("viewer.scene.moved")
    assert np.linalg.norm(moved) > 0.1
    tab.keyboard.press("4")
    stage(tab)
    assert tab.evaluate("viewer.scene.moved") == [0, 0, 0]
    back, target = tab.evaluate("[viewer.scene.axes.back, viewer.scene.target]")
    camera = np.array([0, result.camera_height(0), 0]) - target
    np.testing.assert_allclose(back, camera / np.linalg.norm(camera), atol=1e-3)


def test_colors_by_person_and_help(make_result, visit):
    tab = visit(page(make_result()))
    go_to(tab, 30)
    before = stage(tab)
    tab.keyboard.press("p")
    by_person = stage(tab)
    orange = [((x[..., 2] > 200) & (x[..., 1] < 170) & (x[..., 0] < 100)).sum() for x in (before, by_person)]
    assert orange[0] > 100 > orange[1]  # OpenCV's order: blue, green, red
    tab.keyboard.press("?")
    assert tab.get_by_text("color by person").is_visible()
    tab.keyboard.press("?")
    assert tab.get_by_text("color by person").is_hidden()
