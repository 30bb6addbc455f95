"""One server for all tests of the web app, programs that ask it, and pages in a browser."""

from __future__ import annotations

import pytest

from app.web.server_process import running_server

AUTH = ("anna", "secret")
WAIT_MS = 200_000  # a clip on two busy cores; nothing is measured


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server that wants a password and takes at most 1 MB."""
    pytest.importorskip("gradio", reason="the ui extra is not installed")
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder, "--auth", ":".join(AUTH), "--max-megabytes", "1") as running:
        yield running
    faults = [text for text in running.log.read_text().split("Traceback")[1:] if "gradio.exceptions." not in text]
    assert faults == []  # what Gradio itself refuses it also logs
    assert list(folder.glob("posemamba*")) == []  # neither uploads nor results outlive the server


@pytest.fixture(scope="session")
def ask(server):
    """A client of the server that knows the password."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=server.address, auth=AUTH, timeout=60) as client:
        yield client


@pytest.fixture
def open_page(browser, server):
    """A function that opens a page in a session of its own; errors and requests to elsewhere fail the test."""
    errors, elsewhere, contexts = [], [], []
    local = (server.address, "data:", "blob:", "about:")

    def open_page(address: str = "", width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme,
            http_credentials={"username": AUTH[0], "password": AUTH[1]},
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(local) else elsewhere.append(request.url))
        page.goto(server.address + "/" + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert elsewhere == []
