"""Names of the folders of results."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.batch.folder_names import NameAllocator, assign_names
from app.batch.output_folder import OutFolder


def test_names_stay_when_clips_come_and_go(tmp_path):
    folder = OutFolder(tmp_path / "out")
    (tmp_path / "out" / ".posemamba").mkdir(parents=True)

    def names(*clips: str) -> list[str]:
        known = assign_names([Path(clip) for clip in clips], folder)
        folder.save_names(known)
        return [known[clip] for clip in clips]

    assert names("/b/walk.mp4", "/b/walk.mov") == ["walk", "walk-2"]
    more = names("/a/Walk.mp4", "/b/walk.mov", "/b/walk.mp4", "/c/walk-2.avi")
    assert more == ["Walk-3", "walk-2", "walk", "walk-2-2"]
    (folder.path / "run").write_text("a file of somebody")
    (folder.path / "jump" / "raw").mkdir(parents=True)
    (folder.path / "sit").mkdir()
    more = names("/a/batch.jsonl.mp4", "/a/run.mp4", "/a/jump.mp4", "/a/sit.mp4")
    assert more == ["batch.jsonl-2", "run-2", "jump-2", "sit"]


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_names_are_safe_and_differ(stems):
    allocator = NameAllocator(Path("nowhere"))
    stems = [*stems, "..", ".posemamba", "clip\udcff", "é", "e\u0301", "x" * 250]
    names = [allocator.new_name(Path(f"/{number}") / f"{stem}.mp4") for number, stem in enumerate(stems)]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert Path(name).name == name
        assert name.isprintable()
        assert not name.startswith(".")
        assert len(name.encode()) < 255


def test_the_work_of_naming_grows_with_the_number_of_clips_not_with_its_square(tmp_path):
    def num_calls(count: int) -> int:
        """Return how many functions are called to name so many clips of one stem, half of them known."""
        folder = OutFolder(tmp_path / str(count))
        clips = [Path(f"/{number}/walk.mp4") for number in range(count)]
        (folder.path / ".posemamba").mkdir(parents=True)
        folder.save_names(assign_names(clips[: count // 2], folder))
        calls = 0

        def tally(frame, event, argument) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(tally)
        try:
            names = assign_names(clips, folder)
        finally:
            sys.setprofile(before)
        assert len(set(names.values())) == count
        return calls

    assert num_calls(400) < 5 * num_calls(100)  # the square would be 16 times as many
