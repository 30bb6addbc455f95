"""Multiply-accumulates against the definitions of the layers."""

import math

import pytest

from lifter import LIFTERS, LifterSpec, complexity
from lifter.models import motionagformer, posemamba
from lifter.models.posemamba import NUM_JOINTS, SMALL, PoseMambaConfig
from lifter.scan import BACKENDS

WINDOW = 4


@pytest.fixture
def small_attention(monkeypatch) -> str:
    """The name of a registered network without a scan, for windows of exactly 4 frames."""
    config = motionagformer.MotionAGFormerConfig(width=16, depth=1, window=WINDOW)
    monkeypatch.setattr(motionagformer, "TINY", config, raising=False)
    spec = LifterSpec("lifter.models.motionagformer", "TINY", WINDOW, "for tests", 3)
    monkeypatch.setitem(LIFTERS, "tiny-attention", spec)
    return "tiny-attention"


def test_products_and_scans_are_counted_by_their_definition():
    # PoseMamba, per token and block: in_proj, convolution, projections, scans, out_proj and two linear layers
    for config in (PoseMambaConfig(16, 1), SMALL):
        d, inner, rank = config.width, 2 * config.width, math.ceil(config.width / 16)
        scans = 4 * inner * (rank + 4 * 16 + 2)
        block = d * 2 * inner + 9 * inner + 4 * inner * (rank + 32) + scans + inner * d + 2 * d * 2 * d
        expected = NUM_JOINTS * (2 * d + 2 * config.depth * block + d * 3)
        assert macs_per_frame_of(config) == expected
    assert complexity.macs_per_frame("posemamba-s") == expected


def macs_per_frame_of(config: PoseMambaConfig) -> float:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posemamba, "COUNTED", config, raising=False)
        patch.setitem(LIFTERS, "counted", LifterSpec("lifter.models.posemamba", "COUNTED", config.window, "for tests"))
        return complexity.macs_per_frame("counted")


def test_attention_and_graphs_are_counted_by_their_definition(small_attention):
    d, frames, joints = 16, WINDOW, NUM_JOINTS
    mlp = 2 * d * 4 * d
    attention = 3 * d * d + d * d
    graph = 2 * d * d
    tokens = frames * joints
    products = 2 * d * (tokens * joints + tokens * frames)  # scores and their use, over joints and over frames
    adjacency = d * (tokens * joints + tokens * frames)
    similarity = d * tokens * frames
    block = tokens * (4 * mlp + 2 * attention + 2 * graph + 2 * 2 * d) + products + adjacency + similarity
    expected = tokens * (3 * d + d * 512 + 512 * 3) + block
    assert complexity.macs_per_frame(small_attention) * frames == expected


def test_counting_leaves_no_backend_behind():
    before = dict(BACKENDS)
    complexity.macs_per_frame("posemamba-s")
    assert before == BACKENDS
