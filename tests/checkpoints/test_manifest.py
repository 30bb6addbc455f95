"""Entries of the lists of weights, and files found and verified by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpoints import Entry, downloads, find, sha256_of, verify
from checkpoints.manifest import FOLDER, with_first_stages
from detectors import DETECTORS


def test_every_file_for_detectors_has_a_hash_a_license_and_a_safe_address():
    entries = downloads("detector")
    assert {name for spec in DETECTORS.values() for slot in spec.slots for name in slot} == set(entries)
    for name, entry in entries.items():
        (url,) = entry.sources
        assert url.startswith("https://")
        assert url.endswith("/" + entry.file)
        assert ("AGPL-3.0" in entry.license) == name.startswith("yolo26") == (entry.package == "ultralytics")
        if len(entry.sha256) < 64:  # then the file name itself says how it begins
            assert f"-{entry.sha256}_" in entry.file
        assert entry.path == FOLDER / "downloaded" / entry.file


@pytest.mark.parametrize("wrong", [{"sha256": ""}, {"sha256": "12ab"}, {"sha256": "0" * 65}, {"file": "../evil.pt"}])
def test_files_nobody_vouches_for_are_no_entries(wrong):
    entry = {"file": "a.pt", "sources": ("https://example.org",), "sha256": "0" * 64, **wrong}
    with pytest.raises(ValueError, match=r"x (needs a SHA-256|names the file)"):
        Entry("x", "detector", **entry)


def test_named_weights_are_verified_before_use(downloaded):
    for name in ("yolo26n", "hrnet-w32-256x192"):
        (downloaded / downloads()[name].file).write_bytes(b"weights")
        with pytest.raises(RuntimeError, match=rf"damaged or was replaced; delete it and run posemamba fetch {name}"):
            find(name, "detector")
    digest = sha256_of(downloaded / "yolo26n.pt")
    for known in (digest, digest[:8]):
        assert verify(replace(downloads()["yolo26n"], sha256=known)) == downloaded / "yolo26n.pt"


def test_absent_weights_say_how_to_get_them(downloaded):
    with pytest.raises(FileNotFoundError, match=r"posemamba fetch yolo26n$"):
        find("yolo26n", "detector")
    with pytest.raises(FileNotFoundError, match=r"no weights file nowhere.pt; give a file or one of yolo26n, "):
        find("nowhere.pt", "detector")
    with pytest.raises(FileNotFoundError, match=r"no weights file posemamba-s; "):  # these are a lifter's
        find("posemamba-s", "detector")


def test_the_first_stage_comes_first():
    assert with_first_stages(["mdtf-tiny-h36m", "yolo26n", "mdtf-large-h36m"]) == [
        "mdtf-bones-h36m", "mdtf-tiny-h36m", "yolo26n", "mdtf-large-h36m",
    ]  # fmt: skip
