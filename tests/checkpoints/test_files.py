"""Files are whole or not there."""

import pytest

from checkpoints import atomic_write, sha256_of


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
