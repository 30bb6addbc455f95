"""The page as people in a browser use it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import jsonschema
import psutil
import pytest

from app.export.json import SCHEMA_FILE
from tests.app.web.test_jobs_api import traces_of
from tests.bad_media import clip

pytestmark = [pytest.mark.process, pytest.mark.browser]
HOSTILE = "<img src=x onerror=window.hacked=1>&amp;'\".mp4"
CONTRASTS = """() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(color)) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const low = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [getComputedStyle(element).color, behind(element)].map(light).sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
    }
    return low;
}"""


def start(page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.click("#start")


def job_of(page) -> str:
    page.wait_for_url("**/?job=*")
    return page.url.partition("?job=")[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page_says_what_comes_and_can_be_read_by_everybody(open_page, scheme):
    page = open_page(scheme=scheme)
    assert page.title() == "posemamba: video to 3D human motion"
    assert page.locator("meta[property='og:image']").get_attribute("content").startswith("http")
    limits = page.inner_text("#limits")
    for part in ("Up to 5 min, 1 MB and 240 pictures", "deleted with its results after 60 min"):
        assert part in limits
    page.click("summary >> nth=1")
    assert page.get_by_label("Smoothing").locator("option").all_inner_texts()[0] == "off"
    assert page.get_by_label("2D detector").is_visible()
    page.wait_for_function("[...document.querySelectorAll('.example img')].every((image) => image.naturalWidth > 100)")
    assert page.evaluate(CONTRASTS) == []


def test_a_phone_needs_no_sideways_scrolling(open_page):
    page = open_page(width=375)
    page.click("summary >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_visitor_sees_a_clip_become_3d_reloads_and_takes_the_numbers_home(
    open_page, browser, server, brief_clips, tmp_path
):
    clip_path = tmp_path / HOSTILE
    shutil.copy(brief_clips[3], clip_path)
    page = open_page()
    page.set_input_files("#file", clip_path)
    page.wait_for_function("document.querySelector('#preview').readyState >= 2")
    page.click("#start")
    job = job_of(page)
    page.wait_for_function("/^[1-9][0-9]? % <img/.test(document.title)")
    page.wait_for_selector("text=/about .* left/")
    before = page.evaluate("document.querySelector('#bar').value")
    page.reload()
    other = open_page(f"?job={job}")  # somebody else with the address
    for tab in (page, other):
        tab.wait_for_function("(before) => document.querySelector('#bar').value >= before", arg=before)
    page.wait_for_selector("#results:not([hidden])")
    other.wait_for_selector("#results:not([hidden])")
    assert page.title().startswith("Done: <img")
    assert page.is_hidden("#input")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#results img[src=x]").count() == 0
    assert "1 person" in page.inner_text("#summary")
    assert page.evaluate(CONTRASTS) == []

    viewer = page.frame_locator("#viewer iframe")
    viewer.get_by_text("frame 0 / 79").wait_for()
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    shape = page.locator("#overlay").bounding_box()
    assert shape["width"] / shape["height"] == pytest.approx(4 / 3, rel=0.02)  # the picture without the 3D panel
    page.evaluate("document.querySelector('#overlay video').currentTime = 2")
    viewer.get_by_text(re.compile(r"frame (59|60|61) / 79")).wait_for()  # the viewer follows the video
    assert page.inner_text("#downloads a >> nth=0") == "Download all (ZIP)"
    assert "Blender" in page.inner_text("#files")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile(r"(?<!coco)(?<!movement)\.json$")).click()
    download.value.save_as(tmp_path / "pose.json")
    pose = json.loads((tmp_path / "pose.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(pose)
    assert len(pose["people"][0]["frames"]) == 80

    assert traces_of(clip_path, server) == []  # one person: the video is needed no more
    page.click("#delete")
    page.get_by_text("Deleted. The video and everything made of it are gone.").wait_for()
    assert not any(path.name == job for path in server.log.parent.rglob("*"))
    other.reload()
    other.get_by_text("There is no such job any more").wait_for()


def test_files_that_the_browser_cannot_show_are_analyzed_and_a_job_ends_by_its_button_only(
    open_page, server, root, tmp_path
):
    path = tmp_path / "camera.MTS"
    path.write_bytes((root / "assets" / "walk_wave.mp4").read_bytes())
    strange = tmp_path / "strange"
    strange.write_bytes(clip("mpegts", "mpeg4", size=(320, 240)))
    page = open_page()
    page.set_input_files("#file", strange)
    page.get_by_text("Your browser cannot show this video. It will be analyzed all the same.").wait_for()
    start(page, path)
    job = job_of(page)
    page.get_by_text("Finding people, frame by frame").wait_for()
    second = open_page()
    start(second, path)
    second.get_by_text("Waiting in the queue").wait_for()
    waiting = job_of(second)
    page.goto("about:blank")
    second.close()  # neither ends a job
    page.goto(f"{server.address}/?job={job}")
    page.get_by_text("Finding people, frame by frame").wait_for()
    page.click("#cancel")
    page.get_by_text("Cancelled. The video and everything made of it are gone.").wait_for()
    third = open_page(f"?job={waiting}")
    third.get_by_text("Finding people, frame by frame").wait_for()
    third.click("#cancel")
    third.get_by_text("Cancelled. The video and everything made of it are gone.").wait_for()
    assert traces_of(path, server) == []


def test_a_file_that_is_no_video_gets_a_sentence(open_page, server, tmp_path):
    page = open_page()
    (tmp_path / "letter.mp4").write_text("this is no video, but it is a secret")
    start(page, tmp_path / "letter.mp4")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#notice").startswith("letter.mp4 is in no container that is known here, expected MP4")
    assert page.is_enabled("#start")
    assert traces_of(tmp_path / "letter.mp4", server) == []


def test_nobody_is_said_on_top_with_advice_that_works(open_page, root):
    page = open_page()
    start(page, root / "assets" / "empty_room.mp4")
    page.wait_for_selector("#results:not([hidden])")
    said = page.inner_text("#notice")
    assert said.startswith("Nobody was found in 60 frames of empty_room.mp4.")
    assert "posemamba fetch yolox-nano" in said  # no other detector is here
    assert page.locator("#downloads").is_hidden()
    assert page.locator("#viewer").is_hidden()


@pytest.fixture
def pair(root, tmp_path) -> Path:
    """The last second of the clip with two people."""
    path = tmp_path / "pair.mp4"
    with av.open(str(root / "assets" / "two_people.mp4")) as whole, av.open(str(path), "w") as part:
        stream = part.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 854, 480, "yuv420p"
        for number, frame in enumerate(itertools.islice(whole.decode(video=0), 150, 180)):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 30), 0
            part.mux(stream.encode(frame))
        part.mux(stream.encode(None))
    return path


def test_whom_to_keep_is_chosen_by_pictures(open_page, ask, pair, tmp_path):
    page = open_page()
    start(page, pair)
    page.get_by_text("2 people found; click whom to keep").wait_for()
    page.wait_for_function("[...document.querySelectorAll('.person img')].every((image) => image.naturalWidth === 192)")
    everybody = job_of(page)
    assert page.is_disabled("#keep")
    page.click(".person >> nth=1")
    page.click("#keep")
    page.wait_for_url(lambda url: everybody not in url)
    page.get_by_text("1 person kept").wait_for()
    viewer = page.frame_locator("#viewer iframe")
    viewer.get_by_text("frame 0 / 29").wait_for()
    assert viewer.get_by_text("Person 0").count() == 0
    with page.expect_download() as download:
        page.click("#zip")
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert [name for name in archive.namelist() if "person" in name] == [
            "pair/angles.person1.mot", "pair/pose.person1.bvh", "pair/pose.person1.trc",
        ]  # fmt: skip
        pose = json.loads(archive.read("pair/pose.json"))
    before = ask.get(f"/jobs/{everybody}/files/pair.json").json()
    assert pose["people"] == [before["people"][1]]  # all numbers are the same
    assert pose["quality"] == [before["quality"][1]]
    page.click("#everybody")
    page.get_by_text("2 people found; click whom to keep").wait_for()
    page.click("#delete")  # with it goes what was made of it
    page.get_by_text("Deleted.").wait_for()
    page.go_back()
    page.go_back()
    page.get_by_text("There is no such job any more").wait_for()


@pytest.mark.slow
def test_a_killed_worker_costs_one_job(open_page, server, root):
    page = open_page()
    start(page, root / "assets" / "walk_wave.mp4")
    page.get_by_text("frame ", exact=False).first.wait_for()
    started = psutil.Process(server.pid).children(recursive=True)
    (worker,) = [process for process in started if "app.web.worker_process" in " ".join(process.cmdline())]
    worker.kill()
    page.get_by_text("was not finished: the process that analyzed it ended").wait_for()
    start(page, root / "assets" / "walk_wave.mp4")
    page.get_by_text("Finding people, frame by frame").wait_for()
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for()


@pytest.mark.slow
def test_an_example_is_analyzed_once_for_everybody(open_page):
    first, second = open_page(), open_page()
    for page in (first, second):
        page.click(".example >> nth=0")
        page.get_by_text("walk_wave.mp4: 1 person").wait_for()
        assert page.locator("#delete").is_hidden()
    assert first.url == second.url
