"""The page of the web app in a browser, as people use it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import jsonschema
import psutil
import pytest

from app.export.json import SCHEMA_FILE
from tests.web import serving

pytest.importorskip("gradio", reason="the ui extra is not installed")
pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT_MS = 200_000  # a clip on two busy cores; nothing is measured


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    with serving(root, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with (
        playwright.sync_playwright() as tool,
        tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as window,
    ):
        yield window


@pytest.fixture
def page(browser, server):
    """A new page whose errors and requests to elsewhere fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors, elsewhere = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    local = (server.address, "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else elsewhere.append(request.url))
    page.goto(server.address)
    page.wait_for_selector("#start")
    yield page
    context.close()
    assert errors == []
    assert elsewhere == []


def text_of(page, selector: str) -> str:
    return page.inner_text(selector).strip()


def test_a_visitor_sees_the_sample_clip_become_3d_and_takes_the_numbers_home(page, root, tmp_path):
    page.click("#sample")
    page.wait_for_function("document.querySelector('video')?.readyState >= 2", timeout=WAIT_MS)
    page.click("#start")
    page.wait_for_selector("#news progress", timeout=WAIT_MS)
    page.wait_for_selector("#overlay video", timeout=WAIT_MS)
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2", timeout=WAIT_MS)

    viewer = page.frame_locator("#viewer iframe")
    viewer.get_by_text("frame 0 / 256").wait_for(timeout=WAIT_MS)
    page.evaluate("document.querySelector('#overlay video').currentTime = 3")
    viewer.get_by_text(re.compile(r"frame (89|90|91) / 256")).wait_for(timeout=WAIT_MS)  # the viewer follows the video

    assert "person 0" in text_of(page, "#report")
    assert "quality balanced: " in text_of(page, "#report")
    with page.expect_download() as download:
        page.locator("#downloads a").first.click()
    download.value.save_as(tmp_path / "pose.json")
    pose = json.loads((tmp_path / "pose.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(pose)
    subprocess.run(
        [sys.executable, "-m", "app", "run", "assets/walk_wave.mp4", "-o", tmp_path, "--formats", "json"],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    from_cli = json.loads((tmp_path / "walk_wave" / "pose.json").read_text())
    assert pose["people"] == from_cli["people"]


def test_a_file_that_is_no_video_gets_a_sentence(page, tmp_path):
    (tmp_path / "notes.mp4").write_text("this is no video")
    page.set_input_files("input[type=file] >> nth=0", tmp_path / "notes.mp4")
    page.wait_for_function("document.querySelector('video') !== null", timeout=WAIT_MS)
    page.click("#start")
    notice = page.wait_for_selector("#news [role=alert]", timeout=WAIT_MS)
    assert "expected MP4" in notice.inner_text()
    assert page.is_enabled("#start")


def test_cancel_stops_the_work_and_the_next_job_runs(page):
    page.click("#sample")
    page.wait_for_function("document.querySelector('video')?.readyState >= 2", timeout=WAIT_MS)
    for _ in range(2):
        page.click("#start")
        page.wait_for_selector("#cancel, #news [role=alert]", timeout=WAIT_MS)
        assert page.locator("#news [role=alert]").all_inner_texts() == []
        page.click("#cancel")
        page.get_by_text("Cancelled.").wait_for(timeout=WAIT_MS)
        page.wait_for_selector("#cancel", state="detached", timeout=WAIT_MS)


def test_who_waits_sees_a_place_in_the_queue_and_a_killed_worker_costs_one_job(page, browser, server):
    def press_start(visitor):
        visitor.click("#sample")
        visitor.wait_for_function("document.querySelector('video')?.readyState >= 2", timeout=WAIT_MS)
        visitor.click("#start")

    press_start(page)
    page.get_by_text("frame ", exact=False).first.wait_for(timeout=WAIT_MS)
    second = browser.new_page()
    second.goto(server.address)
    press_start(second)
    second.get_by_text("Waiting in the queue").wait_for(timeout=WAIT_MS)
    started = psutil.Process(server.pid).children(recursive=True)
    (worker,) = [process for process in started if "app.web.worker_process" in " ".join(process.cmdline())]
    worker.kill()
    notice = page.wait_for_selector("#news [role=alert]", timeout=WAIT_MS)
    assert "was not finished: the process that analyzed it ended" in notice.inner_text()
    assert page.is_enabled("#start")
    second.get_by_text("Finding people, frame by frame").wait_for(timeout=WAIT_MS)
    second.close()  # nobody waits any more: the work stops
    press_start(page)
    page.get_by_text("Finding people, frame by frame").wait_for(timeout=WAIT_MS)
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for(timeout=WAIT_MS)


def test_a_phone_needs_no_sideways_scrolling(browser, server):
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.goto(server.address)
    page.wait_for_selector("#start")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()
