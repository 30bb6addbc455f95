"""The web app as programs use it, many at once and hostile ones, too."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.bench.web import megabytes
from app.options import FORMATS, Options
from app.web.option_controls import options_of, web_settings
from detectors import QUALITIES
from tests.bad_media import NAMES, clip, write
from tests.web import serving

gradio_client = pytest.importorskip("gradio_client", reason="the ui extra is not installed")
pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
PEOPLE = 20
MULTIPART = (
    '--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    "Content-Type: video/mp4\r\n\r\n{content}\r\n--edge--\r\n"
)


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    with serving(root, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def address(server) -> str:
    return server.address


def estimate(address: str, path: Path, **settings) -> tuple[dict, list[Path]]:
    client = gradio_client.Client(address, verbose=False)
    summary, files = client.predict(path=gradio_client.handle_file(path), api_name="/estimate", **settings)
    return summary, [Path(file) for file in files]


def refusal(address: str, path: Path) -> str:
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        estimate(address, path)
    return str(caught.value)


def test_the_program_in_the_documentation_works(address, root, tmp_path, monkeypatch):
    page = (root / "docs" / "deploy.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(from gradio_client.+?)```", page, re.DOTALL)
    (tmp_path / "clip.mp4").symlink_to(root / "assets" / "empty_room.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program.replace("http://127.0.0.1:7860", address), names)
    assert (names["summary"]["status"], names["summary"]["people"], names["summary"]["frames"]) == ("done", 0, 60)
    pose = json.loads(Path(names["files"][0]).read_text())
    assert pose["people"] == []
    assert pose["provenance"]["options"]["smooth_hz"] == 6
    assert pose["models"]["summary"].startswith("quality balanced: ")
    suffixes = {Path(file).suffix for file in names["files"]}
    assert suffixes >= {".json", ".npz", ".csv", ".glb", ".html", ".mp4", ".zip"}


def test_what_can_be_chosen_are_options_with_their_defaults(address):
    client = gradio_client.Client(address, verbose=False)
    about = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/estimate"]
    arguments = {a["parameter_name"]: a["parameter_default"] for a in about["parameters"]}
    arguments.pop("path")
    assert arguments.keys() == web_settings().keys()
    assert options_of(arguments) == replace(Options(), formats=options_of(arguments).formats)
    assert set(options_of(arguments).formats) == set(FORMATS)
    other = {
        "quality": "fast", "detector": "mediapipe", "lifter": "mdtf-tiny", "people": "largest", "smooth_hz": 6,
        "height_m": 1.5, "fov_degrees": 70, "has_rigid_bones": True, "formats": ["csv"], "detection_interval": 2,
        "max_gap_s": 1, "min_track_s": 0, "up": "z", "is_upright": False,
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


def test_wrong_choices_get_a_sentence(address, root):
    sample = root / "assets" / "empty_room.mp4"
    for settings, said in (
        ({"people": "tallest"}, "people must be all, largest, longest or ids"),
        ({"lifter": "/etc/passwd"}, "/etc/passwd"),
        ({"quality": "ultra"}, "ultra"),
        ({"height_m": 2.9}, "height must lie between 0.4 and 2.8 meters, got 2.9"),
    ):
        with pytest.raises((gradio_client.exceptions.AppError, ValueError), match=said):
            estimate(address, sample, **settings)


def test_twenty_people_at_once_get_their_own_results_and_memory_returns_to_its_level(server, brief_clips):
    clips = brief_clips[:3]
    before = 0
    for path in clips * 2:  # the allocator needs some jobs to reach its level
        estimate(server.address, path, formats=[])
        before = max(before, megabytes(server.pid))
    wanted = [clips[number % 3] for number in range(PEOPLE)]
    with ThreadPoolExecutor(PEOPLE) as people:
        answers = list(people.map(lambda path: estimate(server.address, path, formats=[]), wanted))
    poses = [files[0].read_bytes() for _, files in answers]
    for path, (summary, files), pose in zip(wanted, answers, poses, strict=True):
        video = json.loads(pose)["video"]
        assert (video["name"], video["sha256"]) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        assert summary["frames"] == video["num_frames"] == 5
        assert {file.name for file in files} == {"pose.json", "viewer.html", "overlay.mp4", f"{path.stem}.zip"}
    assert len(set(poses)) == 3  # the same clip gives the same bytes, and another clip others
    # Before it was given back it grew by 3 a job.
    assert megabytes(server.pid) < before + 50


def test_every_bad_upload_ends_in_a_sentence_and_the_next_person_is_served(server, brief_clips, tmp_path):
    bad = [path for path in write(tmp_path) if path.is_file() and not path.is_symlink() and path.name != "large.mp4"]
    assert len(bad) > 70
    with ThreadPoolExecutor(4) as people:
        answers = dict(zip(bad, people.map(lambda path: refusal(server.address, path), bad), strict=True))
    for path, said in answers.items():
        assert Path(path).stem.partition("%")[0] in said
        assert said.count("\n") == 0
        assert str(server.folder) not in said
        assert "Traceback" not in said
    assert estimate(server.address, brief_clips[0], formats=[])[0]["status"] == "done"


def test_names_can_be_anything_and_lead_nowhere(server, tmp_path):
    for name in NAMES[::3]:
        (tmp_path / name).write_bytes(clip())
        summary, _ = estimate(server.address, tmp_path / name, formats=[])
        assert summary["frames"] == 12
    before = {path for path in server.folder.iterdir() if not path.name.startswith("posemamba")}
    for name in ("../../../escaped.mp4", "/etc/escaped.mp4", "..\\\\..\\\\escaped.mp4", "%2e%2e%2fescaped.mp4"):
        request = urllib.request.Request(
            f"{server.address}/gradio_api/upload",
            MULTIPART.format(name=name, content="x").encode(),
            {"Content-Type": "multipart/form-data; boundary=edge"},
        )
        (place,) = json.loads(urllib.request.urlopen(request, timeout=20).read())
        assert Path(place).resolve().is_relative_to(server.folder.resolve())
    assert {path for path in server.folder.iterdir() if not path.name.startswith("posemamba")} == before
    assert not Path("/etc/escaped.mp4").exists()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "{root}/README.md",
     "{root}/app/web/page.py", "{root}/assets/../README.md", "file:///etc/passwd", "{link}"],
)  # fmt: skip
def test_nothing_else_on_the_disk_is_served(address, root, tmp_path, path):
    link = tmp_path / "link.mp4"
    link.symlink_to("/etc/passwd")
    url = f"{address}/gradio_api/file=" + path.format(root=root, link=link)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=20)
    assert caught.value.code in (400, 403, 404)


def test_visitors_without_the_password_see_nothing_and_large_files_get_a_sentence(root, tmp_path):
    (tmp_path / "server").mkdir()
    with serving(root, tmp_path / "server", "--auth", "anna:secret", "--max-megabytes", "1") as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.address}/config", timeout=20)
        assert caught.value.code == 401
        anna = gradio_client.Client(server.address, verbose=False, auth=("anna", "secret"))
        (tmp_path / "large.mp4").write_bytes(os.urandom(1_100_000))
        with pytest.raises(Exception, match=r"size|large|1 MB"):
            anna.predict(path=gradio_client.handle_file(tmp_path / "large.mp4"), api_name="/estimate")


@pytest.mark.slow
def test_the_benchmark_measures_a_server_of_its_own(root, brief_clips, tmp_path):
    (tmp_path / "notes.mp4").write_text("this is no video")
    command = [sys.executable, "-m", "app", "bench", "web", brief_clips[0], "--people", "2", "--uploads", tmp_path]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for row in ("command to first whole page", "page while it ran", "2 people at once", "notes.mp4"):
        assert row in said
