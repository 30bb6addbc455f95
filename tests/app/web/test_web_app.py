"""The web app as programs and as people in a browser use it; one server for all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from http.cookiejar import CookieJar
from pathlib import Path

import jsonschema
import psutil
import pytest

from app.bench.web import megabytes
from app.export.json import SCHEMA_FILE
from app.options import FORMATS, Options
from app.web.option_controls import options_of, web_settings
from app.web.server_process import running_server, serve
from detectors import QUALITIES
from tests.bad_media import NAMES, clip, contents

gradio_client = pytest.importorskip("gradio_client", reason="the ui extra is not installed")
pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
pytestmark = pytest.mark.process
AUTH = ("anna", "secret")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT_MS = 200_000  # a clip on two busy cores; nothing is measured
MULTIPART = (
    '--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    "Content-Type: video/mp4\r\n\r\n{content}\r\n--edge--\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that wants a password and takes at most 1 MB."""
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder, "--auth", ":".join(AUTH), "--max-megabytes", "1") as running:
        yield running
    faults = [text for text in running.log.read_text().split("Traceback")[1:] if "gradio.exceptions.Error" not in text]
    assert faults == []  # what Gradio itself refuses it also logs
    assert list(folder.glob("posemamba*")) == []  # neither uploads nor results outlive the server


@pytest.fixture(scope="module")
def visitor(server) -> urllib.request.OpenerDirector:
    """Opens addresses of the server as somebody who knows the password."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    form = urllib.parse.urlencode(dict(zip(("username", "password"), AUTH, strict=True)))
    opener.open(f"{server.address}/login", form.encode(), timeout=20)
    return opener


def estimate(server, path: Path, **settings) -> tuple[dict, list[Path]]:
    client = gradio_client.Client(server.address, verbose=False, auth=AUTH)
    summary, files = client.predict(path=gradio_client.handle_file(path), api_name="/estimate", **settings)
    return summary, [Path(file) for file in files]


def test_the_program_in_the_documentation_works(server, root, brief_clips, tmp_path, monkeypatch):
    pages = "".join(path.read_text(encoding="utf-8") for path in (root / "README.md", *(root / "docs").glob("*.md")))
    (program,) = re.findall(r"```python\n(from gradio_client.+?)```", pages, re.DOTALL)
    (tmp_path / "clip.mp4").symlink_to(brief_clips[0])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program.replace('"http://127.0.0.1:7860"', f"{server.address!r}, auth={AUTH}"), names)
    assert (names["summary"]["status"], names["summary"]["people"], names["summary"]["frames"]) == ("done", 1, 5)
    pose = json.loads(Path(names["files"][0]).read_text())
    assert pose["provenance"]["options"]["smooth_hz"] == 6
    assert pose["models"]["summary"].startswith("quality balanced: ")
    suffixes = {Path(file).suffix for file in names["files"]}
    assert suffixes >= {".json", ".npz", ".csv", ".glb", ".html", ".mp4", ".zip"}


def test_what_can_be_chosen_are_options_with_their_defaults(server):
    client = gradio_client.Client(server.address, verbose=False, auth=AUTH)
    about = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/estimate"]
    arguments = {a["parameter_name"]: a["parameter_default"] for a in about["parameters"]}
    arguments.pop("path")
    assert arguments.keys() == web_settings().keys()
    assert options_of(arguments) == replace(Options(), formats=options_of(arguments).formats)
    assert set(options_of(arguments).formats) == set(FORMATS)
    other = {
        "quality": "fast", "detector": "mediapipe", "lifter": "mdtf-tiny", "people": "largest", "smooth_hz": 6,
        "height": "0=1.5", "fov_degrees": 70, "has_rigid_bones": True, "formats": ["csv"], "detection_interval": 2,
        "max_gap_s": 1, "min_track_s": 0, "up": "z", "is_upright": False, "unit": "cm", "lock_feet": True,
    }  # fmt: skip
    assert other.keys() == arguments.keys()
    chosen = asdict(options_of(other))
    assert {name: chosen[name] for name in other} == {**other, "formats": ("json", "viewer", "csv")}
    models = client.predict(api_name="/models")
    assert models["lifters"]["posemamba-s"] == "usable"
    assert models["lifters"]["posemamba-l-h36m"] in ("usable", "no weights here")
    assert "mdtf-bones-h36m" not in models["lifters"]  # half a network
    assert models["detectors"]["mediapipe"].startswith("usable")
    assert set(models["qualities"]) == set(QUALITIES)


def test_wrong_choices_and_large_files_get_a_sentence(server, brief_clips, tmp_path):
    (tmp_path / "large.mp4").write_bytes(os.urandom(1_100_000))
    for path, settings, sentence in (
        (brief_clips[0], {"people": "tallest"}, "people must be all, largest, longest or ids"),
        (brief_clips[0], {"lifter": "/etc/passwd"}, "/etc/passwd"),
        (brief_clips[0], {"quality": "ultra"}, "ultra"),
        (brief_clips[0], {"height": "2.9"}, "height must lie between 0.4 and 2.8 meters, got 2.9"),
        (tmp_path / "large.mp4", {}, "size|large|1 MB"),
    ):
        with pytest.raises((gradio_client.exceptions.AppError, ValueError), match=sentence):
            estimate(server, path, **settings)


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_people_at_the_same_time_get_their_own_results_and_memory_is_returned(server, brief_clips, count):
    before = 0
    for path in brief_clips[:3] * 2 if count > 3 else []:  # the allocator needs some jobs to reach its level
        estimate(server, path, formats=[])
        before = max(before, megabytes(server.pid))
    wanted = [brief_clips[number % 3] for number in range(count)]
    with ThreadPoolExecutor(count) as people:
        answers = list(people.map(lambda path: estimate(server, path, formats=[]), wanted))
    poses = [files[0].read_bytes() for _, files in answers]
    for path, (summary, files), pose in zip(wanted, answers, poses, strict=True):
        video = json.loads(pose)["video"]
        assert (video["name"], video["sha256"]) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        assert summary["frames"] == video["num_frames"] == 5
        assert {file.name for file in files} == {"pose.json", "viewer.html", "overlay.mp4", f"{path.stem}.zip"}
    assert len(set(poses)) == 3  # the same clip gives the same bytes, and another clip others
    assert not before or megabytes(server.pid) < before + 50  # before memory was given back it grew by 3 a job


@pytest.mark.parametrize(
    "names", [["text.mp4", "one_pixel.mkv"], pytest.param(list(contents()), marks=pytest.mark.slow)], ids=len
)
def test_bad_uploads_end_in_a_sentence_and_names_can_be_anything(server, tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(contents()[name])
        with pytest.raises(gradio_client.exceptions.AppError) as caught:
            estimate(server, tmp_path / name)
        assert Path(name).stem.partition("%")[0] in str(caught.value)
        assert not any(part in str(caught.value) for part in ("\n", "Traceback", str(server.log.parent)))
    (tmp_path / NAMES[0]).write_bytes(clip())
    assert estimate(server, tmp_path / NAMES[0], formats=[])[0]["frames"] == 12


def test_names_of_uploads_lead_nowhere(server, visitor):
    folder = server.log.parent
    before = {path for path in folder.iterdir() if not path.name.startswith("posemamba")}
    for name in ("../../../escaped.mp4", "/etc/escaped.mp4", "..\\\\..\\\\escaped.mp4", "%2e%2e%2fescaped.mp4"):
        request = urllib.request.Request(
            f"{server.address}/gradio_api/upload",
            MULTIPART.format(name=name, content="x").encode(),
            {"Content-Type": "multipart/form-data; boundary=edge"},
        )
        (place,) = json.loads(visitor.open(request, timeout=20).read())
        assert Path(place).resolve().is_relative_to(folder.resolve())
    assert {path for path in folder.iterdir() if not path.name.startswith("posemamba")} == before
    assert not Path("/etc/escaped.mp4").exists()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "{root}/README.md",
     "{root}/app/web/page.py", "{root}/assets/../README.md", "file:///etc/passwd", "{link}"],
)  # fmt: skip
def test_nothing_else_on_the_disk_is_served(server, visitor, root, tmp_path, path):
    link = tmp_path / "link.mp4"
    link.symlink_to("/etc/passwd")
    url = f"{server.address}/gradio_api/file=" + path.format(root=root, link=link)
    with pytest.raises(urllib.error.HTTPError) as caught:
        visitor.open(url, timeout=20)
    assert caught.value.code in (400, 403, 404)


def test_visitors_without_the_password_see_nothing(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.address}/config", timeout=20)
    assert caught.value.code == 401
    with pytest.raises(ValueError, match="auth must be NAME:PASSWORD"):
        serve(None, "127.0.0.1", None, "anna", False)


@pytest.mark.slow
def test_the_benchmark_measures_a_server_of_its_own(root, brief_clips, tmp_path):
    (tmp_path / "notes.mp4").write_text("this is no video")
    command = [sys.executable, "-m", "app", "bench", "web", brief_clips[0], "--people", "2", "--uploads", tmp_path]
    table = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for row in ("command to first whole page", "page while it ran", "2 people at once", "notes.mp4"):
        assert row in table


# In a browser.


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
def open_page(browser, server):
    """A function that opens the page in a session of its own; errors and requests to elsewhere fail the test."""
    errors, elsewhere, contexts = [], [], []
    local = (server.address, "data:", "blob:", "about:")

    def open_page(width: int = 1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        form = dict(zip(("username", "password"), AUTH, strict=True))
        contexts[-1].request.post(f"{server.address}/login", form=form)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(local) else elsewhere.append(request.url))
        page.goto(server.address)
        page.wait_for_selector("#start")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert elsewhere == []


def start_sample(page) -> None:
    page.click("#sample")
    page.wait_for_function("document.querySelector('video')?.readyState >= 2", timeout=WAIT_MS)
    page.click("#start")


def cancel(page) -> None:
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for(timeout=WAIT_MS)
    page.wait_for_selector("#cancel", state="detached", timeout=WAIT_MS)


@pytest.mark.browser
def test_a_visitor_sees_a_clip_become_3d_and_downloads_the_numbers(open_page, brief_clips, tmp_path):
    page = open_page()
    page.set_input_files("input[type=file] >> nth=0", brief_clips[3])
    page.wait_for_function("document.querySelector('video')?.readyState >= 2", timeout=WAIT_MS)
    page.click("#start")
    page.wait_for_selector("#status progress", timeout=WAIT_MS)
    page.wait_for_selector("#overlay video", timeout=WAIT_MS)
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2", timeout=WAIT_MS)
    viewer = page.frame_locator("#viewer iframe")
    viewer.get_by_text("frame 0 / 79").wait_for(timeout=WAIT_MS)
    page.evaluate("document.querySelector('#overlay video').currentTime = 2")
    viewer.get_by_text(re.compile(r"frame (59|60|61) / 79")).wait_for(timeout=WAIT_MS)  # the viewer follows the video
    assert "person 0" in page.inner_text("#report")
    assert "quality balanced: " in page.inner_text("#report")
    with page.expect_download() as download:
        page.locator("#downloads a").first.click()
    download.value.save_as(tmp_path / "pose.json")
    pose = json.loads((tmp_path / "pose.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(pose)
    assert len(pose["people"][0]["frames"]) == 80


@pytest.mark.browser
def test_a_file_that_is_no_video_gets_a_sentence(open_page, tmp_path):
    page = open_page()
    (tmp_path / "notes.mp4").write_text("this is no video")
    page.set_input_files("input[type=file] >> nth=0", tmp_path / "notes.mp4")
    page.wait_for_function("document.querySelector('video') !== null", timeout=WAIT_MS)
    page.click("#start")
    notice = page.wait_for_selector("#status [role=alert]", timeout=WAIT_MS)
    assert "expected MP4" in notice.inner_text()
    assert page.is_enabled("#start")


@pytest.mark.browser
def test_the_second_visitor_waits_and_cancelled_work_stops(open_page):
    first, second = open_page(), open_page()
    start_sample(first)
    first.get_by_text("frame ", exact=False).first.wait_for(timeout=WAIT_MS)
    start_sample(second)
    second.get_by_text("Waiting in the queue").wait_for(timeout=WAIT_MS)
    cancel(first)
    second.get_by_text("Finding people, frame by frame").wait_for(timeout=WAIT_MS)
    second.close()  # closing the page cancels its job
    first.click("#start")
    first.get_by_text("Finding people, frame by frame").wait_for(timeout=WAIT_MS)
    cancel(first)


@pytest.mark.slow
@pytest.mark.browser
def test_a_killed_worker_costs_one_job(open_page, server):
    page = open_page()
    start_sample(page)
    page.get_by_text("frame ", exact=False).first.wait_for(timeout=WAIT_MS)
    started = psutil.Process(server.pid).children(recursive=True)
    (worker,) = [process for process in started if "app.web.worker_process" in " ".join(process.cmdline())]
    worker.kill()
    notice = page.wait_for_selector("#status [role=alert]", timeout=WAIT_MS)
    assert "was not finished: the process that analyzed it ended" in notice.inner_text()
    page.click("#start")
    page.get_by_text("Finding people, frame by frame").wait_for(timeout=WAIT_MS)
    cancel(page)


@pytest.mark.browser
def test_a_phone_needs_no_sideways_scrolling(open_page):
    assert open_page(width=375).evaluate("document.documentElement.scrollWidth") <= 375
