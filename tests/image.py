"""Runs the steps of the Dockerfile without Docker, then the image's command: ``python tests/image.py [NAME=VALUE...]``.

In place of an engine there is a private view of this machine (Linux, ``unshare``): the image's folder is an empty one,
environment variables are the image's, and what is served later runs read-only, without a network. Python, compiler and
libraries are those of this machine, packages come from uv's cache, and steps that need a root of their own (apt-get,
useradd, chown) are read, not run. NAME=VALUE are build arguments; here TORCH is ``cuda`` unless given: PyPI's build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = "/srv"  # the only folder that the image's steps write to
NEEDS_ROOT = re.compile(r"\b(apt-get|useradd|chown)\b")
FOR_LAYERS = ("PIP_NO_CACHE_DIR", "UV_NO_CACHE", "UV_COMPILE_BYTECODE")  # they cost time and change nothing here
VIEW = f'mount --bind "$TREE" {HOME} && cd "$1" && shift && exec "$@"'
READ_ONLY = f"""
mount --bind "$TREE" {HOME} && for each in $VOLUMES; do mount --bind "$each" "$each" || exit 1; done
mount -o remount,bind,ro {HOME} && mount -t tmpfs tmpfs /tmp && mount -o remount,bind,ro / || exit 1
cd "$1" && shift && exec "$@"
"""


def instructions(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest of the line) of a Dockerfile, lines joined and comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in joined)]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Return whether a file of the checkout stays out of the build context: the last pattern that fits decides."""
    ignored = False
    for pattern in patterns:
        name = re.escape(pattern.lstrip("!").strip("/")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{name}(/.*)?", path):
            ignored = not pattern.startswith("!")
    return ignored


def ignore_patterns(root: Path) -> list[str]:
    """Return the patterns of .dockerignore."""
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def sources(arguments: str) -> tuple[list[str], str]:
    """Return what a COPY from the build context takes, and where it goes."""
    *taken, destination = [word for word in arguments.split() if not word.startswith("--")]
    return taken, destination


def context(root: Path, source: str) -> Iterator[Path]:
    """Yield the files that ``COPY source`` takes from a checkout, relative to it."""
    patterns = ignore_patterns(root)
    found = [root / source] if (root / source).is_file() else sorted((root / source).rglob("*"))
    for path in found:
        relative = path.relative_to(root)
        if path.is_file() and not is_ignored(relative.as_posix(), patterns):
            yield relative


@dataclass
class Image:
    """What the Dockerfile has said so far."""

    tree: Path  # stands for /srv
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    settings: dict[str, str] = field(default_factory=dict)  # CMD, HEALTHCHECK, USER, VOLUME as written

    def here(self, path: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.tree / Path(self.workdir, path).relative_to(HOME)

    def begin(self) -> None:
        """FROM: another stage; of the machine it shows the interpreter that runs this."""
        self.environment = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"}
        passed = ("HOME", "PIP_CERT", "SSL_CERT_FILE", "UV_CACHE_DIR", "https_proxy", "HTTPS_PROXY")
        self.environment |= {name: os.environ[name] for name in passed if name in os.environ}

    def argument(self, text: str) -> None:
        """ARG: a default counts where nothing was given."""
        name, _, default = text.partition("=")
        self.arguments.setdefault(name, default)

    def variables(self, text: str) -> None:
        """ENV."""
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            if name not in FOR_LAYERS:
                self.environment[name] = string.Template(value).safe_substitute(self.environment)

    def copy(self, text: str) -> None:
        """COPY: from the checkout as .dockerignore leaves it; of another stage everything else is dropped."""
        taken, destination = sources(text)
        if "--from=" in text:
            keep = self.here(taken[0])
            for other in self.tree.iterdir():
                if other != keep:
                    shutil.rmtree(other)
            return
        for source in taken:
            inside = "." if destination == "./" else destination
            for file in context(ROOT, source):
                target = self.here(inside) / (file.relative_to(source) if (ROOT / source).is_dir() else file.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, target)

    def run(self, command: str) -> None:
        """RUN: with the shell of the image, in the image's folder."""
        if NEEDS_ROOT.search(command):
            say(f"   needs a root of its own, not run: {command}")
            return
        view = ["unshare", "--map-root-user", "--mount", "sh", "-c", VIEW, "sh", self.workdir, "/bin/sh", "-c", command]
        subprocess.run(view, env={**self.arguments, **self.environment, "TREE": str(self.tree)}, check=True)

    def change(self, workdir: str) -> None:
        """WORKDIR."""
        self.workdir = workdir
        self.here(".").mkdir(parents=True, exist_ok=True)


def build(tree: Path, arguments: dict[str, str]) -> Image:
    """Return the image after all steps of the Dockerfile, in the empty folder ``tree``."""
    image = Image(tree, arguments)
    for word, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        began = time.monotonic()
        say(f"{word} {rest}")
        if word == "FROM":
            image.begin()
        elif word == "ARG":
            image.argument(rest)
        elif word == "ENV":
            image.variables(rest)
        elif word == "WORKDIR":
            image.change(rest)
        elif word in ("COPY", "RUN"):
            {"COPY": image.copy, "RUN": image.run}[word](rest)
            say(f"   {time.monotonic() - began:.0f} s")
        else:
            image.settings[word] = rest
    return image


def serve(image: Image) -> None:
    """Run the image's command as ``docker run --read-only --tmpfs /tmp --network none`` would, and visit it."""
    command = json.loads(image.settings["CMD"])
    health = json.loads(image.settings["HEALTHCHECK"].partition("CMD ")[2])
    visitor = [str(Path(image.workdir, ".venv/bin/python")), __file__, "--visit", json.dumps([command, health])]
    alone = ["--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    volumes = " ".join(json.loads(image.settings["VOLUME"]))
    variables = {**image.environment, "TREE": str(image.tree), "VOLUMES": volumes}
    subprocess.run(["unshare", *alone, "sh", "-c", READ_ONLY, "sh", image.workdir, *visitor], env=variables, check=True)


def visit(command: list[str], health: list[str]) -> None:
    """Start the server, wait until it is healthy, have the sample clip analyzed, stop it; runs inside the image.

    Raises:
        RuntimeError: Something of the image can be written to, or the answer is not that of the sample clip.
    """
    from gradio_client import Client, handle_file

    loopback_up()
    for path, is_writable in ((Path("app"), False), (Path("checkpoints"), True), (Path("/tmp"), True)):
        if is_writable != writes(path / "probe"):
            raise RuntimeError(f"{path} must be {'writable' if is_writable else 'read-only'}")
    server = subprocess.Popen(command)
    try:
        wait_until_healthy(server, health)
        client = Client("http://127.0.0.1:7860", verbose=False)
        summary, files = client.predict(path=handle_file("assets/walk_wave.mp4"), api_name="/estimate")
        say(f"{summary['frames']} frames, {summary['people']} person, seconds by stage: {summary['stage_seconds']}")
        pose = json.loads(Path(files[0]).read_text(encoding="utf-8"))
        scan = pose["provenance"]["lifter"]["scan_backend"]
        if len(pose["people"]) != 1 or not scan.startswith("cpu ("):
            raise RuntimeError(f"one person by the compiled scan was expected, got {len(pose['people'])} by {scan}")
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_until_healthy(server: subprocess.Popen, health: list[str]) -> None:
    """Return when the health check succeeds."""
    began = time.monotonic()
    while subprocess.run(health, stderr=subprocess.DEVNULL, check=False).returncode:
        if server.poll() is not None or time.monotonic() > began + 240:
            raise RuntimeError(f"{server.args} does not answer")
        time.sleep(0.5)
    say(f"healthy after {time.monotonic() - began:.0f} s")


def writes(path: Path) -> bool:
    """Return whether a file can be made."""
    try:
        path.touch()
    except OSError:
        return False
    path.unlink()
    return True


def loopback_up() -> None:
    """Switch on 127.0.0.1, the only network there is, and make sure of the latter."""
    import fcntl
    import socket
    import struct

    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
    try:
        urllib.request.urlopen("http://pypi.org", timeout=5)
    except OSError:
        return
    raise RuntimeError("there is a network where none should be")


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """Build in a temporary folder, serve from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--visit", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.visit:
        visit(*json.loads(given.visit))
        return
    allowed = ["unshare", "--map-root-user", "--mount", "--net", "true"]
    if not shutil.which("unshare") or subprocess.run(allowed, check=False).returncode:
        sys.exit("this machine has or allows no private mount and network namespaces (unshare): nothing was tested")
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        serve(build(Path(folder), {"TORCH": "cuda"} | dict(word.split("=", 1) for word in given.arguments)))


if __name__ == "__main__":
    main()
