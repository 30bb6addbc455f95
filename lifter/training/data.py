"""Training windows out of recorded motion: varied bodies, virtual cameras, simulated COCO-17 detections.

Everything works on whole batches of torch tensors, on the training device. Camera axes: x right, y down, z away.
The simulated detections go through the very functions that inference uses (mapping, resampling by linear interpolation,
normalization), so that both see the same input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lifter import normalize
from lifter.skeletons import COCO17, H36M17, MOTION_FPS, NOMINAL_BONE_SUM_M, coco17_to_h36m17, mirror
from lifter.training.motion import MotionLibrary

PARENTS = H36M17.parents
BACK_AND_FORTH = 0.7  # of the windows of our own training
UPPER_BODY = tuple(range(7, 17))

# What MediaPipe's errors look like, rounded from a fit to still pictures; ``posemamba evaluate --stills`` and
# ``--detector-errors`` measure them (docs/results.md). Units: the person's size in the picture. First
# how far up the trunk (towards the shoulders) it marks a joint, on average ...
OFFSET_UP = {"nose": 0.008, "shoulder": 0.023, "elbow": 0.005, "hip": 0.003, "knee": 0.004, "ankle": 0.014}
# ... then how much its errors spread, over those of the trunk: joints that can be seen, and joints behind the body.
SPREAD = {"nose": (0.9, 1.6), "eye": (0.8, 1.5), "ear": (0.8, 1.2), "shoulder": (0.9, 1.6), "elbow": (1.1, 2.4),
          "wrist": (1.2, 3.4), "hip": (1.1, 1.7), "knee": (1.1, 2.6), "ankle": (1.1, 3.2)}  # fmt: skip
HIDDEN_LOSS, BURST_LOSS = 0.6, 0.5  # of the score of a hidden joint, and of one that jumps
# Body parts that hide what is behind them: (from, to, radius in metres).
CAPSULES = (
    ("pelvis", "thorax", 0.13), ("thorax", "head", 0.10),
    ("left_hip", "left_knee", 0.075), ("left_knee", "left_ankle", 0.05),
    ("right_hip", "right_knee", 0.075), ("right_knee", "right_ankle", 0.05),
)  # fmt: skip
HIDING_DEPTH_M = 0.06  # a joint this far behind a part's middle is hidden by it


def _descendants(joint: int) -> list[int]:
    below = [child for child, parent in enumerate(PARENTS) if parent == joint]
    return below + [deeper for child in below for deeper in _descendants(child)]


# Joints that may be bent at random, and by how much (standard deviation, radians); everything below the joint turns.
PIVOTS = tuple(
    (H36M17.index(name), std, tuple(_descendants(H36M17.index(name))))
    for name, std in (
        ("spine", 0.35), ("thorax", 0.25), ("left_shoulder", 0.6), ("right_shoulder", 0.6), ("left_elbow", 0.6),
        ("right_elbow", 0.6), ("left_hip", 0.45), ("right_hip", 0.45), ("left_knee", 0.35), ("right_knee", 0.35),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How far training windows stray from the recordings; chances are per window.

    Noise is in units of the person's size in the picture (longer side of the box, mean over the window) and is scaled
    per joint by ``SPREAD``.
    """

    speed: tuple[float, float] = (0.6, 1.6)
    varied: float = 0.5  # share of windows that are spliced and bent at all; the others move as recorded
    splice: float = 0.35  # upper body from another clip
    bend: float = 0.35  # each pivot
    tilt: float = 0.1  # whole body, up to 1.6 rad
    bone_scale: float = 0.06
    fov_degrees: tuple[float, float] = (28.0, 80.0)  # along the longer side of the picture
    person_height: tuple[float, float] = (0.25, 0.85)  # of the picture's height
    steep_camera: float = 0.25  # pitch from -0.5 to 1.1 rad instead of 0.08 +- 0.2
    turning_camera: float = 0.3  # turns where it stands, and as often walks around the person
    exact: float = 0.15  # windows whose keypoints are the truth
    offset: tuple[float, float] = (0.5, 1.2)  # times ``OFFSET_UP``
    joint_bias: float = 0.013
    slow_jitter: tuple[float, float] = (0.005, 0.014)
    white_jitter: tuple[float, float] = (0.0005, 0.003)
    half_hidden: float = 0.08  # legs, or one side, out of the picture or behind a thing for the whole window
    burst: float = 0.04  # each joint
    burst_size: float = 0.12
    swap: float = 0.04  # arms, and again legs
    dropout: float = 0.1  # everything missing for some frames
    low_rate: float = 0.6  # filmed at 10 to 60 fps instead of 50
    short: float = 0.2  # the clip ends within the window, whose rest repeats its last frame as at inference
    unscored: float = 0.25  # the detector says nothing of its certainty: all scores are 1
    back_and_forth: float = 0.0  # a clip shorter than the window turns round at its ends, instead of standing still
    normalization: str = "person"
    fps: float = MOTION_FPS  # of the windows; the motion is filmed at 50 and every second frame taken for 25

    @property
    def stride(self) -> int:
        """Recorded frames per frame of a window."""
        return round(MOTION_FPS / self.fps)


CLEAN: dict[str, Any] = {"exact": 0.0, "offset": (0.0, 0.0), "joint_bias": 0.0, "slow_jitter": (0.0, 0.0),
         "white_jitter": (0.0, 0.0), "half_hidden": 0.0, "burst": 0.0, "swap": 0.0, "dropout": 0.0, "low_rate": 0.0,
         "short": 0.0, "unscored": 1.0}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch.

    Attributes:
        inputs: (B, T, 17, 3) normalized x and y, and the score in [0, 1]; a network takes as many as it has channels.
        joints: (B, T, 17, 3) metres, pelvis at the origin.
    """

    inputs: Tensor
    joints: Tensor


class Randomness:
    """Random draws on one device from one generator."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = torch.device(device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return draws from [low, high)."""
        return low + (high - low) * torch.rand(*shape, device=self.device, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal draws."""
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def happens(self, chance: float, *shape: int) -> Tensor:
        """Return True with probability ``chance``."""
        return torch.rand(*shape, device=self.device, generator=self.generator) < chance

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return draws from low to high - 1."""
        return torch.randint(low, high, shape, device=self.device, generator=self.generator)

    def smooth(self, count: int, frames: int, *shape: int, knots_every: int = 20) -> Tensor:
        """Return (count, frames, *shape) curves of unit variance at their knots, which lie about 0.4 s apart."""
        knots = self.normal(count, frames // knots_every + 3, *shape)
        place = torch.arange(frames, device=self.device) / knots_every + self.uniform(0, 1, count, 1)
        floor = place.long()
        weight = (1 - torch.cos((place - floor) * math.pi)) / 2
        rows = torch.arange(count, device=self.device)[:, None]
        return torch.lerp(knots[rows, floor], knots[rows, floor + 1], weight.view(*weight.shape, *[1] * len(shape)))


def make_batch(library: MotionLibrary, count: int, frames: int, recipe: Recipe, rng: Randomness) -> Batch:
    """Return ``count`` windows of ``frames`` frames at the recipe's rate: motion, body, camera, detections, input.

    Everything happens at the 50 frames per second of the recordings; then frames are left out, which is what resampling
    at inference comes to.
    """
    frames = (frames - 1) * recipe.stride + 1
    world = vary_motion(library, count, frames, recipe, rng)  # (B, T, 17, 3)
    camera, focal, picture = film(world, recipe, rng)  # (B, T, 17, 3), (B,), (B, 2)
    coco = coco17_from_h36m17(camera)
    pixels = focal[:, None, None, None] * coco[..., :2] / coco[..., 2:] + picture[:, None, None] / 2 - 0.5
    detected = detect(pixels, hidden_joints(camera), recipe, rng)  # (B, T, 17, 3)
    points, joints = _cut_short(coco17_to_h36m17(detected), camera - camera[:, :, :1], recipe, rng)
    points, joints = points[:, :: recipe.stride], joints[:, :: recipe.stride]
    points, scores = points.split((2, 1), dim=-1)
    if recipe.normalization == "picture":
        inputs = normalize.to_picture(points, *(x[:, None, None] for x in picture.unbind(-1)))
        return Batch(torch.cat([inputs, scores], dim=-1), joints)
    assumed = picture.amax(-1) / 2 / math.tan(math.radians(normalize.DEFAULT_FOV_DEGREES) / 2)
    rays = (points + 0.5 - picture[:, None, None] / 2) / assumed[:, None, None, None]
    inputs, rotation = normalize.to_person(rays)
    return Batch(torch.cat([inputs, scores], dim=-1), joints @ rotation[:, None].mT)


def _cut_short(points: Tensor, joints: Tensor, recipe: Recipe, rng: Randomness) -> tuple[Tensor, Tensor]:
    """Return both (B, T, 17, 3) with the last frame of a clip that ends within the window repeated to its end."""
    count, frames = points.shape[:2]
    last = torch.where(rng.happens(recipe.short, count), rng.integers(0, frames, count), frames - 1)
    kept = torch.minimum(torch.arange(frames, device=rng.device), last[:, None])
    rows = torch.arange(count, device=rng.device)[:, None]
    return points[rows, kept], joints[rows, kept]


# ---------------------------------------------------------------------------------------------------- bodies


def vary_motion(library: MotionLibrary, count: int, frames: int, recipe: Recipe, rng: Randomness) -> Tensor:
    """Return (B, T, 17, 3) world joints: recorded motion, spliced, bent, tilted, resized, mirrored and turned."""
    joints, other = (library.draw(count, frames, recipe.speed, rng.generator, recipe.back_and_forth) for _ in range(2))
    is_varied = rng.happens(recipe.varied, count)
    is_spliced = rng.happens(recipe.splice, count) & is_varied
    joints = torch.where(is_spliced[:, None, None, None], _splice(joints, other), joints)
    for joint, std, below in PIVOTS:
        angle = rng.smooth(count, frames, 3) * std * (rng.happens(recipe.bend, count) & is_varied)[:, None, None]
        turned = joints[:, :, list(below)] - joints[:, :, joint : joint + 1]
        joints[:, :, list(below)] = joints[:, :, joint : joint + 1] + turned @ rotation_matrix(angle).mT
    joints = scale_bones(joints, 1 + recipe.bone_scale * rng.normal(count, 17).clamp(-2.5, 2.5))
    pelvis = joints[:, :, :1]
    tilt_axis = torch.nn.functional.pad(rng.normal(count, 1, 2), (0, 1))
    tilt = torch.nn.functional.normalize(tilt_axis, dim=-1) * rng.uniform(0, 1.6, count, 1, 1)
    tilt = tilt * rng.happens(recipe.tilt, count)[:, None, None]
    yaw = torch.nn.functional.pad(rng.uniform(-math.pi, math.pi, count, 1, 1), (2, 0))
    turn = rotation_matrix(yaw) @ rotation_matrix(tilt)  # (B, 1, 3, 3)
    middle = pelvis[:, frames // 2 : frames // 2 + 1]
    joints = (joints - pelvis) @ turn.mT + (pelvis - middle) @ rotation_matrix(yaw).mT
    return torch.where(rng.happens(0.5, count)[:, None, None, None], mirror(joints), joints)


def scale_bones(joints: Tensor, factors: Tensor) -> Tensor:
    """Return joints (B, T, 17, 3) with bones stretched by their child's factor (B, 17), sized to the nominal adult.

    Left and right get the factor of the left side. The root path is scaled by the same amount as the body.
    """
    factors = factors.clone()
    for left, right in H36M17.left_right:
        factors[:, right] = factors[:, left]
    children = list(range(1, 17))
    parents = [PARENTS[child] for child in children]
    bones = (joints[:, :, children] - joints[:, :, parents]) * factors[:, None, 1:, None]  # (B, T, 16, 3)
    size = NOMINAL_BONE_SUM_M / bones.norm(dim=-1).sum(-1).mean(-1)  # (B,)
    placed = [joints[:, :, 0]]
    for child in children:
        placed.append(placed[PARENTS[child]] + bones[:, :, child - 1])
    return torch.stack(placed, dim=2) * size[:, None, None, None]


def _splice(joints: Tensor, other: Tensor) -> Tensor:
    """Return ``joints`` with the upper body of ``other``, turned so that both pelvises face the same way."""

    def heading(x: Tensor) -> Tensor:
        hips = x[:, :, H36M17.index("left_hip")] - x[:, :, H36M17.index("right_hip")]
        return torch.atan2(hips[..., 1], hips[..., 0])

    angle = torch.nn.functional.pad((heading(joints) - heading(other))[..., None], (2, 0))  # (B, T, 3)
    upper = list(UPPER_BODY)
    spliced = joints.clone()
    relative = other[:, :, upper] - other[:, :, :1]
    spliced[:, :, upper] = joints[:, :, :1] + relative @ rotation_matrix(angle).mT
    return spliced


def rotation_matrix(vector: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) about ``vector`` (..., 3) by its length in radians (Rodrigues' formula)."""
    angle = vector.norm(dim=-1).clamp(min=1e-8)[..., None, None]
    x, y, z = (vector / angle[..., 0]).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, device=vector.device) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


# --------------------------------------------------------------------------------------------------- cameras


def film(world: Tensor, recipe: Recipe, rng: Randomness) -> tuple[Tensor, Tensor, Tensor]:
    """Return camera joints (B, T, 17, 3), focal lengths (B,) in pixels and picture sizes (B, 2) width, height."""
    count, frames = world.shape[:2]
    shapes = torch.tensor([[1920, 1080], [1440, 1080], [1080, 1080], [1080, 1920]], device=rng.device).float()
    picture = shapes[rng.integers(0, len(shapes), count)]
    fov = torch.deg2rad(rng.uniform(*recipe.fov_degrees, count))
    focal = picture.amax(-1) / 2 / torch.tan(fov / 2)
    extent = (world.amax(2) - world.amin(2)).norm(dim=-1).mean(-1)  # diagonal of the body's box, (B,)
    height = rng.uniform(*recipe.person_height, count) * picture[:, 1]
    distance = focal * extent / height
    steep = rng.happens(recipe.steep_camera, count)
    pitch = torch.where(steep, rng.uniform(-0.5, 1.1, count), 0.08 + 0.2 * rng.normal(count))  # positive looks down
    base = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], device=rng.device)  # world (z up) to a level camera
    look = rotation_matrix(_about_x(pitch)) @ base  # (B, 3, 3)
    off_centre = rng.uniform(-0.8, 0.8, count, 2) * (picture / 2 - 0.3 * height[:, None]).clamp(min=0) / focal[:, None]
    aside = normalize.facing(off_centre).mT
    roll = rotation_matrix(torch.nn.functional.pad(0.05 * rng.normal(count, 1), (2, 0)))
    walk = rng.smooth(count, frames, 1, knots_every=60) * 0.2 * rng.happens(recipe.turning_camera, count)[:, None, None]
    around = rotation_matrix(torch.nn.functional.pad(walk, (2, 0)))  # (B, T, 3, 3), about the vertical
    camera = world @ (look[:, None] @ around).mT
    camera = camera + torch.nn.functional.pad(distance[:, None], (2, 0))[:, None, None]
    nearest = camera[..., 2].flatten(1).amin(1)
    camera[..., 2] += (0.4 * extent - nearest).clamp(min=0)[:, None, None]  # nobody walks through the lens
    pan = rng.smooth(count, frames, 1, knots_every=60) * 0.12 * rng.happens(recipe.turning_camera, count)[:, None, None]
    turn = rotation_matrix(torch.nn.functional.pad(pan, (1, 1))) @ (roll @ aside)[:, None]  # (B, T, 3, 3)
    camera = camera @ turn.mT
    camera[..., 2] = camera[..., 2].clamp(min=0.2)
    return camera, focal, picture


def _about_x(angle: Tensor) -> Tensor:
    return torch.nn.functional.pad(angle[..., None], (0, 2))


# ------------------------------------------------------------------------------------------------ detections


def coco17_from_h36m17(joints: Tensor) -> Tensor:
    """Return COCO-17 points (..., 17, 3) of H36M-17 joints (..., 17, 3): limbs by name, a face built on the head.

    The recordings have a point at nose level and one at the top of the head; eyes and ears are put at the places they
    have in an adult skull.
    """
    thorax, nose, head = (joints[..., H36M17.index(name), :] for name in ("thorax", "nose", "head"))
    unit = torch.nn.functional.normalize
    up = unit(head - thorax, dim=-1)
    front = nose - thorax
    front = unit(front - (front * up).sum(-1, keepdim=True) * up, dim=-1)
    left = torch.linalg.cross(up, front)
    level = nose + 0.01 * up
    face = {
        "nose": nose + 0.05 * front,
        "left_eye": level + 0.03 * front + 0.03 * up + 0.032 * left,
        "right_eye": level + 0.03 * front + 0.03 * up - 0.032 * left,
        "left_ear": level - 0.06 * front + 0.075 * left,
        "right_ear": level - 0.06 * front - 0.075 * left,
    }
    points = [face[n] if n in face else joints[..., H36M17.index(n), :] for n in COCO17.names]
    return torch.stack(points, dim=-2)


def hidden_joints(camera: Tensor) -> Tensor:
    """Return (B, T, 17) bool, True for the COCO-17 points of joints (B, T, 17, 3) m that the own body hides."""
    points = coco17_from_h36m17(camera)  # (B, T, 17, 3)
    rays = points[..., :2] / points[..., 2:]
    hidden = torch.zeros(points.shape[:-1], dtype=torch.bool, device=camera.device)
    for first, last, radius in CAPSULES:
        ends = camera[:, :, [H36M17.index(first), H36M17.index(last)]]  # (B, T, 2, 3)
        start, stop = (ends[..., :2] / ends[..., 2:]).unsqueeze(-2).unbind(2)  # (B, T, 1, 2)
        axis = stop - start
        along = ((rays - start) * axis).sum(-1) / axis.square().sum(-1).clamp(min=1e-9)
        along = along.clamp(0, 1)  # (B, T, 17)
        depth = torch.lerp(ends[:, :, :1, 2], ends[:, :, 1:, 2], along)
        aside = (rays - start - along[..., None] * axis).norm(dim=-1) * depth
        behind = (aside < radius) & (points[..., 2] > depth + HIDING_DEPTH_M)
        behind[..., [i for i, name in enumerate(COCO17.names) if name in (first, last)]] = False
        hidden |= behind
    return hidden


def _of_parts(values: dict[str, Any], missing: Any) -> list[Any]:
    """Return one value per COCO-17 point out of values by body part."""
    return [values.get(name.rpartition("_")[2], missing) for name in COCO17.names]


def detect(pixels: Tensor, hidden: Tensor, recipe: Recipe, rng: Randomness) -> Tensor:
    """Return keypoints (B, T, 17, 3) as a detector gives them, x and y in px and a score: biased, jittery, swapped.

    Args:
        pixels: (B, T, 17, 2) true COCO-17 points.
        hidden: (B, T, 17) bool, points that cannot be seen; their errors are larger and their scores low.
        recipe: How much of everything.
        rng: Random draws.
    """
    count, frames = pixels.shape[:2]
    size = (pixels.amax(2) - pixels.amin(2)).amax(-1).mean(-1)[:, None, None, None]
    spread = torch.tensor(_of_parts(SPREAD, (1.0, 1.0)), device=rng.device)  # (17, 2)
    hidden = hidden | _half_hidden(count, recipe, rng)
    share = _smoothed(hidden.float())  # the detector loses and finds a joint within some frames
    spread = torch.lerp(spread[:, 0], spread[:, 1], share)[..., None]  # (B, T, 17, 1)
    bias = recipe.joint_bias * rng.normal(count, 1, 17, 2)
    slow = 0.8 * rng.smooth(count, frames, 17, 2) + 0.6 * rng.smooth(count, frames, 17, 2, knots_every=6)
    slow = slow * rng.uniform(*recipe.slow_jitter, count, 1, 1, 1)
    white = rng.normal(count, frames, 17, 2) * rng.uniform(*recipe.white_jitter, count, 1, 1, 1)
    noisy = pixels + size * (spread * (bias + slow + white) + _offset(pixels, recipe, rng))
    bursts = _spans(rng, count, frames, 17, recipe.burst, 3, 20)[..., None]
    noisy = noisy + size * recipe.burst_size * rng.normal(count, 1, 17, 2) * bursts
    scores = (1 - HIDDEN_LOSS * share[..., None]) * (1 - BURST_LOSS * bursts)
    noisy = torch.cat([noisy, scores], dim=-1)  # (B, T, 17, 3)
    for part in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        swapped = _spans(rng, count, frames, 1, recipe.swap, 2, 15)[..., None]
        order = list(range(17))
        for name in part:
            left, right = COCO17.index(f"left_{name}"), COCO17.index(f"right_{name}")
            order[left], order[right] = right, left
        noisy = torch.where(swapped, noisy[:, :, order], noisy)
    missing = _spans(rng, count, frames, 1, recipe.dropout, 2, 12)[..., 0]
    noisy = _bridge(noisy, missing) * torch.where(missing[..., None, None], noisy.new_tensor([1, 1, 0]), 1)
    truth = torch.nn.functional.pad(pixels, (0, 1), value=1.0)
    noisy = torch.where(rng.happens(recipe.exact, count)[:, None, None, None], truth, noisy)
    noisy = _film_slower(noisy, recipe, rng)
    is_unscored = rng.happens(recipe.unscored, count)[:, None, None]
    return torch.cat([noisy[..., :2], torch.where(is_unscored, 1.0, noisy[..., 2])[..., None]], dim=-1)


def _half_hidden(count: int, recipe: Recipe, rng: Randomness) -> Tensor:
    """Return (B, 1, 17) bool: the legs, or the left or right limbs, of some windows."""
    names = COCO17.names
    legs = [name.endswith(("knee", "ankle")) for name in names]
    sides = [[name.startswith(side) for name in names] for side in ("left", "right")]
    masks = torch.tensor([legs, legs, *sides], device=rng.device)
    return (masks[rng.integers(0, len(masks), count)] & rng.happens(recipe.half_hidden, count, 1))[:, None]


def _smoothed(values: Tensor, reach: int = 4) -> Tensor:
    """Return values (B, T, J) averaged over ``reach`` frames on either side; the ends repeat."""
    padded = torch.nn.functional.pad(values.transpose(1, 2), (reach, reach), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, 2 * reach + 1, stride=1).transpose(1, 2)


def _offset(pixels: Tensor, recipe: Recipe, rng: Randomness) -> Tensor:
    """Return where a detector's idea of a joint differs from its centre, (B, T, 17, 2) in person sizes."""
    shoulders, hips = (
        (pixels[:, :, COCO17.index(f"left_{part}")] + pixels[:, :, COCO17.index(f"right_{part}")]) / 2
        for part in ("shoulder", "hip")
    )
    up = torch.nn.functional.normalize(shoulders - hips, dim=-1, eps=1e-6)[:, :, None]  # (B, T, 1, 2)
    amount = torch.tensor(_of_parts(OFFSET_UP, 0.0), device=rng.device)[:, None]
    return up * amount * rng.uniform(*recipe.offset, len(pixels), 1, 1, 1)


def _spans(rng: Randomness, count: int, frames: int, joints: int, chance: float, shortest: int, longest: int) -> Tensor:
    """Return (B, T, joints) bool, True inside one random span of frames where ``chance`` strikes."""
    start = rng.integers(-longest, frames, count, 1, joints)
    length = rng.integers(shortest, longest + 1, count, 1, joints)
    time = torch.arange(frames, device=rng.device)[None, :, None]
    return (time >= start) & (time < start + length) & rng.happens(chance, count, 1, joints)


def _bridge(keypoints: Tensor, missing: Tensor) -> Tensor:
    """Return keypoints (B, T, 17, 3) with the one missing span of each window (B, T) bool interpolated linearly."""
    frames = keypoints.shape[1]
    missing = missing & ~missing.all(1, keepdim=True)  # a whole window has nothing to be bridged from
    time = torch.arange(frames, device=keypoints.device).expand_as(missing)
    first = torch.where(missing, time, frames).amin(1, keepdim=True) - 1  # last frame seen before the gap
    last = torch.where(missing, time, -1).amax(1, keepdim=True) + 1
    before, after = torch.where(first < 0, last, first), torch.where(last >= frames, first, last)
    before, after = before.clamp(0, frames - 1), after.clamp(0, frames - 1)
    weight = ((time - first) / (last - first).clamp(min=1)).clamp(0, 1)[..., None, None]
    rows = torch.arange(len(keypoints), device=keypoints.device)[:, None]
    bridged = torch.lerp(keypoints[rows, before], keypoints[rows, after], weight)
    return torch.where(missing[..., None, None], bridged, keypoints)


def _film_slower(keypoints: Tensor, recipe: Recipe, rng: Randomness) -> Tensor:
    """Return keypoints as filmed at a lower frame rate and interpolated back to 50 fps."""
    count, frames = keypoints.shape[:2]
    rates = torch.tensor([10.0, 15, 24, 25, 30, 30, 30, 60], device=rng.device)
    rate = rates[rng.integers(0, len(rates), count)]
    rate = torch.where(rng.happens(recipe.low_rate, count), rate, MOTION_FPS)[:, None]
    phase = rng.uniform(0, 1, count, 1)
    time = torch.arange(frames, device=rng.device)[None]
    slow = time * rate / MOTION_FPS + phase
    floor = slow.floor()
    weight = (slow - floor)[..., None, None]

    def at(place: Tensor) -> Tensor:  # the detector's answer at a moment of the slow film
        moment = ((place - phase) * MOTION_FPS / rate).clamp(0, frames - 1)
        low = moment.long()
        rows = torch.arange(count, device=rng.device)[:, None]
        high = (low + 1).clamp(max=frames - 1)
        return torch.lerp(keypoints[rows, low], keypoints[rows, high], (moment - low)[..., None, None])

    filmed = torch.lerp(at(floor), at(floor + 1), weight)
    return torch.where((rate == MOTION_FPS)[..., None, None], keypoints, filmed)
