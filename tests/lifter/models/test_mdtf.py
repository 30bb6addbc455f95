"""MDTF against the published networks of both stages (golden file), and where it leaves them on purpose."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lifter import scan
from lifter.load import build_for
from lifter.models.layers.bone_aware import bone_classes, bone_features, turned
from lifter.models.mdtf import MARK, MDTF, TINY, JointNorm, MDTFConfig, join_stages

# The published networks, run in float32; float64 differs from them by 7.5e-6.
TOLERANCE = 1e-4
SMALLEST = MDTFConfig(width=16, depth=2)


@pytest.fixture(scope="module")
def stages(recipe):
    """State dicts of the two published files, as the golden file was made with."""
    state = MDTF(TINY).state_dict()
    first = {key.removeprefix("bam."): value for key, value in state.items() if key.startswith("bam.")}
    second = {key: value for key, value in state.items() if not key.startswith("bam.")}
    return recipe.fill(first, 0), recipe.fill(second, 0)


@pytest.fixture(scope="module")
def published(stages) -> MDTF:
    """The network that reads the published files."""
    _, model, _ = build_for(join_stages(*stages))
    return model.eval().requires_grad_(False)


def make(config: MDTFConfig, recipe) -> MDTF:
    """A network with weights that make every part matter."""
    model = MDTF(config)
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    return model.requires_grad_(True).train()


def keypoints(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, frames, 17, 3, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------- golden file


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_golden_output_of_both_stages(published, stages, golden, recipe, backend):
    if reason := scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    expected = {key: torch.from_numpy(x) for key, x in golden("mdtf_tiny_seed0").items()}
    scan.use_backend(published, backend)
    for state, key in zip(stages, ("bam_weights_abs_sum", "weights_abs_sum"), strict=True):
        # float32 sums of a million numbers taken in float64: any wrong weight shows
        assert recipe.checksum(state) == pytest.approx(float(expected[key]), rel=1e-6)
    before_fusion = []
    hook = published.fusion.register_forward_pre_hook(
        lambda fusion, streams: before_fusion.append(torch.cat(streams, -1))
    )
    x = expected["input"]
    with torch.inference_mode(), hook:
        found = {
            "bam_logits": published.bam(x, drops=False),
            "bone_features": published.bones(x),
            "output": published(x),
        }
    scan.use_backend(published, "auto")
    found["pre_fusion"] = turned(before_fusion[0], 1)[None, :9]
    for name, value in found.items():
        assert (value - expected[name]).abs().max() < TOLERANCE, name


# ---------------------------------------------------------------------------------------------- bones


@pytest.mark.parametrize(
    ("direction", "expected"),
    [((0, 0, 1), 0), ((0.1, 0, 1), 0), ((1, 0, 0), 3), ((0, -1, 0.01), 2), ((0.1, 0, -1), 5), ((0, 0, -1), 5),
     ((0, 0, 0), 0)],
    ids=["away", "nearly away", "sideways", "up", "nearly to us", "to us: 180 degrees", "no length"],
)  # fmt: skip
def test_classes_are_angles_to_the_viewing_axis(direction, expected):
    joints = torch.zeros(2, 17, 3)
    joints[:, 6] = torch.tensor(direction)  # left ankle, from the knee
    classes = bone_classes(joints)
    assert classes[:, 6].tolist() == [expected] * 2
    assert not classes[:, :6].any()
    assert not classes[:, 7:].any()


def test_features_of_a_bone_are_at_the_joint_it_ends_at():
    points = torch.zeros(17, 3)
    points[:, 2] = 0.7  # scores do not matter
    points[[11, 12, 13], :2] = torch.tensor([[0.1, 0.0], [0.1, -0.2], [0.4, -0.2]])  # shoulder, elbow up, wrist right
    classes = torch.zeros(17, dtype=torch.int64)
    classes[[12, 13]] = torch.tensor([1, 5])
    features = bone_features(points, classes)
    # class c lies around (2 c + 1) 15 degrees; the length is that of a bone which 2D shortens by the sine
    degrees = math.pi / 180
    torch.testing.assert_close(features[12], torch.tensor([-0.5, 3 / 12, 0.2 / math.sin(45 * degrees)]))
    torch.testing.assert_close(features[13], torch.tensor([0.0, 11 / 12, 0.3 / math.sin(165 * degrees)]))
    assert features[0].tolist() == [0, 0, 0]
    assert features[5].tolist() == pytest.approx([0, 1 / 12, 0])  # no length in 2D


def test_only_the_released_network_gives_joints_the_bone_before_them(recipe):
    x = keypoints(5)
    right = make(SMALLEST, recipe).eval()
    wrong = MDTF(replace(SMALLEST, as_released=True)).eval()
    wrong.load_state_dict(right.state_dict() | {MARK: wrong.state_dict()[MARK]})
    assert not right.bones(x)[:, :, 0].any()
    assert torch.equal(wrong.bones(x)[:, :, :16], right.bones(x)[:, :, 1:])
    assert not wrong.bones(x)[:, :, 16].any()
    assert (wrong(x) - right(x)).abs().max() > 0.01


def test_keypoints_that_coincide_are_no_trouble(recipe):
    model = make(SMALLEST, recipe)
    x = torch.zeros(2, 4, 17, 3)
    model(x).square().mean().backward()
    model.pretraining_loss(x, torch.zeros(2, 4, 17, 3)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# ---------------------------------------------------------------------------------------------- graph and scan


def test_the_reversed_norm_learns_what_a_norm_of_reversed_joints_learns():
    ours, plain = JointNorm(is_reversed=True), nn.BatchNorm1d(17)
    for _ in range(3):
        x = torch.randn(8, 17, 4) * torch.arange(1, 18.0)[:, None]
        y, expected = ours(x), plain(x.flip(1)).flip(1)
        assert (y - expected).abs().max() < 1e-5  # float32, values up to 4
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert (ours.eval()(x) - plain.eval()(x.flip(1)).flip(1)).abs().max() < 1e-5


# ---------------------------------------------------------------------------------------------- two-stage training


def test_the_first_stage_answers_alike_while_the_second_is_trained(recipe):
    model = make(replace(SMALLEST, drop_path=0.9), recipe)
    x = keypoints(9, batch=4)
    while_training = model.train().bones(x)
    assert torch.equal(while_training, model.eval().bones(x))
    assert model.bam.training is False


def test_the_released_network_leaves_its_first_stage_in_training(recipe):
    model = make(replace(SMALLEST, drop_path=0.9, as_released=True), recipe)
    x = keypoints(9, batch=4)
    torch.manual_seed(0)
    assert not torch.equal(model.train().bones(x), model.bones(x))
    assert torch.equal(model.eval().bones(x), model.bones(x))


def test_each_loss_trains_its_own_stage(recipe):
    model = make(SMALLEST, recipe)
    assert model.pretrained_part is model.bam
    first = {name for name, _ in model.named_parameters() if name.startswith("bam.")}

    def trained_by(loss: torch.Tensor) -> set[str]:
        model.zero_grad()
        loss.backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    x, joints = keypoints(9, batch=4), torch.randn(4, 9, 17, 3, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    model.train()
    assert trained_by(model.pretraining_loss(x, joints)) == first
    assert trained_by(model(x).square().mean()) == {name for name, _ in model.named_parameters()} - first


def test_a_first_stage_that_knows_nothing_has_the_loss_of_guessing():
    model = MDTF(SMALLEST)
    torch.nn.init.zeros_(model.bam.mlp[-1].weight)
    torch.nn.init.zeros_(model.bam.mlp[-1].bias)
    loss = model.pretraining_loss(keypoints(3), torch.randn(1, 3, 17, 3))
    assert float(loss.detach()) == pytest.approx(math.log(6))


def test_pretraining_learns_the_classes():
    torch.manual_seed(0)
    model = MDTF(replace(SMALLEST, drop_path=0.0)).train()
    joints = torch.randn(2, 3, 17, 3, generator=torch.Generator().manual_seed(0))
    x = joints * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 1.0])
    optimizer = torch.optim.AdamW(model.pretrained_part.parameters(), lr=1e-2)
    for _ in range(35):
        optimizer.zero_grad()
        model.pretraining_loss(x, joints).backward()
        optimizer.step()
    logits = model.bam(x, drops=False)
    assert (logits.argmax(-1) == bone_classes(joints)).float().mean() > 0.9  # by heart: 6 x 17 joints


def test_initialization():
    torch.manual_seed(0)
    model = MDTF(TINY)
    assert not model.Spatial_pos_embed.any()
    assert not model.Temporal_pos_embed.any()
    assert not model.fusion.weight.any()
    assert model.fusion.bias.tolist() == [0.5, 0.5]
    graphs = [graph for block in model.STEblocks for graph in (block.gcnmamba.gcn, block.gcnmamba.gcn_b)]
    spread = torch.cat([linear.weight.flatten() for graph in graphs for linear in (graph.U, graph.V)]).detach().std()
    assert float(spread) == pytest.approx(math.sqrt(2 / 64), rel=0.02)  # of 131 072 draws
