"""Training windows, losses and the training loop, on motion made up here in the documented file format."""

import csv
import functools
import itertools
import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import app.train
import lifter
from lifter import checkpoints
from lifter.models.hgmamba import HGMamba, HGMambaConfig
from lifter.models.mdtf import MDTF, MDTFConfig
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.skeletons import COCO17, H36M17, LIMB_JOINTS, NOMINAL_BONE_SUM_M, coco17_to_h36m17
from lifter.training import ablation, data, losses, motion, train
from lifter.training.data import CLEAN, Randomness, Recipe, coco17_from_h36m17, detect, make_batch
from lifter.training.evaluate import validate
from lifter.training.gradients import Gradients, Portion, RecordedGradients
from lifter.training.losses import LossWeights
from lifter.training.motion import MotionLibrary, load_motion, split_of
from lifter.training.schedules import OUR_LOSS, SCHEDULES, Schedule, Stage

# H36M-17 standing, metres, z up, facing -y (the left side is at +x).
STANDING = np.array(
    [[0, 0, 0.95], [-0.13, 0, 0.95], [-0.14, 0, 0.5], [-0.15, 0.02, 0.08], [0.13, 0, 0.95], [0.14, 0, 0.5],
     [0.15, 0.02, 0.08], [0, 0, 1.2], [0, 0, 1.45], [0, -0.08, 1.6], [0, -0.02, 1.72],
     [0.17, 0, 1.43], [0.22, 0, 1.15], [0.24, -0.05, 0.9], [-0.17, 0, 1.43], [-0.22, 0, 1.15], [-0.24, -0.05, 0.9]],
    np.float32,
)  # fmt: skip
QUIET = replace(Recipe(), **CLEAN)
STILL = replace(QUIET, speed=(1.0, 1.0), splice=0.0, bend=0.0, tilt=0.0, bone_scale=0.0)


def waving(frames: int, phase: float = 0.0) -> np.ndarray:
    """Somebody who shifts weight and swings both arms, world metres (F, 17, 3)."""
    time = np.arange(frames, dtype=np.float32) / 50
    joints = np.repeat(STANDING[None], frames, axis=0).copy()
    for side, sign in (("left", 1), ("right", -1)):
        swing = 0.6 * np.sin(2 * np.pi * (0.9 * time + phase)) * sign
        shoulder = STANDING[H36M17.index(f"{side}_shoulder")]
        for part in ("elbow", "wrist"):
            arm = STANDING[H36M17.index(f"{side}_{part}")] - shoulder
            y = arm[1] * np.cos(swing) - arm[2] * np.sin(swing)
            z = arm[1] * np.sin(swing) + arm[2] * np.cos(swing)
            joints[:, H36M17.index(f"{side}_{part}"), 1] = shoulder[1] + y
            joints[:, H36M17.index(f"{side}_{part}"), 2] = shoulder[2] + z
    joints[..., 0] += 0.1 * np.sin(2 * np.pi * 0.4 * time)[:, None]
    return joints


def write_mocap(path, clips: dict[str, np.ndarray], fps: float = 50.0):
    joints = np.concatenate(list(clips.values()))
    root = joints[:, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        rel=(joints - root[:, None]).astype(np.float16),
        root=root.astype(np.float32),
        clip_start=np.cumsum([0, *(len(clip) for clip in clips.values())]),
        clip_name=np.array(list(clips)),
        fps=fps,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> MotionLibrary:
    folder = tmp_path_factory.mktemp("mocap")
    write_mocap(folder / "made_up.npz", {"wave": waving(300), "wave again": waving(150, 0.3), "short": waving(20)})
    return load_motion(folder, "train")


def batch_of(library, recipe, count=4, frames=27, seed=0):
    return make_batch(library, count, frames, recipe, Randomness(seed))


# ---------------------------------------------------------------------------------------------- motion files


def test_clips_are_read_with_their_places(library):
    assert library.names == ("made_up:wave", "made_up:wave again", "made_up:short")
    assert library.lengths.tolist() == [300, 150, 20]
    assert library.starts.tolist() == [0, 300, 450]
    assert library.minutes == pytest.approx(470 / 50 / 60)
    # stored as float16 relative to the pelvis: 2^-11 of up to 1 m
    np.testing.assert_allclose(library.joints[:300].numpy(), waving(300), rtol=0, atol=5e-4)


@pytest.mark.parametrize("speed", [1.0, 0.6, 2.0])
def test_windows_come_from_one_clip_at_the_asked_speed(speed):
    # every coordinate of frame f is f: two clips, frames 0-99 and 100-149
    frames = torch.arange(150.0)[:, None, None].expand(150, 17, 3)
    counter = MotionLibrary(frames, torch.tensor([0, 100]), torch.tensor([100, 50]), ("a", "b"), torch.ones(2) / 2)
    windows = counter.draw(40, 9, (speed, speed), torch.Generator().manual_seed(0))
    assert windows.shape == (40, 9, 17, 3)
    places = windows[..., 0, 0]
    assert torch.allclose(places.diff(dim=1), torch.tensor(speed), rtol=0, atol=1e-4)  # float32 around 100
    assert torch.equal(places[:, 0] >= 100, places[:, -1] >= 100)
    assert 5 < (places[:, 0] >= 100).sum() < 35  # both clips are drawn
    assert places.max() <= 149


def test_a_window_longer_than_its_clip_stands_still_at_the_end(library):
    short = MotionLibrary(library.joints[450:], torch.tensor([0]), torch.tensor([20]), ("short",), torch.ones(1))
    window = short.draw(1, 30, (1.0, 1.0), torch.Generator().manual_seed(0))[0]
    assert torch.allclose(window[:20], short.joints, rtol=0, atol=1e-6)  # interpolated at whole frames
    assert torch.equal(window[20:], short.joints[-1].expand(10, 17, 3))


@pytest.mark.parametrize(
    ("file", "clip", "split"),
    [
        ("cmu_01", "01_01", "unseen"),
        ("cmusub_16", "x", "unseen"),
        ("cmu_07_ic", "x", "unseen"),
        ("uiprmd_s09", "x", "validation"),
        ("uiprmd_s01", "x", "train"),
        ("cmu_85", "85_14", "validation"),
        ("cmu_85", "85_02", "train"),
        ("accad_female1", "Female1_A12_CrawlBackwards_poses", "validation"),
        ("accad_female1", "Female1_A01_Stand_poses", "train"),
        ("accad_eric", "x", "validation"),
        ("never_seen_before", "x", "train"),
    ],
)
def test_every_subject_has_its_split(file, clip, split):
    assert split_of(file, clip) == split


def test_splits_share_no_clip_and_reserved_subjects_are_never_trained_on(tmp_path):
    for name in ("cmu_01", "cmusub_16", "cmu_05_ic", "uiprmd_s01", "uiprmd_s09", "cmu_85", "sub/accad_eric"):
        write_mocap(tmp_path / f"{name}.npz", {"85_14": waving(9), "85_02": waving(9)})
    names = {split: set(load_motion(tmp_path, split).names) for split in ("train", "validation", "unseen")}
    assert sum(len(n) for n in names.values()) == len(set.union(*names.values())) == 14
    assert names["train"] == {"uiprmd_s01:85_14", "uiprmd_s01:85_02", "cmu_85:85_02"}
    assert {n.split(":")[0] for n in names["unseen"]} == {"cmu_01", "cmusub_16", "cmu_05_ic"}


def test_kinds_of_motion_share_the_draws(tmp_path):
    # a thousand times more exercise than dance still gives each its share: 0.33 and 0.12 of what is there
    names = ["uiprmd_s01:a", "uiprmd_s01:b", "cmu_60:salsa"]
    weights = motion.clip_weights(names, np.array([4000, 1000, 5]))
    assert weights.sum() == pytest.approx(1)
    assert weights[2] / weights[:2].sum() == pytest.approx(0.12 / 0.33)
    assert weights[0] / weights[1] == pytest.approx(2)  # by the root of the length


def test_a_file_at_another_rate_is_refused(tmp_path):
    write_mocap(tmp_path / "slow.npz", {"a": waving(9)}, fps=30.0)
    with pytest.raises(ValueError, match=r"slow.npz has 30.0 fps, expected 50.0; resample it first"):
        load_motion(tmp_path, "train")


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_motion_says_so(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no train motion"):
        load_motion(tmp_path / folder, "train")


def test_the_fingerprint_tells_motions_apart(library):
    other = replace(library, joints=library.joints + 1e-3)
    renamed = replace(library, names=("a", "b", "c"))
    assert len({motion.fingerprint(x) for x in (library, other, renamed)}) == 3
    assert motion.fingerprint(library) == motion.fingerprint(library.to("cpu"))


def test_recorded_motion_has_three_separate_splits(shared):
    folder = shared / "data" / "mocap"
    if not folder.is_dir():
        pytest.skip("no mocap in shared/data")
    libraries = {split: load_motion(folder, split) for split in ("train", "validation", "unseen")}
    names = [name for x in libraries.values() for name in x.names]
    assert len(names) == len(set(names))
    for x in libraries.values():
        assert torch.isfinite(x.joints).all()
        assert (x.lengths > 0).all()
        assert int(x.lengths.sum()) == len(x.joints)
    bones = libraries["train"].joints[:, 1:] - libraries["train"].joints[:, list(H36M17.parents[1:])]
    size = bones.norm(dim=-1).sum(-1)
    assert float(size.mean()) == pytest.approx(NOMINAL_BONE_SUM_M, rel=0.1)  # metres: adults
    up = libraries["train"].joints[:, H36M17.index("head"), 2] - libraries["train"].joints[:, 0, 2]
    assert float(up.median()) > 0.5  # z up: most people stand most of the time


# ---------------------------------------------------------------------------------------------- bodies


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
    flipped = coco17_from_h36m17(data.mirror(joints))
    expected = coco17_from_h36m17(joints)[..., list(COCO17.mirrored), :] * torch.tensor([-1.0, 1, 1]).double()
    assert torch.allclose(flipped, expected, rtol=0, atol=1e-12)  # float64


def test_mirroring_twice_is_the_identity():
    joints = random_bodies()
    assert torch.equal(data.mirror(data.mirror(joints)), joints)


def test_scaled_bones_sum_to_the_nominal_adult():
    factors = 1 + 0.1 * torch.randn(3, 17)
    scaled = data.scale_bones(random_bodies(), factors)
    bones = scaled[:, :, 1:] - scaled[:, :, list(H36M17.parents[1:])]
    sums = bones.norm(dim=-1).sum(-1).mean(-1)
    assert torch.allclose(sums, torch.full((3,), NOMINAL_BONE_SUM_M), rtol=1e-5)  # float32


def test_bones_are_scaled_alike_on_both_sides_and_keep_their_direction():
    joints = random_bodies()
    scaled = data.scale_bones(joints, 1 + 0.2 * torch.randn(3, 17))
    parents = list(H36M17.parents[1:])
    before, after = joints[:, :, 1:] - joints[:, :, parents], scaled[:, :, 1:] - scaled[:, :, parents]
    assert torch.allclose(torch.cosine_similarity(before, after, dim=-1), torch.ones(()), atol=1e-5)  # float32
    factor = after.norm(dim=-1) / before.norm(dim=-1)  # (B, T, 16)
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), rtol=1e-4)  # one per window, float32 differences
    for left, right in H36M17.left_right:
        assert torch.allclose(factor[..., left - 1], factor[..., right - 1], rtol=1e-4)


def test_no_scaling_only_sizes_the_body():
    joints = random_bodies()
    scaled = data.scale_bones(joints, torch.ones(3, 17))
    ratio = scaled / joints
    assert torch.allclose(ratio, ratio[:, :1, :1, 2:3].expand_as(ratio), rtol=1e-3)  # float32, small coordinates


def test_rotation_matrices_are_proper_and_known():
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 2
    rotation = data.rotation_matrix(vectors)
    eye = torch.eye(3).expand(50, 3, 3)
    assert torch.allclose(rotation @ rotation.mT, eye, rtol=0, atol=1e-5)  # float32
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(50), rtol=0, atol=1e-5)
    assert torch.allclose((rotation @ vectors[..., None])[..., 0], vectors, rtol=0, atol=1e-5)  # the axis stays
    quarter = data.rotation_matrix(torch.tensor([0, 0, math.pi / 2]))
    assert torch.allclose(quarter @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]), rtol=0, atol=1e-6)
    assert torch.equal(data.rotation_matrix(torch.zeros(3)), torch.eye(3))


def test_varied_bodies_keep_their_bones_when_only_bent_and_tilted(library):
    # turning what lies below a joint changes no bone length
    recipe = replace(STILL, bend=1.0, tilt=1.0)
    world = data.vary_motion(library, 6, 27, recipe, Randomness(0))
    bones = (world[:, :, 1:] - world[:, :, list(H36M17.parents[1:])]).norm(dim=-1)
    assert float((bones.std(1) / bones.mean(1)).max()) < 2e-3  # float16 recordings: 2^-11 of 1 m on bones of 0.1 m


# ---------------------------------------------------------------------------------------------- whole batches


@pytest.mark.parametrize("normalization", ["person", "picture"])
@pytest.mark.parametrize("frames", [1, 9, 81])
def test_batches_have_their_shapes_and_a_pelvis_at_the_origin(library, normalization, frames):
    batch = batch_of(library, replace(Recipe(), normalization=normalization), 6, frames)
    assert batch.inputs.shape == (6, frames, 17, 3)
    assert batch.inputs[..., 2].min() >= 0 and batch.inputs[..., 2].max() <= 1 + 1e-6  # scores; mapped by means
    assert batch.joints.shape == (6, frames, 17, 3)
    assert torch.isfinite(batch.inputs).all()
    assert torch.isfinite(batch.joints).all()
    assert not batch.joints[:, :, 0].any()


def test_batches_depend_on_the_seed_alone(library):
    first, again, other = (batch_of(library, Recipe(), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.joints, again.joints)
    assert not torch.allclose(first.inputs, other.inputs)


def test_joints_are_an_adult_in_metres_with_y_down(library):
    batch = batch_of(library, replace(STILL, steep_camera=0.0), 16, 27)
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
    clean, noisy = (batch_of(library, recipe, 8, 27, seed=1) for recipe in (QUIET, Recipe(short=0.0)))
    assert not torch.allclose(clean.inputs, noisy.inputs, atol=0.02)
    # the person normalization turns the targets to where the noisy person seems to be: lengths stay as they are
    assert torch.allclose(clean.joints.norm(dim=-1), noisy.joints.norm(dim=-1), rtol=0, atol=1e-5)  # float32 metres


# ---------------------------------------------------------------------------------------------- detections


def pixels_of_a_line(count=32, frames=60) -> torch.Tensor:
    """A person of 200 px who moves evenly: linear interpolation in time is exact."""
    flat = (torch.from_numpy(STANDING[:, [0, 2]]) * torch.tensor([1.0, -1]) * (200 / 1.64) + 400).round()
    return flat + torch.arange(frames)[:, None, None] * torch.tensor([3.0, 1]) + torch.zeros(count, 1, 1, 1)


def only(**noise) -> Recipe:
    return replace(QUIET, **noise)


def seen_by(recipe: Recipe, pixels: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    """Where a detector sees ``pixels``; by default every joint can be seen."""
    return detected_in(recipe, pixels, hidden)[..., :2]


def detected_in(recipe: Recipe, pixels: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    if hidden is None:
        hidden = torch.zeros(pixels.shape[:-1], dtype=torch.bool)
    return detect(pixels, hidden, recipe, Randomness(0))


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


def test_a_gap_is_bridged_in_a_straight_line():
    # zigzag, so that frames inside a gap differ from what is seen
    pixels = pixels_of_a_line() + 20 * (torch.arange(60) % 2)[:, None, None]
    seen = seen_by(only(dropout=1.0), pixels)
    changed = (seen != pixels).flatten(2).any(2)
    assert changed.any()
    for row in range(len(pixels)):
        frames = changed[row].nonzero()[:, 0]
        if not len(frames):
            continue
        first, last = int(frames[0]) - 1, int(frames[-1]) + 1
        assert 1 <= last - first - 1 <= 12
        if first < 0 or last >= 60:  # nothing on one side: the nearest frame stands still
            held = pixels[row, last if first < 0 else first]
            assert torch.equal(seen[row, max(first, 0) + (first >= 0) : last], held.expand(last - 1 - first, 17, 2))
            continue
        weight = torch.linspace(0, 1, last - first + 1)[1:-1, None, None]
        expected = torch.lerp(pixels[row, first].expand(len(weight), 17, 2), pixels[row, last], weight)
        assert torch.allclose(seen[row, first + 1 : last], expected, rtol=0, atol=1e-3)  # weights in float32


def test_bridge_known_answer():
    keypoints = torch.arange(6.0)[None, :, None, None].square().expand(4, 6, 17, 2)
    missing = torch.tensor([[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1] * 6]).bool()
    bridged = data._bridge(keypoints, missing)[..., 0, 0]
    assert bridged.tolist() == [[0, 1, 6, 11, 16, 25], [4, 4, 4, 9, 16, 25], [0, 1, 4, 9, 16, 16], [0, 1, 4, 9, 16, 25]]


def test_swaps_exchange_arms_or_legs_for_a_while():
    pixels = pixels_of_a_line()
    seen = seen_by(only(swap=1.0), pixels)
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
    shift = seen_by(only(burst=1.0), pixels) - pixels
    for joint in range(17):
        found = spans((shift[:, :, joint].abs() > 1e-6).any(-1))
        assert max(last - first + 1 for first, last in found) <= 20
    sizes = shift.abs().amax(1)  # (B, 17, 2): one constant shift per joint
    assert ((shift.abs() < 1e-6) | ((shift.abs() - sizes[:, None]).abs() < 1e-3)).all()


# Nose and limbs have spreads of their own; the rest of the face shares that of the body part it is named after.
SPREADS = torch.tensor([data.SPREAD[name.rpartition("_")[2]] for name in COCO17.names])  # (17, 2) seen, hidden


def test_bias_is_constant_and_in_units_of_the_person():
    pixels = pixels_of_a_line(count=64)
    shift = seen_by(only(joint_bias=0.01), pixels) - pixels
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-3)  # noise drawn in float32
    size = float((pixels.amax(2) - pixels.amin(2)).amax(-1).mean())
    # 64 * 34 draws: their standard deviation is known to 1.5 %
    assert float((shift[:, 0] / SPREADS[:, :1]).std()) == pytest.approx(0.01 * size, rel=0.06)


def test_hidden_joints_are_marked_worse_and_neighbours_in_time_share_it():
    pixels = pixels_of_a_line(count=256)
    hidden = torch.zeros(pixels.shape[:-1], dtype=torch.bool)
    hidden[:, 30:, 9] = True  # the left wrist, half of the time
    shift = (seen_by(only(joint_bias=0.01), pixels, hidden) - pixels)[:, :, 9]
    spread = shift.std(dim=(0, 2)) / float((pixels.amax(2) - pixels.amin(2)).amax(-1).mean())
    assert float(spread[40] / spread[20]) == pytest.approx(data.SPREAD["wrist"][1] / data.SPREAD["wrist"][0], rel=1e-3)
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
    upright = 300 - 200 * data.coco17_from_h36m17(torch.from_numpy(STANDING))[..., [0, 2]].expand(4, 60, 17, 2)
    size = float((upright.amax(2) - upright.amin(2)).amax(-1).mean())
    lying = torch.stack([-upright[..., 1], upright[..., 0]], dim=-1)  # head (-y) to the right
    for pixels, up in ((upright, (0.0, -1.0)), (lying, (1.0, 0.0))):
        shift = (seen_by(only(offset=(1.0, 1.0)), pixels) - pixels) / size
        for name, amount in (("left_shoulder", 0.023), ("right_ankle", 0.014), ("left_eye", 0.0)):
            along = shift[..., COCO17.index(name), :] @ torch.tensor(up)
            assert along.numpy() == pytest.approx(np.full(along.shape, amount), abs=2e-3)  # the pelvis is not level


def test_exact_windows_are_the_truth():
    pixels = pixels_of_a_line(count=200)
    shift = seen_by(only(joint_bias=0.01, white_jitter=(0.01, 0.01), exact=0.3), pixels) - pixels
    is_exact = (shift == 0).flatten(1).all(1)
    assert 0.2 < float(is_exact.float().mean()) < 0.4  # 200 draws of 0.3: three standard deviations are 0.1


def standing_in_front(turned: float) -> torch.Tensor:
    """Joints (1, 1, 17, 3) m in camera axes, 4 m away, turned about the vertical; 0 faces the camera."""
    x, y, z = torch.from_numpy(STANDING).T
    cos, sin = math.cos(turned), math.sin(turned)
    return torch.stack([cos * x - sin * y, 1.0 - z, sin * x + cos * y + 4.0], dim=-1)[None, None]


def test_a_body_hides_its_far_side():
    def hidden(joints):
        return {name for name, flag in zip(COCO17.names, data.hidden_joints(joints)[0, 0], strict=True) if flag}

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
    scores = detected_in(only(unscored=0.0), pixels, hidden)[..., 2]
    is_wrist = torch.arange(17) == COCO17.index("left_wrist")
    assert torch.equal(scores[..., ~is_wrist], torch.ones_like(scores[..., ~is_wrist]))
    assert scores[..., is_wrist].numpy() == pytest.approx(np.full((32, 60, 1), 1 - data.HIDDEN_LOSS))
    recipe = only(unscored=0.0, burst=0.5, burst_size=1.0)
    found = detected_in(recipe, pixels)
    jumps = (found[..., :2] - pixels).abs().amax(-1) > 0
    assert torch.equal(found[..., 2] < 1, jumps)
    missed = detected_in(only(unscored=0.0, dropout=1.0), pixels)[..., 2]
    assert torch.equal(missed.amin(-1), missed.amax(-1))  # everybody or nobody
    assert 0 < float((missed == 0).float().mean()) < 12 / 60
    assert torch.equal(detected_in(only(unscored=1.0, dropout=1.0), pixels, hidden)[..., 2], torch.ones(32, 60, 17))


def test_a_lower_frame_rate_keeps_even_motion_but_for_the_ends():
    pixels = pixels_of_a_line()
    seen = seen_by(only(low_rate=1.0), pixels)
    # a frame of a 10 fps film lasts five of ours; beyond the window it is held
    assert torch.allclose(seen[:, 5:-5], pixels[:, 5:-5], rtol=0, atol=1e-2)  # times in float32
    assert (seen - pixels).abs().max() <= 5 * 3


def test_a_lower_frame_rate_smooths_fast_motion():
    zigzag = pixels_of_a_line() + 20 * (torch.arange(60) % 2)[:, None, None]
    seen = seen_by(only(low_rate=1.0), zigzag)
    assert seen.diff(n=2, dim=1).abs().mean() < 0.7 * zigzag.diff(n=2, dim=1).abs().mean()


# ---------------------------------------------------------------------------------------------- losses


def test_position_loss_by_hand():
    truth = torch.zeros(1, 2, 17, 3)
    predicted = truth.clone()
    predicted[0, 0, 5] = torch.tensor([3.0, 4.0, 0])
    assert float(losses.position_loss(predicted, truth)) == pytest.approx(5 / 34)


def test_scale_loss_by_hand():
    truth = torch.zeros(1, 1, 17, 3)
    truth[0, 0, 1] = torch.tensor([2.0, 0, 0])
    predicted = torch.zeros(1, 1, 17, 3)
    predicted[0, 0, 1] = torch.tensor([1.0, 1, 0])
    # best scale <g, p> / <p, p> = 2 / 2 = 1, distance |(1, 1) - (2, 0)| = sqrt 2 on one joint of 17
    assert float(losses.scale_loss(predicted, truth)) == pytest.approx(math.sqrt(2) / 17)
    assert float(losses.scale_loss(5 * truth, truth)) == pytest.approx(0, abs=1e-6)  # float32


def test_velocity_loss_by_hand():
    truth = torch.zeros(1, 3, 17, 3)
    predicted = truth.clone()
    predicted[0, 1, 2, 0] = 1.0  # there and back: two differences of length 1 among 2 * 17
    assert float(losses.velocity_loss(predicted, truth)) == pytest.approx(2 / 34)
    assert float(losses.velocity_loss(predicted + 7, truth)) == pytest.approx(2 / 34)
    assert float(losses.velocity_loss(predicted[:, :1], truth[:, :1])) == 0


@pytest.mark.parametrize(("joint", "weight"), [(0, 1), (2, 2.5), (10, 1.5), (13, 4), (16, 4)])
def test_smoothness_loss_by_hand(joint, weight):
    predicted = torch.zeros(1, 2, 17, 3)
    predicted[0, 1, joint, 1] = 2.0  # one squared difference of 4 among 17 * 3
    assert float(losses.smoothness_loss(predicted)) == pytest.approx(weight * 4 / 51)
    assert float(losses.smoothness_loss(predicted[:, :1])) == 0


def test_the_whole_loss_is_the_weighted_sum():
    predicted, truth = torch.randn(2, 2, 5, 17, 3, generator=torch.Generator().manual_seed(0))
    weights = LossWeights(2.0, 3.0, 5.0, 7.0)
    expected = (
        2 * losses.position_loss(predicted, truth) + 3 * losses.scale_loss(predicted, truth)
        + 5 * losses.velocity_loss(predicted, truth) + 7 * losses.smoothness_loss(predicted)
    )  # fmt: skip
    assert float(losses.pose_loss(predicted, truth, weights)) == pytest.approx(float(expected))


def test_default_weights_are_the_published_ones():
    assert LossWeights() == LossWeights(position=1.0, scale=0.5, velocity=20.0, smoothness=0.5)


def test_the_truth_costs_nothing_but_its_motion():
    truth = torch.randn(2, 5, 17, 3, generator=torch.Generator().manual_seed(0))
    without_prior = LossWeights(smoothness=0.0)
    assert float(losses.pose_loss(truth, truth, without_prior)) == pytest.approx(0, abs=1e-5)  # the scale's rounding


def test_gradients_of_the_loss_point_to_the_truth():
    torch.manual_seed(0)
    truth = torch.randn(2, 5, 17, 3)
    predicted = (truth + 0.1 * torch.randn(2, 5, 17, 3)).requires_grad_()
    before = losses.pose_loss(predicted, truth, LossWeights())
    before.backward()
    assert torch.isfinite(predicted.grad).all()
    after = losses.pose_loss(predicted.detach() - 0.01 * predicted.grad, truth, LossWeights())
    assert float(after) < float(before.detach())


# ---------------------------------------------------------------------------------------------- training

TINY = PoseMambaConfig(width=16, depth=2)
TINY_NET = functools.partial(PoseMamba, replace(TINY, drop_path=0.0))
SHORT = Schedule(
    stages=(Stage(0.5, ((8, 9),)), Stage(1.0, ((8, 9), (4, 27)))),
    learning_rate=3e-3, muon_rate=1e-2, weight_decay=0.01, ema=0.98, drop_path=0.0, layer_scale=0.1,
    decays_learn=False,
    loss=LossWeights(velocity=4.0, smoothness=0.0),
)  # fmt: skip
TINY_NETS = {
    "posemamba": TINY_NET,
    "mdtf": functools.partial(MDTF, MDTFConfig(16, 2, window=27, drop_path=0.0)),  # trained in two parts
    "hgmamba": functools.partial(HGMamba, HGMambaConfig(16, 2, window=9, shuffle=0.5)),  # draws, and norms of batches
}


def ticking():
    """A clock that counts 0.04 s for every step, however busy the machine is: the same 100 steps in 4 s everywhere."""
    return itertools.count(step=0.04).__next__


@pytest.fixture(scope="module")
def trained(library, tmp_path_factory):
    """A folder after four seconds of training on one motion, and the errors before and after."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    before = validate(PoseMamba(TINY).eval(), library, STILL)
    lines = []
    after = train.train(library, library, TINY_NET, folder, minutes=4 / 60, schedule=SHORT, recipe=STILL, seed=1,
                        command="test", clock=ticking(), report=lines.append)  # fmt: skip
    return folder, before, after, lines


def rows_of(folder):
    with (folder / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_learns(trained):
    _, before, after, _ = trained
    assert after["clean_p1"] < 0.7 * before["clean_p1"]  # measured: 0.45 of it after these 100 steps
    assert all(math.isfinite(error) for error in after.values())


def test_a_part_that_is_trained_first_is_kept(library, tmp_path):
    build = TINY_NETS["mdtf"]
    settings = {"schedule": SHORT, "recipe": STILL, "clock": ticking()}

    def trained_for(minutes):
        train.train(library, library, build, tmp_path, minutes=minutes, **settings)
        model = build().eval()
        model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)["model"])
        return model

    short, long = trained_for(0.4 / 60), trained_for(3 / 60)  # the latter goes on at 13 %, where the part would learn
    parts = [model.pretrained_part.state_dict() for model in (short, long)]
    assert all(torch.equal(value, parts[1][name]) for name, value in parts[0].items())
    assert not torch.equal(short.head[1].weight, long.head[1].weight)


def test_training_writes_what_it_promises(trained):
    folder, _, after, lines = trained
    assert sorted(p.name for p in folder.iterdir()) == ["curve.csv", "state.pt", "weights.safetensors"]
    row = rows_of(folder)[-1]
    assert float(row["clean_p1"]) == pytest.approx(after["clean_p1"], rel=1e-3)  # written with five digits
    assert int(row["step"]) > 0
    assert "clean_p1" in lines[-1]


def test_trained_weights_say_where_they_come_from(trained, library):
    folder, _, after, _ = trained
    metadata = checkpoints.read_weights(folder / "weights.safetensors").metadata
    training = json.loads(metadata["training"])
    assert (metadata["normalization"], metadata["unit"]) == ("person", "m")
    assert json.loads(metadata["training"])["validation_mm"]["clean_p1"] == pytest.approx(after["clean_p1"], abs=0.1)
    assert training["command"] == "test"
    assert training["motion_sha256"] == motion.fingerprint(library)
    assert training["recipe"]["bend"] == 0.0
    assert training["schedule"]["learning_rate"] == 3e-3


def test_trained_weights_load_as_a_lifter(trained):
    loaded = lifter.load_lifter(trained[0] / "weights.safetensors")
    assert loaded.name == "posemamba-width16-depth2"
    assert (loaded.normalization, loaded.unit) == ("person", "m")
    # decays that were not trained are still those of a fresh network
    decays = loaded.model.STEblocks[0].op.A_logs
    assert torch.allclose(decays, torch.arange(1, 17.0).log().expand_as(decays), atol=1e-6)  # float32 logarithms


def test_a_run_goes_on_where_it_stopped(trained, library):
    folder = trained[0]
    first = int(rows_of(folder)[-1]["step"])
    lines = []
    train.train(library, library, TINY_NET, folder, minutes=5.5 / 60, schedule=SHORT, recipe=STILL, clock=ticking(),
                report=lines.append)  # fmt: skip
    assert lines[0].startswith(f"resumed at step {first}, 0.1 minutes")
    rows = rows_of(folder)
    assert [int(row["step"]) for row in rows] == sorted({int(row["step"]) for row in rows})
    assert int(rows[-1]["step"]) > first
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_a_run_goes_on_with_its_own_random_numbers(trained, library, tmp_path):
    # one more step each, of copies of one run: whatever seed is given now, the same windows follow
    states = []
    for seed in (5, 6):
        folder = shutil.copytree(trained[0], tmp_path / str(seed))
        seconds = torch.load(folder / "state.pt", weights_only=True)["seconds"]
        minutes = (seconds + 1e-4) / 60
        train.train(library, library, TINY_NET, folder, minutes=minutes, schedule=SHORT, recipe=STILL, seed=seed)
        states.append(torch.load(folder / "state.pt", weights_only=True))
    first, second = states
    assert first["step"] == second["step"] == torch.load(trained[0] / "state.pt", weights_only=True)["step"] + 1
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])


def test_a_finished_run_is_only_scored_again(trained, library):
    folder = trained[0]
    before = (folder / "state.pt").read_bytes()
    errors = train.train(library, library, TINY_NET, folder, minutes=1 / 60, schedule=SHORT, recipe=STILL)
    assert (folder / "state.pt").read_bytes() == before
    assert set(errors) == {"clean_p1", "clean_p2", "noisy_p1", "noisy_p2"}


@pytest.mark.parametrize("config", [PoseMambaConfig(width=32, depth=2), PoseMambaConfig(width=16, depth=1)])
def test_a_run_of_another_size_is_not_continued(trained, library, config):
    other = functools.partial(PoseMamba, config)
    with pytest.raises(ValueError, match=r"holds a run of \{'width': 16, 'depth': 2.*, expected \{'width'"):
        train.train(library, library, other, trained[0], minutes=1, schedule=SHORT, recipe=STILL)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_cover_the_budget_in_windows_that_fit(name):
    stages = SCHEDULES[name].stages
    assert stages[-1].until == 1.0
    assert [s.until for s in stages] == sorted(s.until for s in stages)
    assert all(frames <= 243 for s in stages for _, frames in s.shapes)


def test_batches_fit_the_windows_of_the_network():
    stage = Stage(1.0, ((128, 27), (16, 81), (8, 243)))
    longest = SimpleNamespace(window=243, fixed_length=False)
    assert stage.shapes_for(longest) == ((128, 27), (16, 81), (8, 243))
    short = SimpleNamespace(window=81, fixed_length=False)
    assert stage.shapes_for(short) == ((128, 27), (16 + 24, 81))
    for window in (27, 81, 243):
        fixed = SimpleNamespace(window=window, fixed_length=True)
        ((count, frames),) = stage.shapes_for(fixed)
        assert frames == window
        assert count * frames == pytest.approx(128 * 27 + 16 * 81 + 8 * 243, rel=0.03)


def test_the_revision_is_a_commit_or_unknown():
    revision = train.git_revision()
    assert revision == "unknown" or len(revision.rstrip("+")) >= 7


def test_training_can_begin_with_given_weights(trained, library, tmp_path):
    start = checkpoints.read_weights(trained[0] / "weights.safetensors").tensors
    model = PoseMamba(TINY).eval()
    model.load_state_dict(start)
    one_step = replace(SHORT, learning_rate=1e-6, muon_rate=1e-6)
    after = train.train(library, library, TINY_NET, tmp_path / "run", minutes=0.03 / 60, schedule=one_step,
                        recipe=STILL, start=start, clock=ticking())  # fmt: skip
    assert after["clean_p1"] == pytest.approx(validate(model, library, STILL)["clean_p1"], rel=1e-3)


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


def killed_after(calls: int):
    """A clock that counts 10.5 s for every step, so that every other one is saved, and ends the run at some call."""
    for call in range(calls):
        yield 10.5 * call
    raise Killed


@pytest.mark.parametrize("net", TINY_NETS)
def test_a_killed_run_ends_like_one_that_was_not(library, tmp_path, net):
    build = TINY_NETS[net]
    settings = {"minutes": 30 * 10.5 / 60, "schedule": SHORT, "recipe": STILL, "seed": 3}
    whole = train.train(library, library, build, tmp_path / "whole", clock=killed_after(10**6).__next__, **settings)
    for calls in (6, 12, 40):  # two are a step: while a part is trained first, in the first stage, and in the second
        with pytest.raises(Killed):
            train.train(library, library, build, tmp_path / "killed", clock=killed_after(calls).__next__, **settings)
    resumed = train.train(library, library, build, tmp_path / "killed", clock=killed_after(10**6).__next__, **settings)
    assert resumed == pytest.approx(whole, rel=1e-3)  # the same draws and steps; sums of threads may round differently
    assert [row["step"] for row in rows_of(tmp_path / "killed")] == [row["step"] for row in rows_of(tmp_path / "whole")]


def test_a_curve_keeps_one_row_per_step(tmp_path):
    curve = tmp_path / "curve.csv"
    for step in (10, 20, 30, 20):  # killed after 30 was written, gone on from 15
        train.append_row(curve, {"step": step, "loss": step / 7})
    assert [row["step"] for row in rows_of(tmp_path)] == ["10", "20"]
    assert float(rows_of(tmp_path)[-1]["loss"]) == pytest.approx(20 / 7, rel=1e-4)


def test_the_manifest_entry_tells_the_whole_story(trained, library, tmp_path):
    start, origin = app.train.starting_weights(trained[0] / "weights.safetensors", TINY_NET(), "tiny")
    train.train(library, library, TINY_NET, tmp_path, minutes=0.2 / 60, schedule=SHORT, recipe=STILL, start=start,
                start_provenance=origin, command="second", clock=ticking())  # fmt: skip
    text = app.train.manifest_entry("tiny", tmp_path / "weights.safetensors", 0.8349)
    entry = checkpoints.tomllib.loads(text)["tiny"]
    assert entry["commands"] == [origin["command"], "second"]
    assert entry["sha256"] == checkpoints.sha256_of(tmp_path / "weights.safetensors")
    assert entry["motion_sha256"] == motion.fingerprint(library)
    assert set(entry["validation_mm"]) == {"clean_p1", "clean_p2", "noisy_p1", "noisy_p2"}
    assert entry["steps"] > 100  # both runs
    assert entry["jitter_over_truth"] == 0.83


def test_matrices_are_stored_in_half_and_decays_exactly(trained):
    state = torch.load(trained[0] / "state.pt", weights_only=True)["ema"]
    stored = checkpoints.read_weights(trained[0] / "weights.safetensors").tensors
    assert stored.keys() == state.keys()
    halves = {name for name, value in stored.items() if value.dtype == torch.float16}
    assert sum(state[name].numel() for name in halves) > 0.5 * sum(value.numel() for value in state.values())
    for name, value in state.items():
        torch.testing.assert_close(stored[name].float(), value, rtol=2**-11 if name in halves else 0, atol=1e-7)
    decays = [name for name in state if train.DECAY.search(name)]
    assert decays and not halves & set(decays)


def test_ablations_fill_their_table(library, tmp_path):
    names = ["as shipped", "AdamW only"]
    for run in (names, names[:1]):  # a second run replaces the row of the first
        ablation.ablate(library, library, TINY_NET, tmp_path / "table.csv", minutes=1e-4, device="cpu", names=run)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert all(math.isfinite(float(row["noisy_p2"])) for row in rows)


def test_windows_that_end_early_repeat_their_last_frame(library):
    batch = batch_of(library, replace(QUIET, short=1.0), 16, 27, seed=3)
    ends = [int((window.diff(dim=0).abs().amax((1, 2)) > 0).sum()) for window in batch.inputs]  # frames that moved
    assert min(ends) < 10 < max(ends)  # of 26, drawn evenly
    for inputs, joints, last in zip(batch.inputs, batch.joints, ends, strict=True):
        assert torch.equal(inputs[last:], inputs[-1:].expand(27 - last, -1, -1))
        assert torch.equal(joints[last:], joints[-1:].expand(27 - last, -1, -1))


@pytest.mark.requires_cuda
def test_recorded_gradients_are_those_of_the_same_step(library):
    torch.manual_seed(0)
    model = PoseMamba(replace(TINY, drop_path=0.0)).cuda()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss(inputs, joints, first):
        return losses.pose_loss(model(inputs[..., :2], first), joints, OUR_LOSS)

    rng = Randomness(0, "cuda")
    plain, recorded = Gradients(loss, parameters, is_divisible=True), RecordedGradients(loss, parameters)
    for _ in range(3):  # recorded once, then replayed with other numbers
        portions = [Portion(make_batch(library.to("cuda"), *shape, Recipe(), rng), rng.integers(0, 100, 1))
                    for shape in ((8, 27), (2, 81))]  # fmt: skip
        expected = float(plain(portions)), [p.grad.clone() for p in parameters]
        found = float(recorded(portions)), [p.grad.clone() for p in parameters]
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        for mine, theirs in zip(found[1], expected[1], strict=True):
            assert (mine - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7  # float32, sums in another order


@pytest.mark.requires_cuda
def test_training_on_a_gpu_learns(library, tmp_path):
    before = validate(PoseMamba(TINY).eval(), library, STILL)
    after = train.train(library, library, TINY_NET, tmp_path, minutes=4 / 60, schedule=SHORT, recipe=STILL, seed=1,
                        device="cuda", clock=ticking())  # fmt: skip
    assert after["clean_p1"] < 0.7 * before["clean_p1"]
