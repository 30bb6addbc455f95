"""From keypoints of whole tracks to joints: known answers through real modules that do something simple."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lifter import load_lifter, normalize
from lifter.lift import Sampling, Sequence2D, lift, mirror, resample, resample_back
from lifter.load import Lifter
from lifter.models.posemamba import SMALL, PoseMamba
from lifter.skeletons import COCO17, H36M17, coco17_to_h36m17
from lifter.skeletons import MOTION_FPS as FPS
from lifter.training.train import save_weights

CPU = torch.device("cpu")
WIDTH, HEIGHT = 1280, 720

# COCO-17 standing upright in a picture, pixels around (640, 360).
STANDING = np.array([640, 360]) + np.array(
    [[0, -150], [6, -156], [-6, -156], [12, -153], [-12, -153], [33, -114], [-33, -114], [42, -60], [-42, -60],
     [45, -9], [-45, -9], [21, 0], [-21, 0], [24, 75], [-24, 75], [24, 150], [-24, 150]], np.float64,
)  # fmt: skip


class Flat(nn.Module):
    """Answers every keypoint with itself at depth 0."""

    def forward(self, keypoints):
        return torch.nn.functional.pad(keypoints, (0, 1))


class Lopsided(Flat):
    """Answers with a constant error to the right, which a mirrored copy makes to the left."""

    def forward(self, keypoints):
        return super().forward(keypoints) + torch.tensor([0.1, 0, 0]) * (torch.arange(17.0) == 16)[:, None]


def lifter(model: nn.Module, normalization: str = "picture", fps: float = FPS) -> Lifter:
    return Lifter(model, "test", 243, normalization, "normalized", CPU, {}, fps=fps)


def times(frames: int, fps: float = FPS) -> np.ndarray:
    return np.arange(frames) / fps


def noisy(frames: int, seed: int = 0, fps: float = FPS) -> Sequence2D:
    keypoints = STANDING + np.random.default_rng(seed).normal(size=(frames, 17, 2)) * 8
    return Sequence2D(keypoints.astype(np.float32), times(frames, fps), WIDTH, HEIGHT)


def flat_answer(sequence: Sequence2D) -> np.ndarray:
    """Joints that ``Flat`` must give for "picture" normalization, from the definitions."""
    points = coco17_to_h36m17(sequence.keypoints.astype(np.float64)) * 2 / sequence.width
    return np.pad(points - points[:, :1], ((0, 0), (0, 0), (0, 1)))


# ---------------------------------------------------------------------------------------------- resampling


@pytest.mark.parametrize("frames", [1, 2, 50, 243])
def test_resampling_at_the_networks_rate_changes_nothing(frames, rng):
    points = rng.normal(size=(frames, 17, 2))
    # timestamps i / 50 in float64: rounding only
    np.testing.assert_allclose(resample(points, times(frames), FPS), points, rtol=0, atol=1e-9)
    np.testing.assert_allclose(resample_back(points, times(frames), FPS), points, rtol=0, atol=1e-9)


def test_even_motion_is_reproduced_at_uneven_times(rng):
    # linear interpolation of a straight line is exact, whatever the timestamps; they need not start at 0
    timestamps = 3 + np.cumsum(rng.uniform(0.005, 0.08, 40))
    line = timestamps[:, None, None] * np.ones((17, 2))
    even = resample(line, timestamps, FPS)
    expected = np.minimum(timestamps[0] + np.arange(len(even)) / FPS, timestamps[-1])
    np.testing.assert_allclose(even[:, 0, 0], expected, rtol=0, atol=1e-9)  # float64
    back = resample_back(even, timestamps, FPS)
    # the last sample lies up to 1/50 s behind the end and is held there: half of that at the very last frames
    np.testing.assert_allclose(back[:, 0, 0], timestamps, rtol=0, atol=0.5 / FPS)
    inside = timestamps <= timestamps[-1] - 1 / FPS
    np.testing.assert_allclose(back[inside, 0, 0], timestamps[inside], rtol=0, atol=1e-9)


# ---------------------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("frames", [1, 2, 243, 300])
@pytest.mark.parametrize("use_flip", [True, False])
def test_joints_come_back_on_the_frames_they_belong_to(frames, use_flip):
    sequence = noisy(frames)
    (joints,) = lift(lifter(Flat()), [sequence], use_flip=use_flip)
    assert joints.dtype == np.float32
    np.testing.assert_allclose(joints, flat_answer(sequence), rtol=0, atol=1e-6)  # float32 around 1


@pytest.mark.parametrize("network_fps", [25.0, 50.0])
@pytest.mark.parametrize("fps", [24, 25, 29.97, 50, 60])
def test_the_frame_rate_does_not_change_the_motion(fps, network_fps):
    # a wave of 1 Hz and 60 px, 2 s, seen at different rates, against the wave itself
    timestamps = np.append(np.arange(int(2 * fps - 1e-6) + 1) / fps, 2.0)
    timestamps = timestamps[np.append(True, np.diff(timestamps) > 1e-6)]
    sway = np.zeros((len(timestamps), 17, 2))
    wrist = COCO17.index("left_wrist")
    sway[:, wrist, 1] = 60 * np.sin(2 * np.pi * timestamps)
    (joints,) = lift(lifter(Flat(), fps=network_fps), [Sequence2D(STANDING + sway, timestamps, WIDTH, HEIGHT)])
    wave = (joints[:, H36M17.index("left_wrist"), 1] - joints[0, H36M17.index("left_wrist"), 1]) * WIDTH / 2
    # linear interpolation between samples h apart misses by at most h^2 / 8 times the largest second derivative; twice
    sampled = network_fps if fps <= network_fps else FPS  # faster clips are seen in two phases
    bound = (1 / fps**2 + 1 / sampled**2) / 8 * 60 * (2 * np.pi) ** 2
    np.testing.assert_allclose(wave, sway[:, wrist, 1], rtol=0, atol=bound + 1e-3)


class Fixed(Flat):
    """Answers the first of its frames for all, so that answers tell which rows a frame was in."""

    def forward(self, keypoints):
        return super().forward(keypoints[:, :1].expand_as(keypoints))


def test_the_two_phases_of_a_clip_of_twice_the_networks_rate_agree():
    # 244 frames at 50: even and odd ones are 122 each, at 25, and get answers of their own, which differ: no tremor
    sequence = noisy(244)
    (joints,) = lift(lifter(Fixed(), fps=25.0), [sequence])
    expected = (flat_answer(sequence)[0] + flat_answer(sequence)[1]) / 2
    np.testing.assert_allclose(joints[3:-3], np.broadcast_to(expected, (238, 17, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("hz", [1.0, 2.0, 4.0])
def test_two_phases_keep_quick_motion(hz):
    # limbs hardly swing faster than 4 Hz; every phase has 25 samples a second
    sequence = noisy(244)
    sway = np.sin(2 * np.pi * hz * sequence.timestamps_s)[:, None, None]
    sequence = replace(sequence, keypoints=STANDING + 60 * sway * (np.arange(17) == 9)[:, None])
    (joints,) = lift(lifter(Flat(), fps=25.0), [sequence])
    error = np.abs(joints - flat_answer(sequence))[3:-3].max() / np.abs(np.ptp(flat_answer(sequence), axis=0)).max()
    assert error < 0.01


@pytest.mark.parametrize(("fps", "phases"), [(10, 1), (25, 1), (26, 1), (29.97, 2), (50, 2), (240, 2)])
@pytest.mark.parametrize("frames", [1, 2, 3, 700])
def test_samples_of_all_phases_come_back_in_order(fps, phases, frames):
    sampling = Sampling.of(times(frames, fps), 243, 25.0)
    count = sum(phase.num_frames for phase in sampling.phases)
    assert sampling.fps == 25 * phases or frames == 1
    assert (count - 1) / sampling.fps >= (frames - 1) / fps - 1e-6  # all of the clip, and not a sample more
    assert (count - 2) / sampling.fps < max((frames - 1) / fps, 1e-9)
    samples = np.arange(count, dtype=np.float64)[:, None]
    np.testing.assert_allclose(sampling.merge(sampling.split(samples)), samples, rtol=0, atol=1e-9)


def test_both_mirror_images_are_averaged():
    sequence = noisy(5)
    expected = flat_answer(sequence)
    once = lift(lifter(Lopsided()), [sequence], use_flip=False)[0] - expected
    twice = lift(lifter(Lopsided()), [sequence], use_flip=True)[0] - expected
    error_once, error_twice = np.zeros((17, 3)), np.zeros((17, 3))
    error_once[16, 0] = 0.1  # the right wrist is pushed to the right ...
    error_twice[16, 0], error_twice[13, 0] = 0.05, -0.05  # ... and in the mirror image the left one to the left
    np.testing.assert_allclose(once, np.broadcast_to(error_once, once.shape), rtol=0, atol=1e-6)  # float32 around 1
    np.testing.assert_allclose(twice, np.broadcast_to(error_twice, twice.shape), rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.45, -0.2), (-0.3, 0.3)])
def test_the_answer_about_a_person_aside_is_turned_back_to_the_camera(place):
    # A flat figure that faces the camera from the side of the picture: its plane is square to its viewing ray. Seen by
    # a camera turned to it, all its joints have one depth, so ``Flat`` is right, and the answer must be the true joints
    # in the axes of the real camera up to one factor. (Midpoints of hips and shoulders are averaged in the picture; the
    # comparison uses the limbs, which are not.)
    fov = 60.0
    focal = normalize.focal_px(WIDTH, HEIGHT, fov)
    center = np.array([WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5])
    turn = normalize.facing(torch.tensor(place, dtype=torch.float64)).numpy()
    figure = np.pad((STANDING - (640, 360)) / 250, ((0, 0), (0, 1)), constant_values=3.0)  # meters, 3 m away
    for _ in range(50):  # put it so that the middle of its box in the picture lies on the ray that it is square to
        camera = figure @ turn
        pixels = focal * camera[:, :2] / camera[:, 2:] + center
        seen = (coco17_to_h36m17(pixels) - center) / focal
        middle = turn @ np.append((seen.min(0) + seen.max(0)) / 2, 1)
        figure[:, :2] -= 3.0 * middle[:2] / middle[2]
    sequence = Sequence2D(np.repeat(pixels[None], 3, 0), times(3), WIDTH, HEIGHT)
    (joints,) = lift(lifter(Flat(), "person"), [sequence], fov_degrees=fov)
    limbs = [(H36M17.index(n), COCO17.index(n)) for n in COCO17.names if "_" in n and n in H36M17.names]
    found = joints[1][[h for h, _ in limbs]].astype(np.float64)
    true = camera[[c for _, c in limbs]]
    found, true = found - found[0], true - true[0]
    scale = (found * true).sum() / (found**2).sum()
    np.testing.assert_allclose(found * scale, true, rtol=0, atol=1e-4)  # meters; float32 pixels around 1000


# ---------------------------------------------------------------------------------------------- the whole path


def test_several_people_in_one_call_are_lifted_as_alone(tiny_model):
    sequences = [noisy(300, 1), noisy(1, 2), noisy(100, 3, fps=24)]
    sequences.append(Sequence2D(sequences[0].keypoints / 2, sequences[0].timestamps_s, 640, 480))
    together = lift(lifter(tiny_model, "person"), sequences)
    for sequence, joints in zip(sequences, together, strict=True):
        (alone,) = lift(lifter(tiny_model, "person"), [sequence])
        # matrix products of other batch sizes round differently
        np.testing.assert_allclose(joints, alone, rtol=0, atol=1e-4)


def test_progress_sees_every_batch(tiny_model):
    seen = []

    def progress(batches, total):
        seen.append(total)
        for batch in batches:
            seen.append(len(batch))
            yield batch

    assert lift(lifter(tiny_model), []) == []
    lift(lifter(tiny_model), [noisy(243)] * 11, progress=progress)
    assert seen == [3, 4, 4, 3]


# ---------------------------------------------------------------------------------------------- memory


class Cramped(nn.Module):
    """Has memory for a few windows only; notes how many it was asked for."""

    def __init__(self, model: nn.Module, most: int):
        super().__init__()
        self.model, self.most, self.asked = model, most, []

    def forward(self, keypoints):
        self.asked.append(len(keypoints))
        if len(keypoints) > self.most:
            raise torch.OutOfMemoryError(f"no room for {len(keypoints)} windows")
        return self.model(keypoints)


def test_batches_are_halved_until_they_fit(tiny_model, threads, caplog):
    threads(1)  # else every thread gets a part of the batch
    cramped, sequences = Cramped(tiny_model, 1), [noisy(243, seed) for seed in range(7)]
    ready = lifter(cramped)
    joints = lift(ready, sequences, use_flip=False)
    assert cramped.asked == [4, 2, *[1] * 7]  # 4 windows, then 3 at the size that was found to fit
    for one, expected in zip(joints, lift(lifter(tiny_model), sequences, use_flip=False), strict=True):
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-5)  # float32 sums of other batch sizes
    assert [r.message for r in caplog.records] == ["out of memory: from now on 1 windows at once instead of 4"]
    lift(ready, sequences[:1])
    assert cramped.asked[9:] == [1, 1]  # remembered; a window and its mirror image


def test_threads_that_run_out_of_memory_are_given_less(tiny_model, threads):
    threads(2)
    cramped, sequence = Cramped(tiny_model, 3), noisy(729)  # 4 windows; each of two threads takes half of a batch
    ready = lifter(cramped)
    (joints,) = lift(ready, [sequence])
    np.testing.assert_allclose(joints, lift(lifter(tiny_model), [sequence])[0], rtol=0, atol=1e-5)  # float32
    assert max(cramped.asked) == 4
    assert ready.forward.most_rows == 4


def test_a_window_that_does_not_fit_is_an_error(tiny_model):
    with pytest.raises(torch.OutOfMemoryError, match=r"not even one window fits into memory .*--device cpu"):
        lift(lifter(Cramped(tiny_model, 0)), [noisy(5)])


# ---------------------------------------------------------------------------------------------- on a GPU


@pytest.fixture
def small_weights(recipe, tmp_path):
    """A weights file of PoseMamba-S."""
    model = PoseMamba(SMALL)
    path = tmp_path / "small.safetensors"
    save_weights(recipe.fill(model.state_dict(), 0), {"normalization": "person", "unit": "m"}, path)
    return path


@pytest.mark.requires_cuda
def test_precision_set_around_us_changes_nothing(small_weights):
    ready = load_lifter(small_weights, "cuda")
    (exact,) = lift(ready, [noisy(61)])
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        (again,) = lift(load_lifter(small_weights, "cuda"), [noisy(61)])
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"  # and is left as it was
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    np.testing.assert_allclose(again, exact, rtol=0, atol=1e-5)  # the same operations; TF32 errs by 1e-3


@pytest.mark.requires_cuda
def test_a_gpu_with_little_memory_gets_smaller_batches(small_weights):
    sequences = [noisy(243, seed) for seed in range(64)]
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, total = torch.cuda.memory_reserved(), torch.cuda.get_device_properties("cuda").total_memory
    roomy = load_lifter(small_weights, "cuda")
    expected = lift(roomy, sequences)
    needed = torch.cuda.max_memory_reserved() - before
    assert roomy.forward.most_rows is None
    del roomy
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + needed / 3) / total)
    try:
        cramped = load_lifter(small_weights, "cuda")
        joints = lift(cramped, sequences)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cramped.forward.most_rows in (64, 32, 16)  # 128 do not fit into a third of what they need
    for a, b in zip(joints, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)  # float32 sums of other batch sizes


def test_mirroring_twice_is_the_identity():
    points = torch.randn(2, 5, 17, 3)
    assert torch.equal(mirror(mirror(points)), points)
    assert mirror(points)[0, 0, H36M17.index("left_knee"), 0] == -points[0, 0, H36M17.index("right_knee"), 0]
    assert torch.equal(mirror(points)[:, :, 0, 1:], points[:, :, 0, 1:])


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("shape", [(4, 17, 2), (5, 26, 2), (5, 17, 3), (17, 2), (0, 17, 2)])
def test_keypoints_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"keypoints must have shape \([15], 17, 2\), got"):
        Sequence2D(np.zeros(shape), times(5 if shape[0] else 0), WIDTH, HEIGHT)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_keypoints_are_refused(value):
    keypoints = np.zeros((5, 17, 2))
    keypoints[2, 3] = value
    with pytest.raises(ValueError, match="keypoints must be finite; fill or cut missing frames first"):
        Sequence2D(keypoints, times(5), WIDTH, HEIGHT)
