"""Which files in folders are clips."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.batch.find_videos import VIDEO_SUFFIXES, discover


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_searched_in_order_and_other_files_left_alone(tmp_path):
    touch(tmp_path, "b.MP4", "a.mov", "notes.txt", "sub/c.webm", "out/b/overlay.mp4", "._a.mov", ".cache/d.mp4")
    found = discover([tmp_path], tmp_path / "out")
    assert [path.name for path in found.clips] == ["a.mov", "b.MP4", "c.webm"]
    assert not found.problems


def test_results_of_any_run_are_no_clips(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "earlier")
    (tmp_path / "earlier" / "wave" / "clip.json").unlink()  # as of an export, or sent by somebody
    touch(tmp_path, "a.mp4", "earlier/b.mov", "films/clip.json", "films/c.mp4")
    for out in (tmp_path / "new", tmp_path):  # among the clips, or the folder of the clips itself
        found = discover([tmp_path], out)
        assert [path.name for path in found.clips] == ["a.mp4", "b.mov", "c.mp4"]
        assert not found.problems
    (problem,) = discover([tmp_path / "earlier" / "walk"], tmp_path / "new").problems
    assert "not results of earlier runs" in problem


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.mp4", ["a.mp4", "b.MP4"]), ("day1/*", ["a.dat", "a.mp4"]), ("*/cam1/[ab].*", ["a.dat", "b.MP4"])],
)
def test_a_pattern_chooses_by_name_or_by_path(tmp_path, pattern, names):
    touch(tmp_path, "day1/cam1/a.dat", "day1/cam2/a.mp4", "day2/cam1/b.MP4", "day2/cam1/c.txt")
    assert [path.name for path in discover([tmp_path], tmp_path / "out", pattern).clips] == names


def test_inputs_are_taken_once_and_empty_folders_are_problems(tmp_path):
    touch(tmp_path, "a.mp4", "empty/notes.txt")
    inputs = [tmp_path / "a.mp4", tmp_path, tmp_path / "empty" / ".." / "a.mp4", tmp_path / "empty"]
    found = discover(inputs, tmp_path / "out")
    assert found.clips == [tmp_path / "a.mp4"]
    assert len(found.problems) == 1
    assert f"no video in {tmp_path / 'empty'}" in found.problems[0]


def test_suffixes_of_clips_of_these_tests_are_known(short_clips):
    assert {path.suffix.lower() for path in short_clips.rglob("*.*")} <= VIDEO_SUFFIXES
