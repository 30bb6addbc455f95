"""The Docker image and the Hugging Face Space: what their files say; ``make test`` runs hadolint, too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def dockerfile(root) -> str:
    """The Dockerfile, lines joined."""
    return (root / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")


def test_what_the_dockerfile_copies_is_there_and_let_through(root, dockerfile):
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    assert {"app", "checkpoints", "detectors", "lifter", "assets"} <= copied
    ignored = (root / ".dockerignore").read_text().splitlines()
    assert all((root / name).exists() and f"!{name}" in ignored for name in copied)
    assert {"*", "checkpoints/downloaded"} <= set(ignored)


def test_the_image_runs_as_nobody_special_on_one_port(dockerfile):
    last_stage = dict(re.findall(r"^(\w+) (.*)$", dockerfile.rpartition("\nFROM ")[2], re.MULTILINE))
    assert last_stage["USER"] == "1000:1000"
    assert not re.search(r"^(RUN|COPY) ", dockerfile.partition("\nUSER ")[2], re.MULTILINE)
    assert json.loads(last_stage["CMD"])[-2:] == ["--port", last_stage["EXPOSE"]]
    assert f"127.0.0.1:{last_stage['EXPOSE']}/" in dockerfile.partition("HEALTHCHECK")[2]


def test_compose_keeps_everything_but_downloads_and_jobs_read_only(root, dockerfile):
    service = yaml.safe_load((root / "compose.yaml").read_text())["services"]["posemamba"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["volumes"] == ["weights:/srv/pose3d/checkpoints/downloaded"]
    assert 'VOLUME ["/srv/pose3d/checkpoints/downloaded"]' in dockerfile
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    gpu = yaml.safe_load((root / "compose.gpu.yaml").read_text())["services"]["posemamba"]
    assert gpu["build"]["args"] == {"TORCH": "cuda"}


def test_the_makefile_and_the_dockerfile_use_the_same_uv(root, dockerfile):
    versions = [set(re.findall(r"uv==([\d.]+)", text)) for text in (dockerfile, (root / "Makefile").read_text())]
    assert versions[0] == versions[1]
    assert len(versions[0]) == 1


@pytest.fixture(scope="module")
def space(root) -> dict:
    """The front matter of the README, which configures a Space."""
    opening, matter, _ = (root / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter)


def pins(path: Path, python: str) -> dict[str, str]:
    """Return name -> version of a requirements file, for one Python on Linux."""
    machine = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0",
               "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}  # fmt: skip
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", "")]
    wanted = [each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate(machine)]
    return {each.name: str(each.specifier) for each in wanted}


def test_the_space_starts_app_py_with_our_gradio_on_a_python_we_support(root, space):
    constraints = pins(root / "constraints.txt", space["python_version"])
    assert (space["sdk"], space["app_file"]) == ("gradio", "app.py")
    assert (root / space["app_file"]).is_file()
    assert f"=={space['sdk_version']}" == constraints["gradio"]
    assert f"ARG PYTHON={space['python_version']}\n" in (root / "Dockerfile").read_text()


def test_the_space_installs_our_dependencies_at_the_versions_of_constraints_txt(root, space):
    # written by `make requirements.txt`; indirect ones are left out, Spaces adds gradio[mcp], which bounds them
    python = space["python_version"]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = [Requirement(line) for line in project["dependencies"] + extras["mediapipe"] + extras["ui"]]
    names = {each.name for each in direct if not each.marker or each.marker.evaluate({"python_version": python})}
    constraints = pins(root / "constraints.txt", python)
    assert pins(root / "requirements.txt", python) == {name: constraints[name] for name in names}


def test_host_and_port_come_from_the_variables_that_spaces_sets(root):
    helped = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=root, capture_output=True, text=True, check=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert "GRADIO_SERVER_NAME" in helped.stdout
    assert "GRADIO_SERVER_PORT" in helped.stdout
