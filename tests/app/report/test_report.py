"""The report: one offline file, everybody in it, nothing hidden, and no text of a video taken for markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.report.charts import CURVES, LEFT, draw_angles, draw_timeline
from app.report.key_poses import key_frames, key_pictures
from app.report.page import report_page, write_poster
from app.report.quality_words import FIGURES, is_doubtful, number_of
from app.video.reader import probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from tests.people import FILLED, GAP, LATE, walkers


@pytest.fixture(scope="module")
def made(walker, tmp_path_factory):
    """Two walkers over a real small video."""
    path = tmp_path_factory.mktemp("clip") / "walk <b>&amp.mp4"
    info = VideoInfo(path, 320, 240, 30.0, 150, 0, np.arange(150) / 30)
    write_video(path, (np.full((240, 320, 3), 90, np.uint8) for _ in range(150)), info)
    return walkers(walker[:150], video=probe(path))


@pytest.fixture(scope="module")
def page(made) -> str:
    return report_page(made)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_the_page_is_one_file_that_reaches_no_network(page):
    tags = Tags(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object", "form")]
    assert all(
        about["src"].startswith("data:image/webp;base64,") and about["alt"] for tag, about in tags if tag == "img"
    )
    assert "default-src 'none'" in next(about["content"] for tag, about in tags if about.get("http-equiv"))
    assert "http:" not in page
    assert "https:" not in page
    assert len([tag for tag, _ in tags if tag == "img"]) == 4  # poses, overview, and angles of two people


def test_the_page_says_who_is_there_and_what_it_is_worth(page, made):
    words = Tags(page).words
    assert "2people" in words
    assert "walk <b>&amp.mp4" in words, "the name of the video is text"
    for figure in FIGURES:
        assert figure.title in words
        assert number_of(figure, made.quality[1]) in words
    assert "knee flexion" in words
    assert "steps per minute" not in words  # two walkers: no single cadence


def test_doubtful_figures_are_those_that_the_app_warns_of(made):
    small = replace(made.quality[0], height_px=60.0, jitter=55.0)
    assert [f.name for f in FIGURES if is_doubtful(f, small) and not is_doubtful(f, made.quality[0])] == [
        "height_px",
        "jitter",
    ]
    assert not is_doubtful(next(f for f in FIGURES if f.name == "jitter"), replace(small, reprojection_px=None))


def test_a_minute_of_one_person_stays_below_2_mb(walker, made, tmp_path):
    path = tmp_path / "noise.mp4"
    info = VideoInfo(path, 320, 240, 5.0, 300, 0, np.arange(300) / 5)
    noise = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), np.uint8)  # hard to compress
    write_video(path, (noise[i % 8] for i in range(300)), info)
    world = np.concatenate([walker[:150], walker[:150][::-1]])
    assert len(report_page(walkers(world, 1, video=probe(path))).encode()) < 2_000_000


def test_the_poster_is_a_picture_of_all(made, tmp_path):
    write_poster(made, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.format == "PNG"
        assert 1200 < picture.width < 2000
        assert picture.height > 0.6 * picture.width
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
    assert tuple(int(LEFT[i : i + 2], 16) for i in (1, 3, 5)) in colors


def test_nobody_is_said_and_is_no_error(made, tmp_path):
    nobody = replace(made, tracks=[], poses=[])
    assert "Nobody was found" in Tags(report_page(nobody)).words
    write_poster(nobody, tmp_path / "report.png")


def test_without_the_video_the_page_says_so_and_has_the_rest(made):
    gone = replace(made, video=replace(made.video, path=Path("elsewhere.mp4")))
    page = report_page(gone)
    assert "the video is not here" in page
    assert page.count("<img") == 3


def test_key_frames_are_seen_frames_in_poses_that_differ(made):
    frames = key_frames(made)
    assert frames == sorted(set(frames))
    assert len(frames) == 4
    assert not set(frames) & set(range(FILLED.start, FILLED.stop)), "guessed frames are no key poses"
    joints = made.poses[0].joints
    apart = [np.linalg.norm(joints[a] - joints[b], axis=-1).mean() for a in frames for b in frames if a < b]
    usual = np.linalg.norm(joints[:75] - joints[75:150], axis=-1).mean()
    assert np.mean(apart) > 0.8 * usual
    pictures = key_pictures(made, frames)
    assert len({picture.shape for picture in pictures}) == 1


def test_what_was_not_seen_is_marked(made):
    from matplotlib.figure import Figure

    figure = Figure()
    timeline, *grid = figure.subplots(1 + len(CURVES), 1)
    draw_timeline(timeline, made)
    bars = [path.get_extents() for collection in timeline.collections for path in collection.get_paths()]
    seen = sum(box.width for box in bars if box.y0 > 0.5 and box.height > 0.5)
    assert seen == pytest.approx((120 - 20) / 30, abs=1e-6), "the second person is there without the gap"
    draw_angles(grid, made, 1)
    times = made.video.timestamps_s
    for axes in grid:
        tinted = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
        gap = (times[LATE + GAP.start], times[LATE + GAP.stop - 1])
        assert any(box.x0 <= gap[0] + 1e-6 and box.x1 >= gap[1] - 1e-6 for box in tinted)
        for line in axes.lines:
            assert np.isnan(np.asarray(line.get_ydata())[GAP]).all()


def test_without_meters_nothing_is_claimed_in_them(walker, made):
    words = Tags(report_page(replace(walkers(walker[:150], 1, video=made.video, unit="normalized")))).words
    assert "m/s" not in words


def test_a_video_that_changed_is_an_error_with_its_name(walker, tmp_path):
    path = tmp_path / "short.mp4"
    info = VideoInfo(path, 320, 240, 30.0, 20, 0, np.arange(20) / 30)
    write_video(path, (np.zeros((240, 320, 3), np.uint8) for _ in range(20)), info)
    longer = replace(walkers(walker[:150], 1), video=VideoInfo(path, 320, 240, 30.0, 150, 0, np.arange(150) / 30))
    with pytest.raises(ValueError, match=re.escape(str(Path(path)))):
        report_page(longer)
