"""The web app as a process, driven by a browser and by ``gradio_client``, as people and programs use it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest

from app.export.json import SCHEMA_FILE

pytest.importorskip("gradio", reason="the ui extra is not installed")
pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT_MS = 200_000  # a clip on two busy cores; nothing is measured


@contextmanager
def serving(root, folder, *arguments):
    """``app.py`` on a free port; its temporary files are in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *arguments], cwd=root,
        env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert "Traceback" not in said, said
    assert list(Path(folder).glob("posemamba*")) == []  # neither uploads nor results outlive the server


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    with serving(root, tmp_path_factory.mktemp("server")) as address:
        yield address


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
    local = (server, "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else elsewhere.append(request.url))
    page.goto(server)
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


def test_a_phone_needs_no_sideways_scrolling(browser, server):
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.goto(server)
    page.wait_for_selector("#start")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_a_program_gets_summary_and_files(server, root):
    from gradio_client import Client, handle_file

    client = Client(server, verbose=False)
    summary, files = client.predict(
        path=handle_file(root / "assets" / "empty_room.mp4"), smooth_hz=6, api_name="/estimate"
    )
    assert (summary["status"], summary["people"], summary["frames"]) == ("done", 0, 60)
    pose = json.loads(Path(files[0]).read_text())
    assert pose["people"] == []
    assert pose["provenance"]["options"]["smooth_hz"] == 6
    assert {Path(file).suffix for file in files} >= {".json", ".npz", ".csv", ".glb", ".html", ".mp4", ".zip"}
    assert client.predict(api_name="/models")["lifters"]["posemamba-s"] == "usable"


def test_a_program_gets_the_same_sentences(server, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    (tmp_path / "notes.mp4").write_text("this is no video")
    with pytest.raises(AppError, match="expected MP4"):
        Client(server, verbose=False).predict(path=handle_file(tmp_path / "notes.mp4"), api_name="/estimate")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "{root}/README.md",
     "{root}/app/ui.py", "{root}/assets/../README.md", "file:///etc/passwd", "{link}"],
)  # fmt: skip
def test_nothing_else_on_the_disk_is_served(server, root, tmp_path, path):
    link = tmp_path / "link.mp4"
    link.symlink_to("/etc/passwd")
    url = f"{server}/gradio_api/file=" + path.format(root=root, link=link)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(url, timeout=20)
    assert refusal.value.code in (400, 403, 404)


def test_visitors_without_the_password_see_nothing(root, tmp_path):
    with serving(root, tmp_path, "--auth", "anna:secret") as address:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{address}/config", timeout=20)
        assert refusal.value.code == 401
