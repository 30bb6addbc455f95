"""The numbers that viewer.html holds and the curves that it draws of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from app.export import export
from app.export.json import document
from app.viewer import page
from lifter.skeletons import H36M17
from tests.app.viewer.viewing import UNSTEADY, decoded, frame_of, go_to
from tests.people import with_options


def test_the_page_holds_the_numbers_of_the_json(make_result, visit):
    result = make_result()
    tab = visit(page(result))
    result.video.path.write_bytes(b"a video")
    pose = document(result)
    assert tab.evaluate("Array.from(viewer.data.times)") == pose["video"]["timestamps_s"]
    assert tab.evaluate("viewer.data.people.map((person) => person.id)") == [0, 1]
    for index, person in enumerate(pose["people"]):
        shape = (len(person["frames"]), 17, 3)
        assert tab.evaluate("(p) => viewer.data.people[p].joint_steps", index) == 10000
        np.testing.assert_array_equal(decoded(tab, index, "joints").reshape(shape) / 10000, person["joints_3d"])
        np.testing.assert_array_equal(decoded(tab, index, "root").reshape(-1, 3) / 10000, person["root"])
        np.testing.assert_array_equal(decoded(tab, index, "scores").reshape(-1, 17) / 1000, person["joints_score"])
        flags = decoded(tab, index, "flags")
        np.testing.assert_array_equal((flags & 1).astype(bool), person["observed"])
        np.testing.assert_array_equal((flags & 2).astype(bool), person["valid"])
        assert tab.evaluate("(p) => viewer.data.people[p].start", index) == person["frames"][0]


@pytest.mark.parametrize("is_upright", [True, False])
def test_people_are_placed_as_in_the_other_files(make_result, visit, is_upright):
    result = make_result()
    tab = visit(page(with_options(result, is_upright=is_upright)))
    for index in range(2):
        world = decoded(tab, index, "world").reshape(-1, 17, 3)
        expected = with_options(result, is_upright=is_upright).world_joints(index)
        np.testing.assert_allclose(world, expected, atol=3e-4)  # joint and root in steps of 0.1 mm, then turned


def test_without_meters_people_stand_apart_on_the_spot(make_result, visit):
    result = make_result(unit="normalized")
    tab = visit(page(result))
    aside = [decoded(tab, i, "world").reshape(-1, 17, 3) - result.world_joints(i) for i in range(2)]
    for shift in aside:
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0, 0], shift.shape), atol=3e-4)
        assert abs(shift[0, 0, 1]) < 1e-6
    assert np.linalg.norm(aside[0][0, 0] - aside[1][0, 0]) > 0.5
    assert tab.get_by_text("No meters: size and place are not known").is_visible()


def test_joints_far_from_the_pelvis_fit_in(make_result, visit):
    result = make_result(1)
    (pose,) = result.poses
    result = replace(result, poses=[replace(pose, joints=20 * pose.joints)])
    tab = visit(page(result))
    world = decoded(tab, 0, "world").reshape(-1, 17, 3)
    np.testing.assert_allclose(world, result.world_joints(0), atol=2e-3)  # a step is 20 m / 32767


def test_the_same_result_gives_the_same_file(make_result, tmp_path):
    for name in ("a", "b"):
        export(make_result(), tmp_path / name, formats=("viewer",), has_overlay=False)
    assert (tmp_path / "a" / "viewer.html").read_bytes() == (tmp_path / "b" / "viewer.html").read_bytes()


def test_ten_minutes_of_five_people_stay_under_20_mb(make_result):
    result = make_result(1)
    (person,) = json.loads(page(result).split('id="contents">')[1].split("</script>")[0])["people"]
    per_frame = sum(len(person[field]) for field in ("joints", "root", "scores", "flags")) / person["count"]
    assert per_frame * 5 * 10 * 60 * 30 < 20e6


def angle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
    return np.degrees(np.arccos(cosine))


def curve(tab, key: str, person: int) -> dict[str, np.ndarray]:
    """Return the lines that the plot shows for a curve, by side, as the page has them."""
    tab.get_by_label("Curve", exact=True).select_option(key)
    lines = tab.evaluate(
        "(p) => viewer.plot.linesFor(viewer.data.people[p]).map((line) => [line.side, Array.from(line.values)])", person
    )
    return {side: np.array(values, float) for side, values in lines}


def test_curves_are_angles_heights_and_scores(make_result, visit):
    result = make_result()
    tab = visit(page(result))
    world, valid = result.world_joints(1), result.tracks[1].valid

    def joint(name):
        return world[:, H36M17.index(name)]

    for side in ("left", "right"):
        hip, knee, ankle = (joint(f"{side}_{part}") for part in ("hip", "knee", "ankle"))
        shoulder, elbow, wrist = (joint(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist"))
        expected = {
            "angle:knee": angle(knee - hip, ankle - knee),
            "angle:elbow": angle(elbow - shoulder, wrist - elbow),
            "angle:hip": angle(joint("pelvis") - joint("thorax"), knee - hip),
            "height:wrist": wrist[:, 1],
            "score:knee": result.poses[1].scores[:, H36M17.index(f"{side}_knee")],
        }
        tolerances = {"angle": 0.5, "height": 3e-4, "score": 6e-4}  # an angle moves by 0.1 mm over the shortest bone
        for key, values in expected.items():
            shown = curve(tab, key, 1)[side]
            assert np.isnan(shown[~valid]).all()
            np.testing.assert_allclose(shown[valid], values[valid], atol=tolerances[key.split(":")[0]])
    mean = curve(tab, "score:all", 1)["middle"][valid]
    np.testing.assert_allclose(mean, result.poses[1].scores[valid].mean(axis=1), atol=6e-4)


def test_a_click_on_the_plot_goes_to_that_time(make_result, visit):
    tab = visit(page(make_result()))
    box = tab.locator(".pm-plot").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 30)
    half = UNSTEADY[-1] / 2
    assert frame_of(tab) == int(np.searchsorted(UNSTEADY, half, "right")) - 1


def test_values_at_the_cursor_are_written_beside_the_plot(make_result, visit):
    result = make_result(1)
    tab = visit(page(result))
    tab.get_by_label("Curve", exact=True).select_option("height:head")
    go_to(tab, 70)
    height = result.world_joints(0)[70, H36M17.index("head"), 1]
    shown = float(tab.locator(".pm-legend").inner_text().split()[0])
    assert shown == pytest.approx(height, abs=2e-3)
