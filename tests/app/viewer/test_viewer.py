"""viewer.html in a real browser: what a person sees of a result, and that nothing gets in or out."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.export import WRITERS, export
from app.export.json import document
from app.geometry.world import world_joints
from app.results import Pose3D, PoseResult, Shot
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from app.viewer import embedded, host_script, page
from detectors.people import Track
from lifter.skeletons import H36M17

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
PROVENANCE = {
    "app": {"name": "posemamba-wild", "version": "0"},
    "detector": {"detector": "fake"},
    "lifter": {
        "name": "posemamba-s", "weights": {"file": "w", "sha256": "0" * 64}, "unit": "m", "fps": 50.0, "window": 243,
        "scan_backend": "cpu", "device": "cpu",
    },
    "options": {"height_m": None, "fov_degrees": 50.0},
    "environment": {},
}  # fmt: skip
UNSTEADY = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.04], 40)])[:120]
GAP = slice(40, 60)  # of the second person: nobody was seen, too long to fill


@pytest.fixture
def make_result(walker, filmed, tmp_path) -> Callable[..., PoseResult]:
    """A function that makes a result with up to two walkers: the second comes 20 frames later, with a gap."""

    def make(num_people=2, *, name="clip.mp4", unit="m", times=UNSTEADY, shots=()):
        (tmp_path / name).write_bytes(b"a video")
        tracks, poses = [], []
        for person, start in enumerate((0, 20)[:num_people]):
            seen = filmed(walker[: len(times)] + person * np.array([0.9, 0, -0.5]), person_id=person)
            rows = slice(start, None)
            valid, observed = np.ones(len(times), bool), np.ones(len(times), bool)
            observed[30:34] = False
            if person:
                valid[GAP] = observed[GAP] = False
            scores = np.linspace(0.6, 1, 17 * len(times), dtype=np.float32).reshape(-1, 17)[rows]
            frames = seen.track.frames[rows]
            tracks.append(Track(person, frames, seen.track.keypoints[rows], scores, observed[rows], valid[rows]))
            root = seen.root[rows].astype(np.float32) if unit == "m" else None
            poses.append(Pose3D(person, frames, seen.pose.joints[rows], scores, unit, root))
            up = seen.up
        video = VideoInfo(tmp_path / name, 1280, 720, 1 / np.diff(times).mean(), len(times), 0, times, False)
        lifter = {**PROVENANCE["lifter"], "unit": unit}
        shots = shots or (Shot(0, len(times), False, up if num_people else None, "bodies and feet"),)
        return PoseResult(video, tracks, poses, {**PROVENANCE, "lifter": lifter}, shots=shots)

    return make


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    if BROWSER is None:
        pytest.skip("needs Chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens a file of HTML; in the end nothing may have complained or asked for another file."""
    opened = []

    def open_page(text: str, *, width=1000, height=700, scheme="dark", may_request=(), may_complain=False):
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        tab = context.new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        opened.append((context, said, asked, {path.as_uri(), *may_request}, may_complain))
        tab.goto(path.as_uri())
        return tab

    yield open_page
    for context, said, asked, allowed, may_complain in opened:
        context.close()
        assert may_complain or said == []
        assert {url for url in asked if not url.startswith(("data:", "blob:", "about:"))} <= allowed


def stage(tab) -> np.ndarray:
    """Return the pixels of the 3D view."""
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return cv2.imdecode(np.frombuffer(tab.locator(".pm-canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)


def go_to(tab, frame: int) -> None:
    tab.evaluate("(frame) => viewer.seek(frame)", frame)
    tab.wait_for_function("(frame) => viewer.drawn === frame", arg=frame)


def frame_of(tab) -> int:
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(tab.get_by_label("Frame", exact=True).input_value())


def vividness(pixels: np.ndarray) -> float:
    """Return how much blue and orange there is: limbs are the only strong colors beside the people's marks."""
    return float((pixels.max(axis=-1).astype(int) - pixels.min(axis=-1) > 90).sum())


def decoded(tab, person: int, field: str) -> np.ndarray:
    return np.array(tab.evaluate("([p, field]) => Array.from(viewer.data.people[p][field])", [person, field]))


# The numbers.


def test_the_page_holds_the_numbers_of_the_json(make_result, visit):
    result = make_result()
    tab = visit(page(result))
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
    tab = visit(page(result, is_upright=is_upright))
    for index in range(2):
        world = decoded(tab, index, "world").reshape(-1, 17, 3)
        expected = world_joints(result, index, is_upright=is_upright)
        np.testing.assert_allclose(world, expected, atol=3e-4)  # joint and root in steps of 0.1 mm, then turned


def test_without_meters_people_stand_apart_on_the_spot(make_result, visit):
    result = make_result(unit="normalized")
    tab = visit(page(result))
    aside = [decoded(tab, i, "world").reshape(-1, 17, 3) - world_joints(result, i) for i in range(2)]
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
    np.testing.assert_allclose(world, world_joints(result, 0), atol=2e-3)  # a step is 20 m / 32767


def test_the_same_result_gives_the_same_file(make_result, tmp_path):
    for name in ("a", "b"):
        export(make_result(), tmp_path / name, formats=("viewer",), has_overlay=False)
    assert (tmp_path / "a" / "viewer.html").read_bytes() == (tmp_path / "b" / "viewer.html").read_bytes()


def test_ten_minutes_of_five_people_stay_under_20_mb(make_result):
    result = make_result(1)
    (person,) = json.loads(page(result).split('id="contents">')[1].split("</script>")[0])["people"]
    per_frame = sum(len(person[field]) for field in ("joints", "root", "scores", "flags")) / person["count"]
    assert per_frame * 5 * 10 * 60 * 30 < 20e6


# The curves.


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
    world, valid = world_joints(result, 1), result.tracks[1].valid

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
    height = world_joints(result, 0)[70, H36M17.index("head"), 1]
    shown = float(tab.locator(".pm-legend").inner_text().split()[0])
    assert shown == pytest.approx(height, abs=2e-3)


# What a person sees and does.


def test_the_picture_moves_while_it_plays_and_rests_when_paused(make_result, visit):
    tab = visit(page(make_result()))
    before = stage(tab)
    tab.get_by_label("Play (space)").click()
    tab.wait_for_function("() => viewer.drawn > 10")
    tab.get_by_label("Pause (space)").click()
    after = stage(tab)
    assert (before != after).any()
    np.testing.assert_array_equal(stage(tab), after)


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
    tab.mouse.wheel(0, 400)
    zoomed = stage(tab)
    tab.mouse.dblclick(x, box["y"] + 60)
    tab.mouse.move(0, 0)
    assert (turned != before).any()
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
    amount = {}
    for name, frame in (("observed", 28), ("filled", 32), ("gap", 50), ("before", 10)):
        go_to(tab, frame)
        amount[name] = vividness(stage(tab))
    assert amount["filled"] < 0.7 * amount["observed"]
    assert amount["gap"] == amount["before"] == 0


def test_trails_and_views_change_the_picture(make_result, visit):
    tab = visit(page(make_result(1)))
    go_to(tab, 60)
    pictures = [stage(tab)]
    tab.get_by_label("Joint trails").select_option("hands and feet")
    pictures.append(stage(tab))
    for name in ("Front", "Side", "Top"):
        tab.get_by_role("button", name=f"View from the {name.lower()}").click()
        pictures.append(stage(tab))
    tab.get_by_label("Follow").check()
    pictures.append(stage(tab))
    assert all((a != b).any() for i, a in enumerate(pictures) for b in pictures[:i])


def test_people_belong_to_their_shot(make_result, visit):
    result = make_result(2)
    first, second = result.tracks
    early = Track(0, first.frames[:20], *(a[:20] for a in (first.keypoints, first.scores, first.observed, first.valid)))
    pose = result.poses[0]
    poses = [Pose3D(0, early.frames, pose.joints[:20], pose.scores[:20], "m", pose.root[:20]), result.poses[1]]
    (shot,) = result.shots
    shots = (replace(shot, stop=20), replace(shot, start=20, moves=True))
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


# Strangers.

HOSTILE = (
    "</script><script>window.hacked = 1<\\script>.mp4", "<img src=x onerror=window.hacked=1>.mp4",
    "${x} $policy $$.mp4", "'\"><svg onload=window.hacked=1>.mp4", "a\nb\u202egpj.\u2028mp4", "<!-- <script> .mp4",
    "\udcff\udc80.mp4",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text(make_result, visit, tmp_path, name):
    result = make_result(1)
    name = name.replace("/", "\u2215")  # the one character that no file name has
    tab = visit(page(replace(result, video=replace(result.video, path=Path(name)))))
    assert tab.locator("h1").evaluate("(e) => e.textContent") == name
    assert tab.evaluate("[window.hacked, document.querySelectorAll('img, svg, script').length]") == [None, 2]


def test_a_name_that_closes_the_script_stays_inside(make_result, visit):
    result = make_result(1)
    lifter = {**PROVENANCE["lifter"], "name": "</script><script>window.hacked = 1</script>"}
    tab = visit(page(replace(result, provenance={**PROVENANCE, "lifter": lifter})))
    assert tab.evaluate("viewer.data.provenance.lifter.name") == lifter["name"]
    assert tab.evaluate("window.hacked") is None


def test_the_policy_lets_nothing_out_and_no_code_in(make_result, visit):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        tab = visit(page(make_result()), may_request=(url,), may_complain=True)
        code = """async (url) => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", `<img src="${url}" onerror="window.hacked = 1">`);
            await new Promise((done) => document.querySelector("img").addEventListener("error", done));
            const asked = await fetch(url).then(() => "answered", () => "refused");
            return [asked, window.hacked];
        }"""
        assert tab.evaluate(code, url) == ["refused", None]
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


# With a video.


@pytest.fixture
def numbered_video(make_result, tmp_path):
    """A video of variable rate that belongs to ``make_result``: its frames are gray, 2 levels brighter each."""
    result = make_result(times=UNSTEADY[:100])
    path = tmp_path / "numbered.mp4"
    info = replace(result.video, path=path, width=64, height=64)
    write_video(path, (np.full((64, 64, 3), 20 + 2 * i, np.uint8) for i in range(100)), info)
    return result, path


SHOWS = """(frame) => {
    const video = document.querySelector("video"), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [8, 8];
    canvas.getContext("2d").drawImage(video, 0, 0, 8, 8);
    return Math.abs((canvas.getContext("2d").getImageData(4, 4, 1, 1).data[1] - 20) / 2 - frame) < 0.7;
}"""
SETTLED = "() => !document.querySelector('video').seeking && document.querySelector('video').readyState >= 2"


def test_a_video_beside_it_moves_in_step(numbered_video, visit):
    result, path = numbered_video
    tab = visit(page(result))
    tab.locator("input[type=file]").set_input_files(path)
    tab.wait_for_function(SETTLED)
    for frame in (0, 1, 2, 3, 4, 50, 97, 98, 99):  # frames of all three lengths
        go_to(tab, frame)
        tab.wait_for_function(SHOWS, arg=frame)
    for frame in (7, 31, 64):  # the browser shows this frame or the one before; the viewer the same
        tab.evaluate("(time) => { document.querySelector('video').currentTime = time }", UNSTEADY[frame] + 0.01)
        near = f"[{frame - 1}, {frame}].includes(viewer.drawn)"
        tab.wait_for_function(f"() => {near} && ({SHOWS})(viewer.drawn)")
    tab.evaluate("document.querySelector('video').play()")
    tab.wait_for_function("() => viewer.drawn > 75 && viewer.clock.playing")
    tab.keyboard.press("Space")
    tab.wait_for_function("() => document.querySelector('video').paused")
    tab.get_by_label("Speed").select_option("0.5")
    assert tab.evaluate("document.querySelector('video').playbackRate") == 0.5


def test_a_page_around_it_drives_it_and_is_driven(numbered_video, visit):
    result, path = numbered_video
    video = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
    document = f"data:text/html;base64,{base64.b64encode(page(result).encode()).decode()}"
    around = f"""<!doctype html><body class="dark"><div id="overlay"><video src="{video}" muted></video></div>
        <div style="width: 800px; height: 600px">{embedded()}</div><a href="{document}">viewer.html</a>
        <script>{host_script()} linkViewer("iframe.posemamba-viewer", "#overlay video");
        fillViewer("iframe.posemamba-viewer", "a");</script>"""
    tab = visit(around, scheme="light")
    inside = tab.frame_locator("iframe")
    readout = inside.locator(".pm-readout")
    tab.wait_for_function(SETTLED)
    tab.evaluate("(time) => { document.querySelector('video').currentTime = time }", UNSTEADY[40] + 0.005)
    readout.get_by_text(re.compile("frame (39|40) / 99")).wait_for()  # as above
    for _ in range(3):
        frame = int(readout.inner_text().split()[-3])
        inside.get_by_label("One frame on (right arrow)").click()
        tab.wait_for_function(SHOWS, arg=frame + 1)
        readout.get_by_text(f"frame {frame + 1} / 99").wait_for()
    inside.get_by_label("Play (space)").click()
    tab.wait_for_function("() => !document.querySelector('video').paused")
    tab.wait_for_function("() => document.querySelector('video').ended")
    readout.get_by_text("frame 99 / 99").wait_for()
    inside.get_by_label("Speed").select_option("2")
    tab.wait_for_function("() => document.querySelector('video').playbackRate === 2")
    assert inside.locator("html").get_attribute("data-theme") == "dark"  # of the page around, not of the system
    tab.evaluate("document.body.classList.remove('dark')")
    inside.locator("html[data-theme=light]").wait_for(state="attached")


def test_the_page_is_part_of_the_package(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert '"app.viewer"' in text.partition("packages = [")[2].partition("]")[0]
    suffixes = {file.suffix for file in (root / "app" / "viewer").iterdir() if file.is_file()} - {".py"}
    line = '"app.viewer" = [' + ", ".join(f'"*{suffix}"' for suffix in sorted(suffixes)) + "]"
    assert line in text


def test_the_writer_is_one_of_the_formats(make_result, tmp_path):
    WRITERS["viewer"].write(make_result(), tmp_path / "viewer.html", up="z")
    assert (tmp_path / "viewer.html").read_text(encoding="ascii") == page(make_result())
