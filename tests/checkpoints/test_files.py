"""Files are whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import atomic_write, sha256_of
from checkpoints.files import sync

WRITE = """
import sys, time
from pathlib import Path
from checkpoints import atomic_write
with atomic_write(Path(sys.argv[1])) as part:
    part.write_text(sys.argv[2])
    print(part.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_file_appears_only_when_it_is_whole(tmp_path, is_durable):
    path = tmp_path / "a.txt"
    with atomic_write(path, is_durable) as part:
        part.write_text("new")
        assert not path.exists()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "new")]


def test_a_failure_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), atomic_write(path) as part:
        part.write_text("ne")
        raise OSError("the disk is full")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]


def test_the_hash_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.process
def test_the_next_process_deletes_what_a_killed_one_left_and_nothing_else(root, tmp_path):
    path = tmp_path / "[a].txt"
    begun = []

    def begin(content: str) -> subprocess.Popen:
        command = [sys.executable, "-c", WRITE, str(path), content]
        begun.append(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    def hidden() -> set[str]:
        return {each.name for each in tmp_path.glob(".*")}

    killed, alive = begin("killed"), begin("alive")
    names = [process.stdout.readline().strip() for process in (killed, alive)]
    assert hidden() == set(names)
    killed.kill()
    killed.wait()
    later = begin("later")
    own = later.stdout.readline().strip()
    assert hidden() == {names[1], own}
    for process, content in ((later, "later"), (alive, "alive")):
        process.communicate("\n")
        assert path.read_text() == content
    assert not hidden()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that cannot sync folders")
def test_folders_that_cannot_be_synced_are_no_error(tmp_path):
    sync(tmp_path)
    sync(Path("/proc"))  # answers EINVAL, as shared folders of virtual machines do
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
