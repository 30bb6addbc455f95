"""The Docker image and the Hugging Face Space: what can be said of both without an engine and without a network.

``make image-test`` runs the steps of the Dockerfile and serves the result.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.image import context, ignore_patterns, instructions, is_ignored, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def steps(root) -> list[tuple[str, str]]:
    return instructions((root / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tracked(root) -> set[str]:
    """The files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    return {name for name in listed.stdout.split("\0") if name}


@pytest.fixture(scope="module")
def copied(root, steps) -> set[str]:
    """The files of the checkout that reach the image."""
    taken = [name for word, rest in steps if word == "COPY" and "--from" not in rest for name in sources(rest)[0]]
    by_source = {name: [file.as_posix() for file in context(root, name)] for name in taken}
    assert all(by_source.values()), by_source
    return {file for files in by_source.values() for file in files}


def test_a_dockerfile_is_read_line_by_line():
    text = '# a comment\nARG A=1\nRUN one \\\n# between\n    && two\nCMD ["x"]\n'
    assert instructions(text) == [("ARG", "A=1"), ("RUN", "one     && two"), ("CMD", '["x"]')]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("app/ui.py", False), ("app/__pycache__/ui.pyc", True), ("lifter/scan/_kernel_avx2.so", True), ("secret", True),
        ("checkpoints/posemamba-s.safetensors", False), ("checkpoints/yolo26n.pt", True), ("out/a/pose.json", True),
        (".git/config", True), (".venv/bin/python", True), ("tests/image.py", True),
    ],
)  # fmt: skip
def test_what_the_build_context_holds(root, path, ignored):
    assert is_ignored(path, ignore_patterns(root)) == ignored


def test_the_image_holds_what_the_app_needs_and_nothing_that_git_does_not_know(copied, tracked):
    needed = {name for name in tracked if name.split("/")[0] in ("app", "detectors", "lifter", "checkpoints", "assets")}
    assert needed <= copied
    assert copied <= tracked


def test_the_shell_understands_every_step(steps):
    for word, rest in steps:
        if word == "RUN":
            said = subprocess.run(["sh", "-nc", rest], capture_output=True, text=True, check=False)
            assert said.returncode == 0, said.stderr


def test_the_image_runs_as_nobody_special_on_one_port(steps):
    last_stage = steps[max(number for number, (word, _) in enumerate(steps) if word == "FROM") :]
    settings = dict(last_stage)
    assert settings["USER"] == "1000:1000"
    assert [word for word, _ in last_stage if word in ("RUN", "COPY")] == [
        word for word, _ in last_stage[: last_stage.index(("USER", "1000:1000"))] if word in ("RUN", "COPY")
    ]
    port = settings["EXPOSE"]
    assert json.loads(settings["CMD"])[-2:] == ["--port", port]
    assert f"127.0.0.1:{port}/" in json.loads(settings["HEALTHCHECK"].partition("CMD ")[2])[-1]
    assert json.loads(settings["VOLUME"]) == [f"{settings['WORKDIR']}/checkpoints"]


def test_both_stages_start_from_the_same_python(steps):
    bases = {rest.split()[0] for word, rest in steps if word == "FROM"}
    assert bases == {"python:${PYTHON}-slim-bookworm"}


def test_no_package_list_is_left_in_a_layer(steps):
    installing = [rest for word, rest in steps if word == "RUN" and "apt-get install" in rest]
    assert installing
    assert all("--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists/*" in rest for rest in installing)


def test_the_makefile_and_the_dockerfile_use_the_same_uv(root):
    versions = {name: re.findall(r"uv==([\d.]+)", (root / name).read_text()) for name in ("Makefile", "Dockerfile")}
    assert len({version for found in versions.values() for version in found}) == 1
    assert all(versions.values())


def test_compose_keeps_everything_but_weights_and_jobs_read_only(root, steps):
    service = yaml.safe_load((root / "compose.yaml").read_text())["services"]["posemamba"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [volume.partition(":")[2] for volume in service["volumes"]] == json.loads(dict(steps)["VOLUME"])
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    gpu = yaml.safe_load((root / "compose.gpu.yaml").read_text())["services"]["posemamba"]
    assert gpu["build"]["args"] == {"TORCH": "cuda"}


@pytest.fixture(scope="module")
def space(root) -> dict:
    """What configures a Space; ``make space`` puts it on top of README."""
    opening, matter, rest = (root / ".github" / "space-header.md").read_text(encoding="utf-8").split("---\n", 2)
    assert (opening, rest) == ("", "\n")
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
