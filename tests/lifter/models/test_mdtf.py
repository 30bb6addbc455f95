"""MDTF against the published networks of both stages (golden file), and where it leaves them on purpose."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints.tensors import read_weights
from lifter import load_lifter, scan
from lifter.load import build_for
from lifter.models import mdtf, posemamba
from lifter.models.layers.bone_aware import bone_classes, bone_features, turned
from lifter.models.mdtf import LARGE, MARK, MDTF, TINY, GraphMamba, JointGraph, JointNorm, MDTFConfig, join_stages
from lifter.skeletons import H36M17
from lifter.training.train import save_weights

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


@pytest.fixture(scope="module")
def golden(root):
    with np.load(root / "tests" / "golden" / "mdtf_tiny_seed0.npz") as npz:
        return {key: torch.from_numpy(npz[key]) for key in npz.files}


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
    scan.use_backend(published, backend)
    for state, key in zip(stages, ("bam_weights_abs_sum", "weights_abs_sum"), strict=True):
        # float32 sums of a million numbers taken in float64: any wrong weight shows
        assert recipe.checksum(state) == pytest.approx(float(golden[key]), rel=1e-6)
    before_fusion = []
    hook = published.fusion.register_forward_pre_hook(
        lambda fusion, streams: before_fusion.append(torch.cat(streams, -1))
    )
    x = golden["input"]
    with torch.inference_mode(), hook:
        found = {
            "bam_logits": published.bam(x, drops=False),
            "bone_features": published.bones(x),
            "output": published(x),
        }
    scan.use_backend(published, "auto")
    found["pre_fusion"] = turned(before_fusion[0], 1)[None, :9]
    for name, value in found.items():
        assert (value - golden[name]).abs().max() < TOLERANCE, name


def exchange_graphs(state):
    for key in [k for k in state if ".gcn." in k]:
        other = key.replace(".gcn.", ".gcn_b.")
        state[key], state[other] = state[other], state[key]


def forget_the_reversal(state):
    for key in [k for k in state if ".gcn_b.batch_norm." in k and state[k].ndim]:
        state[key] = state[key].flip(0)


def put_bones_at_their_ends(state):
    del state[MARK]


def exchange_stages_norms(state):
    for leaf in ("weight", "bias"):
        a, b = f"Spatial_norm.{leaf}", f"limbSpatialNorm.{leaf}"
        state[a], state[b] = state[b], state[a]


@pytest.mark.parametrize(
    "change", [exchange_graphs, forget_the_reversal, put_bones_at_their_ends, exchange_stages_norms]
)
def test_the_golden_output_notices_a_wrong_part(stages, golden, change):
    state = join_stages(*stages)
    change(state)
    _, model, _ = build_for(state)
    with torch.inference_mode():
        output = model.eval()(golden["input"])
    assert (output - golden["output"]).abs().max() > 0.1  # a thousand tolerances


# ---------------------------------------------------------------------------------------------- sizes and keys


@pytest.mark.parametrize(
    ("config", "parameters", "entries"), [(TINY, 823_269, 628), (LARGE, 4_313_781, 908)], ids=["tiny", "large"]
)
def test_sizes_are_those_of_the_published_networks(config, parameters, entries):
    model = MDTF(config)
    first = sum(p.numel() for p in model.bam.parameters())
    assert first == 110_526
    assert sum(p.numel() for p in model.parameters()) - first == parameters
    assert len(model.bam.state_dict()) == 218
    assert len(model.state_dict()) - 218 == entries


def mamba_shapes(d: int) -> dict[str, tuple[int, ...]]:
    rank = math.ceil(d / 16)
    shapes: dict[str, tuple[int, ...]] = {"in_proj.weight": (2 * d, d), "out_proj.weight": (d, d)}
    for s, (decays, skip) in {"": ("A_log", "D"), "_b": ("A_b_log", "D_b")}.items():
        shapes |= {
            decays: (d, 16), skip: (d,), f"conv1d{s}.weight": (d, 1, 4), f"conv1d{s}.bias": (d,),
            f"x_proj{s}.weight": (rank + 32, d), f"dt_proj{s}.weight": (d, rank), f"dt_proj{s}.bias": (d,),
        }  # fmt: skip
    return shapes


def mlp_and_norm_shapes(d: int, *norms: str) -> dict[str, tuple[int, ...]]:
    shapes = {
        "mlp.fc1.weight": (2 * d, d),
        "mlp.fc1.bias": (2 * d,),
        "mlp.fc2.weight": (d, 2 * d),
        "mlp.fc2.bias": (d,),
    }
    return shapes | {f"{norm}.{leaf}": (d,) for norm in norms for leaf in ("weight", "bias")}


def block_shapes(d: int) -> dict[str, tuple[int, ...]]:
    return {f"mamba.{key}": shape for key, shape in mamba_shapes(d).items()} | mlp_and_norm_shapes(d, "norm1", "norm2")


def graph_block_shapes(d: int) -> dict[str, tuple[int, ...]]:
    inner = mamba_shapes(d) | {
        f"{norm}.{leaf}": (d,) for norm in ("norm_gcn", "norm_gcn_b") for leaf in ("weight", "bias")
    }
    for graph in ("gcn", "gcn_b"):
        for linear in ("U", "V"):
            inner |= {f"{graph}.{linear}.weight": (d, d), f"{graph}.{linear}.bias": (d,)}
        inner |= {f"{graph}.batch_norm.{leaf}": (17,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        inner[f"{graph}.batch_norm.num_batches_tracked"] = ()
    mixer = {f"gcnmamba.{key}": shape for key, shape in inner.items()}
    return mixer | mlp_and_norm_shapes(d, "mambanorm1", "mambanorm2")


def published_shapes(d: int, depth: int) -> tuple[dict, dict]:
    """Keys and shapes of the two published files."""
    widths = (64, 32, 16, 8, 6)
    first: dict[str, tuple[int, ...]] = {
        "Spatial_patch_to_embedding.weight": (64, 3), "Spatial_patch_to_embedding.bias": (64,),
    }  # fmt: skip
    for i, (c, narrower) in enumerate(itertools.pairwise(widths)):
        first |= {
            f"{kind}.{i}.{key}": shape for kind in ("STEblocks", "TTEblocks") for key, shape in block_shapes(c).items()
        }
        first |= {
            f"{norm}.{i}.{leaf}": (c,) for norm in ("Spatial_norm", "Temporal_norm") for leaf in ("weight", "bias")
        }
        first |= {f"mlp.{i}.weight": (narrower, c), f"mlp.{i}.bias": (narrower,)}
    second: dict[str, tuple[int, ...]] = {
        "Spatial_pos_embed": (1, 17, d), "Temporal_pos_embed": (1, 243, d), "fusion.weight": (2, 2 * d),
        "fusion.bias": (2,), "head.0.weight": (d,), "head.0.bias": (d,), "head.1.weight": (3, d), "head.1.bias": (3,),
    }  # fmt: skip
    for embedding in ("Spatial_patch_to_embedding1", "Spatial_patch_to_embedding2"):
        second |= {f"{embedding}.weight": (d, 3), f"{embedding}.bias": (d,)}
    for norm in ("Spatial_norm", "Temporal_norm", "limbSpatialNorm", "limbTemporalNorm"):
        second |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
    blocks = {f"STEblocks.{i}": graph_block_shapes(d) for i in range(depth)}
    blocks |= {f"TTEblocks.{i}": block_shapes(d) for i in range(depth)}
    blocks |= {"limbSpatialMamba": block_shapes(d), "limbTemporalMamba": block_shapes(d)}
    second |= {f"{block}.{key}": shape for block, shapes in blocks.items() for key, shape in shapes.items()}
    return first, second


@pytest.mark.parametrize("config", [TINY, LARGE], ids=["tiny", "large"])
def test_keys_and_shapes_are_the_published_ones(config):
    first, second = published_shapes(config.width, config.depth)
    expected = {f"bam.{key}": shape for key, shape in first.items()} | second
    assert {key: tuple(x.shape) for key, x in MDTF(config).state_dict().items()} == expected


@pytest.mark.parametrize("config", [TINY, LARGE, replace(TINY, reference=True), MDTFConfig(32, 3, window=81)])
def test_the_configuration_is_read_from_the_weights(config):
    assert mdtf.config_of(MDTF(config).state_dict()) == config


def test_the_two_published_files_become_one(stages, published, tmp_path):
    files = [tmp_path / "bone_aware.pth", tmp_path / "lifter.pth"]
    for path, state in zip(files, stages, strict=True):
        torch.save({"epoch": 1, "model": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    save_weights(join_stages(*(read_weights(path).tensors for path in files)), {}, tmp_path / "mdtf.safetensors")
    lifter = load_lifter(tmp_path / "mdtf.safetensors", "cpu")
    assert lifter.model.config == replace(TINY, reference=True)
    assert (lifter.normalization, lifter.unit) == ("picture", "normalized")
    with torch.inference_mode():
        assert torch.equal(lifter.model(keypoints(9)), published(keypoints(9)))
    with pytest.raises(ValueError, match=r"the two published files are made one by lifter.models.mdtf.join_stages"):
        load_lifter(files[1], "cpu")


def test_weights_of_something_else_are_refused(tiny_model):
    whole = MDTF(SMALLEST).state_dict()
    second = {key: value for key, value in whole.items() if not key.startswith("bam.")}
    for state in ({}, tiny_model.state_dict(), second, whole | {"Spatial_pos_embed": torch.zeros(1, 17, 0)}):
        with pytest.raises(ValueError, match="no MDTF weights: expected keys such as bam"):
            mdtf.config_of(state)
    with pytest.raises(ValueError, match="no PoseMamba weights"):
        posemamba.config_of(whole)


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


def test_only_the_reference_gives_joints_the_bone_before_them(recipe):
    x = keypoints(5)
    right = make(SMALLEST, recipe).eval()
    wrong = MDTF(replace(SMALLEST, reference=True)).eval()
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


def literally(mixer: GraphMamba, u: torch.Tensor) -> torch.Tensor:
    """The mixer as the paper has it: the second direction runs over the joints from the last to the first."""

    def graph(layer: JointGraph, norm: nn.BatchNorm1d, near: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + norm(near @ layer.V(x) + layer.U(x)))

    def scanned(x: torch.Tensor, suffix: str) -> torch.Tensor:
        conv, x_proj, dt_proj = (getattr(mixer, f"{name}{suffix}") for name in ("conv1d", "x_proj", "dt_proj"))
        padded = torch.nn.functional.pad(x.mT, (3, 0))
        x = torch.nn.functional.silu(
            torch.nn.functional.conv1d(padded, conv.weight, conv.bias, groups=len(conv.weight))
        )
        R = dt_proj.in_features
        step, gate_in, gate_out = x_proj(x.mT).split([R, 16, 16], dim=-1)
        A = -torch.exp(mixer.A_b_log if suffix else mixer.A_log)
        return scan.selective_scan(
            x, (step @ dt_proj.weight.T).mT, A, gate_in.mT[:, None], gate_out.mT[:, None],
            getattr(mixer, f"D{suffix}"), delta_bias=dt_proj.bias, delta_softplus=True, backend="reference",
        ).mT  # fmt: skip

    near = torch.zeros(17, 17)  # float32, as what the network holds was made
    for a, b in H36M17.edges:
        near[a, b] = near[b, a] = 1
    near = (near / torch.sqrt(near.sum(0) * near.sum(1)[:, None])).double()
    norms = []
    for layer in (mixer.gcn, mixer.gcn_b):
        norm = nn.BatchNorm1d(17).double()
        norm.load_state_dict(layer.batch_norm.state_dict())
        norms.append(norm.train(mixer.training))
    X, Z = mixer.in_proj(u).chunk(2, dim=-1)
    gate = torch.nn.functional.silu(Z)
    ahead = scanned(graph(mixer.gcn, norms[0], near, mixer.norm_gcn(X)), "") * gate
    behind = scanned(graph(mixer.gcn_b, norms[1], near.flip(0, 1), mixer.norm_gcn_b(X.flip(1))), "_b") * gate.flip(1)
    return mixer.out_proj((ahead + behind.flip(1)) / 2)


@pytest.mark.parametrize("is_training", [False, True])
def test_nothing_is_reversed_and_all_comes_to_the_same(recipe, is_training):
    mixer = GraphMamba(16)
    mixer.load_state_dict(recipe.fill(mixer.state_dict(), 0))
    mixer.double().train(is_training)
    mixer.scan_backend = "reference"
    u = torch.randn(5, 17, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = literally(mixer, u)
    assert (mixer(u) - expected).abs().max() < 1e-12  # float64 rounding
    assert expected.abs().max() > 0.1


def test_the_reversed_norm_learns_what_a_norm_of_reversed_joints_learns():
    ours, plain = JointNorm(is_reversed=True), nn.BatchNorm1d(17)
    for _ in range(3):
        x = torch.randn(8, 17, 4) * torch.arange(1, 18.0)[:, None]
        y, expected = ours(x), plain(x.flip(1)).flip(1)
        assert (y - expected).abs().max() < 1e-5  # float32, values up to 4
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert (ours.eval()(x) - plain.eval()(x.flip(1)).flip(1)).abs().max() < 1e-5


# ---------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("frames", [1, 2, 242, 243])
def test_every_length_up_to_the_window_is_accepted(recipe, frames):
    output = make(SMALLEST, recipe).eval()(keypoints(frames))
    assert output.shape == (1, frames, 17, 3)
    assert output.isfinite().all()


def test_other_inputs_are_refused():
    model = MDTF(SMALLEST)
    with pytest.raises(ValueError, match="a window holds 1 to 243 frames, got 244; split longer clips first"):
        model(keypoints(244))
    for wrong in (torch.zeros(1, 9, 17, 2), torch.zeros(9, 17, 3)):
        with pytest.raises(ValueError, match=r"keypoints must have shape \(B, T, 17, 3\), got"):
            model(wrong)
        with pytest.raises(ValueError, match=r"keypoints must have shape \(B, T, 17, 3\), got"):
            model.pretraining_loss(wrong, torch.zeros(1, 9, 17, 3))


def test_first_frame_moves_the_temporal_embedding(recipe):
    model = make(SMALLEST, recipe).eval()
    moved = make(SMALLEST, recipe).eval()
    with torch.no_grad():
        moved.Temporal_pos_embed.copy_(model.Temporal_pos_embed.roll(-100, dims=1))
    x = keypoints(9)
    assert torch.equal(model(x, first_frame=100), moved(x))
    assert torch.equal(model(x, first_frame=torch.tensor([100])), moved(x))
    with pytest.raises(ValueError, match="a window holds 1 to 8 frames, got 9"):
        model(x, first_frame=235)


# ---------------------------------------------------------------------------------------------- two-stage training


def test_the_first_stage_answers_alike_while_the_second_is_trained(recipe):
    model = make(replace(SMALLEST, drop_path=0.9), recipe)
    x = keypoints(9, batch=4)
    while_training = model.train().bones(x)
    assert torch.equal(while_training, model.eval().bones(x))
    assert model.bam.training is False


def test_the_reference_leaves_its_first_stage_in_training(recipe):
    model = make(replace(SMALLEST, drop_path=0.9, reference=True), recipe)
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


def test_drop_path_grows_with_depth():
    model = MDTF(MDTFConfig(16, 5, drop_path=0.2))
    for blocks in (model.STEblocks, model.TTEblocks):
        assert [b.drop_path for b in blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    for blocks in (model.bam.STEblocks, model.bam.TTEblocks):
        assert [b.drop_path for b in blocks] == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])
    assert model.limbSpatialMamba.drop_path == model.limbTemporalMamba.drop_path == 0


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
