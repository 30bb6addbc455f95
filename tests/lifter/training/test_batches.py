"""Windows to train on: bodies, cameras and what a detector would see, on motion made up here."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lifter.skeletons import COCO17, H36M17, LIMB_JOINTS, NOMINAL_BONE_SUM_M, coco17_to_h36m17, mirror
from lifter.training.augmentation import body_augmentation, simulated_detector
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.augmentation.simulated_detector import coco17_from_h36m17, simulate_detections
from tests.people import QUIET, STANDING, STILL, batch_of


def random_bodies(count: int = 3, frames: int = 5) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.from_numpy(STANDING).expand(count, frames, 17, 3) + 0.05 * torch.randn(count, frames, 17, 3)


def test_detections_of_a_body_map_back_to_its_limbs():
    joints = random_bodies().double()
    coco = coco17_from_h36m17(joints)
    back = coco17_to_h36m17(coco)
    limbs = list(LIMB_JOINTS)
    assert torch.allclose(back[..., limbs, :], joints[..., limbs, :], rtol=0, atol=1e-12)  # float64 copies
    assert torch.allclose(back[..., 0, :], joints[..., [1, 4], :].mean(-2), rtol=0, atol=1e-12)


def test_the_face_is_where_a_face_is():
    # STANDING faces -y with its left side at +x and its head up at +z
    face = coco17_from_h36m17(torch.from_numpy(STANDING))
    at = {name: face[COCO17.index(name)] for name in COCO17.names}
    thorax = torch.from_numpy(STANDING)[H36M17.index("thorax")]
    assert at["nose"][1] < min(at[f"{side}_{part}"][1] for side in ("left", "right") for part in ("eye", "ear"))
    assert at["left_eye"][1] < at["left_ear"][1]  # eyes in front of ears
    for part in ("eye", "ear"):
        assert at[f"left_{part}"][0] > 0 > at[f"right_{part}"][0]
        assert float(at[f"left_{part}"][0]) == pytest.approx(-float(at[f"right_{part}"][0]), abs=1e-6)  # float32
    assert at["left_eye"][2] > at["nose"][2] > thorax[2]
    assert float((at["left_eye"] - at["right_eye"]).norm()) == pytest.approx(0.064, abs=1e-6)  # adult pupils


def test_mirrored_bodies_have_mirrored_faces():
    joints = random_bodies().double()
    flipped = coco17_from_h36m17(mirror(joints))
    expected = coco17_from_h36m17(joints)[..., list(COCO17.mirrored), :] * torch.tensor([-1.0, 1, 1]).double()
    assert torch.allclose(flipped, expected, rtol=0, atol=1e-12)  # float64


def test_scaled_bones_sum_to_the_nominal_adult():
    factors = 1 + 0.1 * torch.randn(3, 17)
    scaled = body_augmentation.scale_bones(random_bodies(), factors)
    bones = scaled[:, :, 1:] - scaled[:, :, list(H36M17.parents[1:])]
    sums = bones.norm(dim=-1).sum(-1).mean(-1)
    assert torch.allclose(sums, torch.full((3,), NOMINAL_BONE_SUM_M), rtol=1e-5)  # float32


def test_bones_are_scaled_alike_on_both_sides_and_keep_their_direction():
    joints = random_bodies()
    scaled = body_augmentation.scale_bones(joints, 1 + 0.2 * torch.randn(3, 17))
    parents = list(H36M17.parents[1:])
    before, after = joints[:, :, 1:] - joints[:, :, parents], scaled[:, :, 1:] - scaled[:, :, parents]
    assert torch.allclose(torch.cosine_similarity(before, after, dim=-1), torch.ones(()), atol=1e-5)  # float32
    factor = after.norm(dim=-1) / before.norm(dim=-1)  # (B, T, 16)
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), rtol=1e-4)  # one per window, float32 differences
    for left, right in H36M17.left_right:
        assert torch.allclose(factor[..., left - 1], factor[..., right - 1], rtol=1e-4)


def test_rotation_matrices_are_proper_and_known():
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 2
    rotation = body_augmentation.rotation_matrix(vectors)
    eye = torch.eye(3).expand(50, 3, 3)
    assert torch.allclose(rotation @ rotation.mT, eye, rtol=0, atol=1e-5)  # float32
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(50), rtol=0, atol=1e-5)
    assert torch.allclose((rotation @ vectors[..., None])[..., 0], vectors, rtol=0, atol=1e-5)  # the axis stays
    quarter = body_augmentation.rotation_matrix(torch.tensor([0, 0, math.pi / 2]))
    assert torch.allclose(quarter @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]), rtol=0, atol=1e-6)
    assert torch.equal(body_augmentation.rotation_matrix(torch.zeros(3)), torch.eye(3))


def test_varied_bodies_keep_their_bones_when_only_bent_and_tilted(library):
    # turning what lies below a joint changes no bone length
    recipe = replace(STILL, p_bend=1.0, p_tilt=1.0)
    world = body_augmentation.vary_motion(library, 6, 27, recipe, Rng(0))
    bones = (world[:, :, 1:] - world[:, :, list(H36M17.parents[1:])]).norm(dim=-1)
    assert float((bones.std(1) / bones.mean(1)).max()) < 2e-3  # float16 recordings: 2^-11 of 1 m on bones of 0.1 m


# ---------------------------------------------------------------------------------------------- whole batches


@pytest.mark.parametrize("normalization", ["person", "picture"])
@pytest.mark.parametrize("frames", [1, 9, 81])
def test_batches_have_their_shapes_and_a_pelvis_at_the_origin(library, normalization, frames):
    batch = batch_of(library, replace(AugmentationConfig(), normalization=normalization), 6, frames)
    assert batch.inputs.shape == (6, frames, 17, 3)
    assert batch.inputs[..., 2].min() >= 0 and batch.inputs[..., 2].max() <= 1 + 1e-6  # scores; mapped by means
    assert batch.joints.shape == (6, frames, 17, 3)
    assert torch.isfinite(batch.inputs).all()
    assert torch.isfinite(batch.joints).all()
    assert not batch.joints[:, :, 0].any()


def test_a_window_of_25_frames_per_second_is_every_second_frame_of_one_of_50(library):
    recipe = replace(
        AugmentationConfig(), normalization="picture"
    )  # by the person, a window is centered on its own frames
    dense, sparse = batch_of(library, recipe, 4, 17), batch_of(library, replace(recipe, fps=25.0), 4, 9)
    assert torch.equal(dense.inputs[:, ::2], sparse.inputs)
    assert torch.equal(dense.joints[:, ::2], sparse.joints)


def test_batches_depend_on_the_seed_alone(library):
    first, again, other = (batch_of(library, AugmentationConfig(), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.joints, again.joints)
    assert not torch.allclose(first.inputs, other.inputs)


def test_joints_are_an_adult_in_meters_with_y_down(library):
    batch = batch_of(library, replace(STILL, p_steep_camera=0.0), 16, 27)
    bones = batch.joints[:, :, 1:] - batch.joints[:, :, list(H36M17.parents[1:])]
    assert torch.allclose(bones.norm(dim=-1).sum(-1).mean(-1), torch.tensor(NOMINAL_BONE_SUM_M), rtol=1e-4)  # float32
    assert (batch.joints[:, :, H36M17.index("head"), 1] < 0).all()  # y points down
    assert (batch.joints[:, :, H36M17.index("left_ankle"), 1] > 0).all()


def pinhole_residual(inputs: np.ndarray, joints: np.ndarray) -> tuple[float, np.ndarray]:
    """Fit s (X + P) / (Z + P_z) = x per frame; return the largest miss in input units and s per frame.

    With q = s P_xy it is linear in (P_z, s, q_x, q_y): x P_z - s X - q = -x Z.
    """
    worst, scales = 0.0, []
    for x, joint in zip(inputs.astype(np.float64), joints.astype(np.float64), strict=True):
        rows, right = [], []
        for axis in range(2):
            unit = np.zeros((len(x), 2))
            unit[:, axis] = -1
            rows.append(np.column_stack([x[:, axis], -joint[:, axis], unit]))
            right.append(-x[:, axis] * joint[:, 2])
        solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
        depth, scale, *q = solution
        seen = (scale * joint[:, :2] + q) / (joint[:, 2:] + depth)
        worst = max(worst, float(np.abs(seen - x).max()))
        scales.append(scale)
    return worst, np.array(scales)


@pytest.mark.parametrize("normalization", ["person", "picture"])
@pytest.mark.parametrize("seed", range(4))
def test_clean_inputs_are_the_projection_of_the_targets(library, normalization, seed):
    # Every field of view is the assumed one: then a pinhole camera that sees the target joints (turned as the person
    # normalization turns them) gives the inputs up to one scale per window. Limbs only: other joints are averaged in
    # the picture.
    recipe = replace(QUIET, fov_degrees=(55.0, 55.0), person_height=(0.6, 0.85), normalization=normalization)
    batch = batch_of(library, recipe, 4, 9, seed)
    limbs = list(LIMB_JOINTS)
    for inputs, joints in zip(batch.inputs.numpy(), batch.joints.numpy(), strict=True):
        worst, scales = pinhole_residual(inputs[:, limbs, :2], joints[:, limbs])
        assert worst < 2e-4  # of a person of 2 units: float32 pixels around 1000
        # scale and distance can hardly be told apart in one frame: its scale is good to some per cent
        assert scales.std() / scales.mean() < 0.05
        if normalization == "picture":  # 2 f / width, of pictures whose longer side is the width or 16/9 of it
            expected = np.array([1, 16 / 9]) / math.tan(math.radians(55 / 2))
            assert np.abs(np.median(scales) / expected - 1).min() < 0.03


def test_noise_moves_the_inputs_and_leaves_the_targets(library):
    clean, noisy = (batch_of(library, recipe, 8, 27, seed=1) for recipe in (QUIET, AugmentationConfig(p_short=0.0)))
    assert not torch.allclose(clean.inputs, noisy.inputs, atol=0.02)
    # the person normalization turns the targets to where the noisy person seems to be: lengths stay as they are
    assert torch.allclose(clean.joints.norm(dim=-1), noisy.joints.norm(dim=-1), rtol=0, atol=1e-5)  # float32 meters


def test_windows_that_end_early_repeat_their_last_frame(library):
    batch = batch_of(library, replace(QUIET, p_short=1.0), 16, 27, seed=3)
    ends = [int((window.diff(dim=0).abs().amax((1, 2)) > 0).sum()) for window in batch.inputs]  # frames that moved
    assert min(ends) < 10 < max(ends)  # of 26, drawn evenly
    for inputs, joints, last in zip(batch.inputs, batch.joints, ends, strict=True):
        assert torch.equal(inputs[last:], inputs[-1:].expand(27 - last, -1, -1))
        assert torch.equal(joints[last:], joints[-1:].expand(27 - last, -1, -1))


# ---------------------------------------------------------------------------------------------- detections


def pixels_of_a_line(count=32, frames=60) -> torch.Tensor:
    """A person of 200 px who moves evenly: linear interpolation in time is exact."""
    flat = (torch.from_numpy(STANDING[:, [0, 2]]) * torch.tensor([1.0, -1]) * (200 / 1.64) + 400).round()
    return flat + torch.arange(frames)[:, None, None] * torch.tensor([3.0, 1]) + torch.zeros(count, 1, 1, 1)


def only(**noise) -> AugmentationConfig:
    return replace(QUIET, **noise)


def seen_by(recipe: AugmentationConfig, pixels: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    """Where a detector sees ``pixels``; by default every joint can be seen."""
    return detected_in(recipe, pixels, hidden)[..., :2]


def detected_in(recipe: AugmentationConfig, pixels: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    if hidden is None:
        hidden = torch.zeros(pixels.shape[:-1], dtype=torch.bool)
    return simulate_detections(pixels, hidden, recipe, Rng(0))


def spans(changed: torch.Tensor) -> list[tuple[int, int]]:
    """Return (first, last) of the one run of True in each row of (B, T); asserts that there is one at most."""
    found = []
    for row in changed:
        frames = row.nonzero()[:, 0].tolist()
        if frames:
            assert frames == list(range(frames[0], frames[-1] + 1))
            found.append((frames[0], frames[-1]))
    return found


def test_without_noise_detections_are_exact():
    pixels = pixels_of_a_line()
    assert torch.equal(seen_by(QUIET, pixels), pixels)


def test_bridge_known_answer():
    keypoints = torch.arange(6.0)[None, :, None, None].square().expand(4, 6, 17, 2)
    missing = torch.tensor([[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1] * 6]).bool()
    bridged = simulated_detector._bridge(keypoints, missing)[..., 0, 0]
    assert bridged.tolist() == [[0, 1, 6, 11, 16, 25], [4, 4, 4, 9, 16, 25], [0, 1, 4, 9, 16, 16], [0, 1, 4, 9, 16, 25]]


def test_swaps_exchange_arms_or_legs_for_a_while():
    pixels = pixels_of_a_line()
    seen = seen_by(only(p_swap=1.0), pixels)
    lengths = []
    for parts in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        left = [COCO17.index(f"left_{p}") for p in parts]
        right = [COCO17.index(f"right_{p}") for p in parts]
        exchanged = (seen[:, :, left] == pixels[:, :, right]).all(-1).all(-1)
        unchanged = (seen[:, :, left] == pixels[:, :, left]).all(-1).all(-1)
        assert (exchanged ^ unchanged).all()
        lengths += [last - first + 1 for first, last in spans(exchanged)]
    assert max(lengths) <= 15
    face = [i for i, name in enumerate(COCO17.names) if name.split("_")[-1] in ("nose", "eye", "ear")]
    assert torch.equal(seen[:, :, face], pixels[:, :, face])


def test_bursts_shift_single_joints_for_a_while():
    pixels = pixels_of_a_line()
    shift = seen_by(only(p_burst=1.0), pixels) - pixels
    for joint in range(17):
        found = spans((shift[:, :, joint].abs() > 1e-6).any(-1))
        assert max(last - first + 1 for first, last in found) <= 20
    sizes = shift.abs().amax(1)  # (B, 17, 2): one constant shift per joint
    assert ((shift.abs() < 1e-6) | ((shift.abs() - sizes[:, None]).abs() < 1e-3)).all()


# Nose and limbs have spreads of their own; the rest of the face shares that of the body part it is named after.
SPREADS = torch.tensor(
    [simulated_detector.SPREAD[name.rpartition("_")[2]] for name in COCO17.names]
)  # (17, 2) seen, hidden


def test_bias_is_constant_and_in_units_of_the_person():
    pixels = pixels_of_a_line(count=64)
    shift = seen_by(only(joint_bias=0.01), pixels) - pixels
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-3)  # noise drawn in float32
    size = float((pixels.amax(2) - pixels.amin(2)).amax(-1).mean())
    # 64 * 34 draws: their standard deviation is known to 1.5 %
    assert float((shift[:, 0] / SPREADS[:, :1]).std()) == pytest.approx(0.01 * size, rel=0.06)


def test_hidden_joints_are_marked_worse_and_neighbors_in_time_share_it():
    pixels = pixels_of_a_line(count=256)
    hidden = torch.zeros(pixels.shape[:-1], dtype=torch.bool)
    hidden[:, 30:, 9] = True  # the left wrist, half of the time
    shift = (seen_by(only(joint_bias=0.01), pixels, hidden) - pixels)[:, :, 9]
    spread = shift.std(dim=(0, 2)) / float((pixels.amax(2) - pixels.amin(2)).amax(-1).mean())
    assert float(spread[40] / spread[20]) == pytest.approx(
        simulated_detector.SPREAD["wrist"][1] / simulated_detector.SPREAD["wrist"][0], rel=1e-3
    )
    assert (spread.diff() >= -1e-6).all()
    assert float(spread.diff().max()) < 0.2 * float(spread[40])  # no jump


@pytest.mark.parametrize("noise", [{"slow_jitter": (0.01, 0.01)}, {"white_jitter": (0.01, 0.01)}])
def test_jitter_has_its_size(noise):
    pixels = pixels_of_a_line(count=128)
    shift = (seen_by(only(**noise), pixels) - pixels) / SPREADS[:, :1]
    size = float((pixels.amax(2) - pixels.amin(2)).amax(-1).mean())
    # between its knots a smooth curve is a weighted mean of two draws: 0.75 of their variance on average
    expected = 0.01 * math.sqrt(0.75) if "slow_jitter" in noise else 0.01
    assert float(shift.std()) == pytest.approx(expected * size, rel=0.06)
    step = float(shift.diff(dim=1).std() / shift.std())
    assert step < 0.25 if "slow_jitter" in noise else step == pytest.approx(math.sqrt(2), rel=0.05)


def test_the_detectors_offset_points_up_the_trunk():
    upright = 300 - 200 * simulated_detector.coco17_from_h36m17(torch.from_numpy(STANDING))[..., [0, 2]].expand(
        4, 60, 17, 2
    )
    size = float((upright.amax(2) - upright.amin(2)).amax(-1).mean())
    lying = torch.stack([-upright[..., 1], upright[..., 0]], dim=-1)  # head (-y) to the right
    for pixels, up in ((upright, (0.0, -1.0)), (lying, (1.0, 0.0))):
        shift = (seen_by(only(offset=(1.0, 1.0)), pixels) - pixels) / size
        for name, amount in (("left_shoulder", 0.023), ("right_ankle", 0.014), ("left_eye", 0.0)):
            along = shift[..., COCO17.index(name), :] @ torch.tensor(up)
            assert along.numpy() == pytest.approx(np.full(along.shape, amount), abs=2e-3)  # the pelvis is not level


def test_exact_windows_are_the_truth():
    pixels = pixels_of_a_line(count=200)
    shift = seen_by(only(joint_bias=0.01, white_jitter=(0.01, 0.01), p_exact=0.3), pixels) - pixels
    is_exact = (shift == 0).flatten(1).all(1)
    assert 0.2 < float(is_exact.float().mean()) < 0.4  # 200 draws of 0.3: three standard deviations are 0.1


def standing_in_front(turned: float) -> torch.Tensor:
    """Joints (1, 1, 17, 3) m in camera axes, 4 m away, turned about the vertical; 0 faces the camera."""
    x, y, z = torch.from_numpy(STANDING).T
    cos, sin = math.cos(turned), math.sin(turned)
    return torch.stack([cos * x - sin * y, 1.0 - z, sin * x + cos * y + 4.0], dim=-1)[None, None]


def test_a_body_hides_its_far_side():
    def hidden(joints):
        return {
            name
            for name, flag in zip(COCO17.names, simulated_detector.hidden_joints(joints)[0, 0], strict=True)
            if flag
        }

    limbs = {name for name in COCO17.names if not name.endswith(("eye", "ear", "nose"))}
    assert not hidden(standing_in_front(0.0)) & limbs
    left, right = hidden(standing_in_front(math.pi / 2)) & limbs, hidden(standing_in_front(-math.pi / 2)) & limbs
    assert {"left_shoulder", "left_hip"} <= left or {"right_shoulder", "right_hip"} <= left
    assert right == {name.replace("left", "x").replace("right", "left").replace("x", "right") for name in left}
    behind = standing_in_front(0.0)
    behind[0, 0, H36M17.index("left_wrist")] = behind[0, 0, H36M17.index("spine")] + torch.tensor([0, 0, 0.25])
    assert "left_wrist" in hidden(behind)
    behind[0, 0, H36M17.index("left_wrist"), 2] -= 0.5  # in front of the belly
    assert "left_wrist" not in hidden(behind)


def test_scores_fall_where_joints_are_hidden_jump_or_are_missed():
    pixels = pixels_of_a_line()
    hidden = torch.zeros(pixels.shape[:-1], dtype=torch.bool)
    hidden[:, :, COCO17.index("left_wrist")] = True
    scores = detected_in(only(p_unscored=0.0), pixels, hidden)[..., 2]
    is_wrist = torch.arange(17) == COCO17.index("left_wrist")
    assert torch.equal(scores[..., ~is_wrist], torch.ones_like(scores[..., ~is_wrist]))
    assert scores[..., is_wrist].numpy() == pytest.approx(np.full((32, 60, 1), 1 - simulated_detector.HIDDEN_LOSS))
    recipe = only(p_unscored=0.0, p_burst=0.5, burst_size=1.0)
    found = detected_in(recipe, pixels)
    outliers = (found[..., :2] - pixels).abs().amax(-1) > 0
    assert torch.equal(found[..., 2] < 1, outliers)
    missed = detected_in(only(p_unscored=0.0, p_dropout=1.0), pixels)[..., 2]
    assert torch.equal(missed.amin(-1), missed.amax(-1))  # everybody or nobody
    assert 0 < float((missed == 0).float().mean()) < 12 / 60
    assert torch.equal(detected_in(only(p_unscored=1.0, p_dropout=1.0), pixels, hidden)[..., 2], torch.ones(32, 60, 17))


def test_a_lower_frame_rate_keeps_even_motion_but_for_the_ends():
    pixels = pixels_of_a_line()
    seen = seen_by(only(p_low_rate=1.0), pixels)
    # a frame of a 10 fps film lasts five of ours; beyond the window it is held
    assert torch.allclose(seen[:, 5:-5], pixels[:, 5:-5], rtol=0, atol=1e-2)  # times in float32
    assert (seen - pixels).abs().max() <= 5 * 3


def test_a_lower_frame_rate_smooths_fast_motion():
    zigzag = pixels_of_a_line() + 20 * (torch.arange(60) % 2)[:, None, None]
    seen = seen_by(only(p_low_rate=1.0), zigzag)
    assert seen.diff(n=2, dim=1).abs().mean() < 0.7 * zigzag.diff(n=2, dim=1).abs().mean()
