"""viewer.html among strangers and beside videos: nothing gets in or out, and both move in step."""

from __future__ import annotations

import base64
import re
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.export import WRITERS
from app.video.writer import write_video
from app.viewer import embedded, host_script, page
from tests.app.viewer.viewing import UNSTEADY, go_to
from tests.people import PROVENANCE, with_options

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
    name = "</script><script>window.hacked = 1</script>"
    tab = visit(page(replace(result, provenance={**PROVENANCE, "lifter": {"name": name}})))
    assert tab.evaluate("viewer.data.provenance.lifter.name") == name
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


def test_the_overlay_beside_it_is_picked_up(numbered_video, visit, tmp_path):
    result, path = numbered_video
    (tmp_path / "overlay.mp4").write_bytes(path.read_bytes())
    tab = visit(page(with_options(result, has_overlay=True)), may_request=((tmp_path / "overlay.mp4").as_uri(),))
    tab.locator("video").wait_for(state="visible")
    go_to(tab, 50)
    moved = "(time) => Math.abs(document.querySelector('video').currentTime - time) < 0.03"
    tab.wait_for_function(moved, arg=float(UNSTEADY[50]))


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
    WRITERS["viewer"].write(make_result(up="z"), tmp_path / "viewer.html")
    assert (tmp_path / "viewer.html").read_text(encoding="ascii") == page(make_result())
