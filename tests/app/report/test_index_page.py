"""The page of a batch: every clip once, failures first, names and errors as text, links that lead somewhere."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import unquote

import pytest

from app.batch.summary import Records
from app.report.index_page import MOST_LOADED, index_page


def record(name="walk", status="done", **more):
    return {"clip": f"/videos/{name}.mp4", "folder": name, "status": status, "error": None, "people": 1,
            "duration_s": 8.57, "quality": [], "warnings": [], "files": {}, **more}  # fmt: skip


def test_clips_have_a_line_a_picture_and_links():
    page = index_page([record(files={"overlay.mp4": 1, "viewer.html": 1, "pose.json": 1}, people=2,
                              quality=[{"warnings": ["a", "b"]}, {"warnings": ["b"]}])])  # fmt: skip
    assert "2 people, 8.6 s, 2 warnings" in page
    assert re.findall(r'<a href="([^"]+)"', page) == ["walk/viewer.html", "walk/overlay.mp4", "walk/pose.json"]
    assert re.findall(r'<video src="([^"]+)"', page) == ["walk/overlay.mp4#t=0.5"]


def test_a_preview_is_shown_rather_than_the_overlay():
    page = index_page([record(files={"overlay.mp4": 1, "preview.webp": 1})])
    assert '<img src="walk/preview.webp"' in page
    assert "<video" not in page


def test_failures_come_first_with_their_reason():
    page = index_page([record("good"), record("bad", "failed", error="bad.mp4 is no video <at all>")])
    assert page.index("bad.mp4</h2>") < page.index("good.mp4</h2>")
    assert "2 clips, 1 failed" in page
    assert "is no video &lt;at all&gt;" in page


@pytest.mark.parametrize("name", ['a"><script>x</script>', "50% & #1?", "Größe ' b", "x/../y"])
def test_names_are_text_and_links_stay_in_the_folder(name):
    page = index_page([record(name, clip=f"/v/{name}.mp4", files={"pose.json": 1})])
    assert "<script" not in page
    (link,) = re.findall(r'<a href="([^"]+)"', page)
    folder, file = link.split("/")
    assert (unquote(unescape(folder)), file) == (name, "pose.json")


def test_thousands_of_clips_load_no_thousands_of_videos():
    page = index_page(record(f"clip{i}", files={"overlay.mp4": 1}) for i in range(MOST_LOADED + 50))
    assert page.count('preload="metadata"') == MOST_LOADED
    assert page.count('preload="none"') == 50


def test_records_keep_the_page_up_to_date(tmp_path):
    records = Records(tmp_path)
    records.start([], set())
    assert "0 clips" in (tmp_path / "index.html").read_text()
    records.add(record("first"))
    records.add(record("second", "failed", error="cut off"))
    records.write_tables()
    page = (tmp_path / "index.html").read_text()
    assert "2 clips, 1 failed" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.jsonl", "index.html", "summary.csv"]
