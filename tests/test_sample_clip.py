"""The sample clip from pixels to 3D, against its ground truth and beside MediaPipe's own 3D."""

from __future__ import annotations

import numpy as np
import pytest

from app.evaluate import mediapipe_world
from app.export.json import SCHEMA_FILE, document
from app.options import Options
from app.pipeline import estimate
from app.quality import assess
from lifter import checkpoints
from lifter.metrics import summary

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def result(root):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    if "posemamba-s" not in checkpoints.manifest():
        pytest.skip("no weights ship with this checkout")
    return estimate(root / "assets" / "walk_wave.mp4", Options())


@pytest.fixture(scope="module")
def truth(shared):
    with np.load(shared / "data" / "synthetic" / "walk_wave.gt.npz", allow_pickle=False) as npz:
        return npz["h36m_cam"][:, 0]


def test_every_frame_has_the_one_person(result):
    (track,) = result.tracks
    assert np.array_equal(track.frames, np.arange(257))
    assert track.observed.mean() > 0.98


def test_document_matches_the_schema(result):
    import json

    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(document(result))


def test_motion_is_better_than_mediapipes_own(result, truth, root):
    """MediaPipe's world landmarks score 84 mm root-relative and 62 mm after Procrustes on this clip."""
    ours = summary(result.poses[0].joints, truth)
    theirs = summary(mediapipe_world(root / "assets" / "walk_wave.mp4"), truth)
    assert ours["limbs_root_relative"] < theirs["limbs_root_relative"]
    assert ours["limbs_pa"] < theirs["limbs_pa"]


def test_left_is_left_and_up_is_up(result, truth):
    joints = result.poses[0].joints
    assert (joints[:, 10, 1] < joints[:, 0, 1]).all()  # y points down: the head is above the pelvis
    hips, true_hips = joints[:, 4] - joints[:, 1], truth[:, 4] - truth[:, 1]  # from the right hip to the left
    is_clear = np.abs(true_hips[:, 0]) > 0.1
    assert (np.sign(hips[is_clear, 0]) == np.sign(true_hips[is_clear, 0])).mean() > 0.97


def test_windows_leave_no_seams(result):
    (report,) = assess(result)
    assert report["seam_ratio"] < 1.5  # 1 is no seam; a few frames decide it, so leave room
