"""``/jobs`` as programs use it: its life, its files, names that mean harm, limits and the schema."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import zipfile
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from app.web.option_controls import web_settings
from tests.app.web.conftest import AUTH
from tests.bad_media import clip

pytestmark = pytest.mark.process
HOSTILE = (
    "../../../escaped.mp4", "/etc/escaped.mp4", "..\\..\\escaped.mp4", "a'b\"c<svg onload=x>.mp4", "50%2f?#&.mp4",
    "out", "line\nbreak.mp4", ".hidden", "..",
)  # fmt: skip


def traces_of(path: Path, server) -> list[Path]:
    """Return the files below the server's temporary folder that hold the content of ``path``."""
    content = path.read_bytes()
    files = [file for file in server.log.parent.rglob("*") if file.is_file()]
    return [file for file in files if file.stat().st_size == len(content) and file.read_bytes() == content]


def finished(ask: httpx.Client, job: str) -> dict:
    deadline = time.monotonic() + 200
    while (seen := ask.get(f"/jobs/{job}").json())["status"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return seen


def test_the_lines_of_the_documentation_work(server, ask, root, brief_clips, tmp_path):
    (block,) = re.findall(r"```\n(curl -F video.+?)```", (root / "docs" / "deploy.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "clip.mp4").write_bytes(brief_clips[0].read_bytes())
    job, answers = "", []
    for line in block.splitlines():
        command = line.partition("  #")[0].replace("http://127.0.0.1:7860", server.address).replace("/ID", f"/{job}")
        if "/files/" in command:
            finished(ask, job)
        command = command.replace("curl ", f"curl --fail-with-body -sS -u {':'.join(AUTH)} ")
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
        answers.append(done.stdout)
        job = job or json.loads(done.stdout)["id"]
    assert json.loads(answers[1])["status"] in ("queued", "running", "done")
    assert (tmp_path / "clip.bvh").read_text().startswith("HIERARCHY")
    assert ask.get(f"/jobs/{job}").status_code == 404  # the last line deletes it
    assert not any(path.name == job for path in server.log.parent.rglob("*"))


def test_a_job_says_how_far_it_is_and_its_files_carry_the_name_of_the_clip(ask, brief_clips):
    with brief_clips[3].open("rb") as video:
        answer = ask.post("/jobs", files={"video": ("a walk.mp4", video)}, data={"smooth_hz": "6", "height": "1.8"})
    assert answer.status_code == 201
    job, stages, progress = answer.json()["id"], [], []
    while (seen := ask.get(f"/jobs/{job}").json())["status"] in ("queued", "running"):
        stages.append(seen["stage"])
        progress.append(seen["progress"])
    assert progress == sorted(progress)
    assert "Finding people, frame by frame" in stages
    assert len(set(progress)) > 10
    assert (seen["status"], seen["progress"], seen["frames"]) == ("done", 1.0, 80)
    assert seen["settings"] == ["Body height in meters: 1.8", "Smoothing: light"]
    assert 3590 < seen["expires_in_s"] <= 3600
    assert not any("--" in text for text in seen["warnings"])
    files = {each["name"]: each for each in seen["files"]}
    assert {"a walk.bvh", "a walk.glb", "a walk.trc", "a walk.csv", "a walk.json", "a walk.overlay.mp4",
            "a walk.viewer.html", "a walk.zip"} <= files.keys()  # fmt: skip
    for name, each in files.items():
        content = ask.get(each["url"])
        assert len(content.content) == each["bytes"]
        assert content.headers["content-disposition"].startswith("attachment")
        assert f"filename*=utf-8''{name.replace(' ', '%20')}" in content.headers["content-disposition"]
    with zipfile.ZipFile(BytesIO(ask.get(files["a walk.zip"]["url"]).content)) as archive:
        assert "a walk/pose.json" in archive.namelist()
    (person,) = seen["people"]
    assert ask.get(person["picture"]).headers["content-type"] == "image/jpeg"
    assert ask.delete(f"/jobs/{job}").status_code == 204
    for url in (f"/jobs/{job}", files["a walk.json"]["url"], person["picture"]):
        assert ask.get(url).status_code == 404


def test_names_from_outside_lead_nowhere(server, ask, tmp_path):
    (tmp_path / "video").write_bytes(clip(size=(320, 240)))
    before = set(server.log.parent.iterdir())
    jobs = []
    for name in HOSTILE:
        answer = ask.post("/jobs", files={"video": (name, (tmp_path / "video").read_bytes())})
        assert answer.status_code == 201, answer.text
        assert "/" not in answer.json()["name"]
        jobs.append(answer.json()["id"])
    assert {path for path in server.log.parent.iterdir() if path.name == "escaped.mp4"} == set()
    assert set(server.log.parent.iterdir()) == before
    assert not Path("/etc/escaped.mp4").exists()
    seen = finished(ask, jobs[0])
    assert seen["status"] == "done"
    for name in ("../lock", "..%2flock", "%2e%2e/%2e%2e/etc/passwd", "pose.json", "clip.json", "", "%00"):
        assert ask.get(f"/jobs/{jobs[0]}/files/{name}").status_code == 404
        assert ask.get(f"/jobs/{jobs[0]}/people/{name}").status_code == 404
    for job in jobs:
        assert ask.delete(f"/jobs/{job}").status_code == 204
    assert traces_of(tmp_path / "video", server) == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"people": "tallest"}, "People must be all, largest, longest or ids"),
        ({"lifter": "/etc/passwd"}, "Unknown weights '/etc/passwd'"),
        ({"height": "2.9"}, "Height must lie between 0.4 and 2.8 meters, got 2.9."),
        ({"smooth_hz": "much"}, "Smooth must be a number, got 'much'."),
        ({"has_rigid_bones": "perhaps"}, "must be true or false, got 'perhaps'"),
        ({"device": "cuda"}, "There is no setting 'device'; settings are quality"),
        ({"detector_weights": "/etc/passwd"}, "There is no setting 'detector_weights'"),
    ],
)
def test_wrong_settings_get_a_sentence(ask, brief_clips, fields, text):
    answer = ask.post("/jobs", files={"video": brief_clips[0].read_bytes()}, data=fields)
    assert answer.status_code == 400
    assert text in answer.json()["detail"]


def test_what_is_no_form_and_what_is_too_large_is_refused(server, ask):
    assert "there is no video" in ask.post("/jobs").json()["detail"].lower()
    assert "no example 'x'" in ask.post("/jobs", data={"example": "x"}).json()["detail"]
    assert ask.post("/jobs/nothing/people/0").status_code == 404
    large = ask.post("/jobs", files={"video": b"x" * 1_200_000})
    assert large.status_code == 413
    assert "expected at most 1 MB" in large.json()["detail"]

    def endless():  # without a length: what is too much is not even read
        yield b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        for _ in range(10_000):
            yield b"x" * 100_000

    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    with contextlib.suppress(httpx.TransportError):  # the server hangs up
        assert ask.post("/jobs", content=endless(), headers=headers).status_code == 413
    assert ask.get("/health").json()["status"] in ("ready", "starting")


def test_the_schema_describes_jobs_and_every_setting(ask):
    about = ask.get("/openapi.json").json()
    assert set(about["paths"]) == {
        "/health", "/jobs", "/jobs/{job_id}", "/jobs/{job_id}/files/{name}", "/jobs/{job_id}/people/{name}",
        "/jobs/{job_id}/people/{ids}",
    }  # fmt: skip
    form = about["paths"]["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form.keys() == {"video", *web_settings()}
    assert all(each["description"] for each in form.values())
    assert {"status", "progress", "seconds_left", "queue_place"} <= about["components"]["schemas"]["JobView"][
        "properties"
    ].keys()
    assert ask.get("/gradio_api/openapi.json").status_code == 200  # Gradio's own


@pytest.mark.parametrize(
    "path", ["/", "/config", "/health/", "/jobs/x", "/gradio_api/info", "/static/page.js", "/openapi.json"]
)
def test_visitors_without_the_password_see_nothing(server, path):
    assert httpx.get(server.address + path).status_code == 401
    assert httpx.get(server.address + "/health").status_code == 200  # Docker asks
    assert httpx.get(server.address + path, auth=(AUTH[0], "guess")).status_code == 401


def test_the_server_says_where_it_is_and_what_it_can_do(server, ask):
    deadline = time.monotonic() + 200
    while ask.get("/health").json()["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = server.log.read_text()
    assert said.startswith(f"Web app: {server.address} (Ctrl-C stops it)\nTakes videos of up to 5 min and 1 MB; ")
    assert re.search(r"\nReady on .+: lifter posemamba-s; quality balanced: .*everybody", said)
