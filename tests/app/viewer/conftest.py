"""Results to look at, and a browser that opens them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from app.results import PoseResult
from app.video.video_info import VideoInfo
from tests.app.viewer.viewing import UNSTEADY
from tests.people import walkers


@pytest.fixture
def make_result(walker, tmp_path) -> Callable[..., PoseResult]:
    """A function that makes ``tests.people.walkers`` of a clip with a varying rate."""

    def make(num_people=2, *, name="clip.mp4", times=UNSTEADY, **settings):
        settings = {"has_overlay": False} | settings  # it would be looked for
        video = VideoInfo(tmp_path / name, 1280, 720, 1 / np.diff(times).mean(), len(times), 0, times, False)
        return walkers(walker[: len(times)], num_people, video=video, **settings)

    return make


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens a file of HTML; in the end nothing may have complained or asked for another file."""
    opened = []

    def open_page(text: str, *, width=1000, height=700, scheme="dark", may_request=(), may_complain=False):
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        tab = context.new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        opened.append((context, said, asked, {path.as_uri(), *may_request}, may_complain))
        tab.goto(path.as_uri())
        return tab

    yield open_page
    for context, said, asked, allowed, may_complain in opened:
        context.close()
        assert may_complain or said == []
        assert {url for url in asked if not url.startswith(("data:", "blob:", "about:"))} <= allowed
