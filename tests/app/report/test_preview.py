"""The preview: the liveliest seconds, small enough to send, at the pace of the clip."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from app.report import preview
from app.report.preview import LARGEST_BYTES, LONGEST_S, liveliest, write_preview
from app.video.reader import probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from tests.people import walkers, with_options


@pytest.fixture(scope="module")
def clip(walker, tmp_path_factory):
    """Ten seconds: he stands, then walks as in the sample."""
    path, count = tmp_path_factory.mktemp("clip") / "clip.mp4", 300
    info = VideoInfo(path, 160, 120, 30.0, count, 0, np.arange(count) / 30)
    write_video(path, (np.full((120, 160, 3), i % 200, np.uint8) for i in range(count)), info)
    return walkers(np.concatenate([np.repeat(walker[:1], 120, axis=0), walker[:180]]), 1, video=probe(path))


def test_the_liveliest_seconds_are_those_with_most_movement(clip):
    assert liveliest(clip, 4.0).start >= 115
    part = liveliest(clip, LONGEST_S)
    times = clip.video.timestamps_s
    assert times[part][-1] - times[part][0] <= LONGEST_S
    assert part.stop - part.start >= LONGEST_S * 30 - 1, "as long as may be"
    assert part.stop >= 299


def test_a_short_clip_is_shown_whole(clip):
    assert liveliest(clip, 60.0) == slice(0, 300)


def test_where_nobody_is_there_are_pictures_all_the_same(clip):
    nobody = replace(clip, tracks=[], poses=[])
    part = liveliest(nobody, LONGEST_S)
    assert part.stop - part.start >= LONGEST_S * 30 - 1


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_picture_that_moves_at_the_pace_of_the_clip(clip, tmp_path, kind):
    write_preview(clip, tmp_path / "part", kind)
    assert (tmp_path / "part").stat().st_size <= LARGEST_BYTES
    with Image.open(tmp_path / "part") as picture:
        assert (picture.format or "").lower() == kind
        assert picture.info["loop"] == 0, "it repeats for ever"
        assert (picture.height, picture.width) == (120, 400)
        total = 0.0
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            total += picture.info["duration"] / 1000
        first, last = (np.array((picture.seek(n), picture.convert("RGB"))[1]) for n in (0, picture.n_frames - 1))
    assert total == pytest.approx(LONGEST_S, abs=0.25)
    assert abs(first[2, 2, 0].astype(int) - (liveliest(clip, LONGEST_S).start % 200)) < 12, "the chosen part"
    assert first.shape == last.shape


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
def test_a_still_or_a_few_frames_are_a_picture_all_the_same(walker, tmp_path, kind, count):
    path = tmp_path / "clip.mp4"
    info = VideoInfo(path, 64, 48, 30.0, count, 0, np.arange(count) / 30)
    write_video(path, (np.full((48, 64, 3), 90, np.uint8) for _ in range(count)), info)
    nobody = replace(walkers(walker[:count], 1, video=probe(path)), tracks=[], poses=[])
    write_preview(nobody, tmp_path / "part", kind)
    if kind == "mp4":
        assert probe(tmp_path / "part").num_frames == count
    else:
        with Image.open(tmp_path / "part") as picture:
            assert picture.size == (64, 48)


def test_mp4_plays_everywhere(clip, tmp_path):
    write_preview(clip, tmp_path / "part", "mp4")
    info = probe(tmp_path / "part")
    assert (info.width, info.height) == (400, 120)
    assert info.timestamps_s[-1] == pytest.approx(LONGEST_S, abs=0.1)
    with av.open(str(tmp_path / "part")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_a_file_that_would_be_too_large_shrinks(clip, tmp_path, monkeypatch):
    write_preview(clip, tmp_path / "large", "gif")
    monkeypatch.setattr(preview, "LARGEST_BYTES", (tmp_path / "large").stat().st_size // 2)
    write_preview(clip, tmp_path / "small", "gif")
    assert (tmp_path / "small").stat().st_size <= preview.LARGEST_BYTES
    with Image.open(tmp_path / "small") as picture:
        assert picture.width < 400


def test_export_writes_the_preview_that_was_asked_for_and_removes_an_older_one(clip, tmp_path):
    from app.export import export

    quiet = {"formats": ("json",), "has_overlay": False}
    assert export(with_options(clip, preview="mp4", **quiet), tmp_path / "out")["preview"].name == "preview.mp4"
    export(with_options(clip, preview="webp", **quiet), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pose.json", "preview.webp"]
