"""The web app as Gradio's clients use it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.bench.web import megabytes
from app.options import FORMATS, Options
from app.web.option_controls import options_of, web_settings
from app.web.server_process import serve
from detectors import QUALITIES
from tests.app.web.conftest import AUTH
from tests.app.web.test_jobs_api import traces_of
from tests.bad_media import NAMES, clip, contents

gradio_client = pytest.importorskip("gradio_client", reason="the ui extra is not installed")
pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
pytestmark = pytest.mark.process
MULTIPART = (
    '--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    "Content-Type: video/mp4\r\n\r\n{content}\r\n--edge--\r\n"
)


def estimate(server, path: Path, **settings) -> tuple[dict, list[Path]]:
    client = gradio_client.Client(server.address, verbose=False, httpx_kwargs={"auth": AUTH})
    summary, files = client.predict(path=gradio_client.handle_file(path), api_name="/estimate", **settings)
    return summary, [Path(file) for file in files]


def test_the_program_in_the_documentation_works(server, root, brief_clips, tmp_path, monkeypatch):
    pages = "".join(path.read_text(encoding="utf-8") for path in (root / "README.md", *(root / "docs").glob("*.md")))
    (program,) = re.findall(r"```python\n(from gradio_client.+?)```", pages, re.DOTALL)
    (tmp_path / "clip.mp4").symlink_to(brief_clips[0])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program.replace('"http://127.0.0.1:7860"', f"{server.address!r}, httpx_kwargs={{'auth': {AUTH}}}"), names)
    assert (names["summary"]["status"], names["summary"]["people"], names["summary"]["frames"]) == ("done", 1, 5)
    pose = json.loads(Path(names["files"][0]).read_text())
    assert pose["provenance"]["options"]["smooth_hz"] == 6
    assert pose["models"]["summary"].startswith("quality balanced: ")
    suffixes = {Path(file).suffix for file in names["files"]}
    assert suffixes >= {".json", ".npz", ".csv", ".glb", ".html", ".mp4", ".zip"}


def test_what_can_be_chosen_are_options_with_their_defaults(server):
    client = gradio_client.Client(server.address, verbose=False, httpx_kwargs={"auth": AUTH})
    about = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/estimate"]
    arguments = {a["parameter_name"]: a["parameter_default"] for a in about["parameters"]}
    arguments.pop("path")
    assert arguments.keys() == web_settings().keys()
    assert options_of(arguments) == replace(Options(), formats=options_of(arguments).formats)
    assert set(options_of(arguments).formats) == set(FORMATS)
    other = {
        "quality": "fast", "detector": "mediapipe", "lifter": "mdtf-tiny", "people": "largest", "smooth_hz": 6,
        "height": "0=1.5", "fov_degrees": 70, "has_rigid_bones": True, "formats": ["csv"], "detection_interval": 2,
        "max_gap_s": 1, "min_track_s": 0, "up": "z", "is_upright": False, "rotate": 90,
        "start": "1", "stop": "0:02", "slow_motion": 2.5, "lock_feet": True, "unit": "cm",
        "overlay_style": "picture", "overlay_shape": "16:9", "has_angles": True, "preview": "gif",
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


def test_names_of_uploads_lead_nowhere_and_uploads_are_deleted_when_a_job_has_them(server, ask, tmp_path):
    folder = server.log.parent
    before = {path for path in folder.iterdir() if not path.name.startswith("posemamba")}
    for name in ("../../../escaped.mp4", "/etc/escaped.mp4", "..\\\\..\\\\escaped.mp4", "%2e%2e%2fescaped.mp4"):
        content = MULTIPART.format(name=name, content="x").encode()
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        (place,) = ask.post("/gradio_api/upload", content=content, headers=headers).json()
        assert Path(place).resolve().is_relative_to(folder.resolve())
        Path(place).unlink()
    assert {path for path in folder.iterdir() if not path.name.startswith("posemamba")} == before
    assert not Path("/etc/escaped.mp4").exists()
    path = tmp_path / "letter.mp4"
    path.write_text("this is no video, but it is a secret, too")
    with pytest.raises(gradio_client.exceptions.AppError, match=r"letter\.mp4 is in no container"):
        estimate(server, path)
    assert traces_of(path, server) == []


def test_only_uploads_are_analyzed(ask, root):
    for path in ("/etc/passwd", str(root / "assets" / "walk_wave.mp4")):  # of the server, as no client would send it
        given = {"path": {"path": path, "meta": {"_type": "gradio.FileData"}}}
        event = ask.post("/gradio_api/call/v2/estimate", json=given).json()["event_id"]
        answer = ask.get(f"/gradio_api/call/estimate/{event}").text
        assert answer.startswith("event: error")
        assert "it was not uploaded by a user" in answer


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "{root}/README.md",
     "{root}/app/web/routes.py", "{root}/assets/../README.md", "file:///etc/passwd", "{link}"],
)  # fmt: skip
def test_nothing_else_on_the_disk_is_served(ask, root, tmp_path, path):
    link = tmp_path / "link.mp4"
    link.symlink_to("/etc/passwd")
    answer = ask.get("/gradio_api/file=" + path.format(root=root, link=link))
    assert answer.status_code in (400, 403, 404)


def test_the_password_must_have_a_name():
    with pytest.raises(ValueError, match="auth must be NAME:PASSWORD"):
        serve(None, "127.0.0.1", None, "anna", False)


@pytest.mark.slow
def test_the_benchmark_measures_a_server_of_its_own(root, brief_clips, tmp_path):
    (tmp_path / "notes.mp4").write_text("this is no video")
    command = [sys.executable, "-m", "app", "bench", "web", brief_clips[0], "--people", "2", "--uploads", tmp_path]
    table = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for row in ("command to first whole page", "page while it ran", "2 people at once", "notes.mp4"):
        assert row in table
