"""Pixels to network coordinates: known answers, exact inverses, and what must not matter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifter import normalize
from lifter.lift import mirror

# A standing figure in meters, camera axes, 17 points; what matters is only that it has an extent in all directions.
BODY = torch.randn(5, 17, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.4


def rays_of(joints: torch.Tensor) -> torch.Tensor:
    return joints[..., :2] / joints[..., 2:]


def at(x: float, y: float, z: float) -> torch.Tensor:
    return BODY + torch.tensor([x, y, z], dtype=torch.float64)


# ---------------------------------------------------------------------------------------------- by picture


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        ((-0.5, -0.5), (-1, -9 / 16)),  # the picture's corners: pixel centers are whole numbers
        ((1919.5, 1079.5), (1, 9 / 16)),
        ((959.5, 539.5), (0, 0)),
        ((0, 0), (-1 + 1 / 1920, (1 - 1080) / 1920)),
    ],
)
def test_to_picture_known_answers(pixel, expected):
    point = normalize.to_picture(torch.tensor(pixel, dtype=torch.float64), 1920, 1080)
    assert point.tolist() == pytest.approx(expected, abs=1e-12)  # float64


def test_to_picture_is_the_published_formula_on_corner_coordinates():
    # x' = 2 x / w - 1, y' = 2 y / w - h / w, with x counted from the corner of the picture
    w, h = 640, 854
    keypoints = torch.rand(3, 17, 2, dtype=torch.float64) * 600
    corner = keypoints + 0.5
    expected = 2 * corner / w - torch.tensor([1, h / w], dtype=torch.float64)
    assert torch.allclose(normalize.to_picture(keypoints, w, h), expected, rtol=0, atol=1e-12)  # float64


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920)])
def test_focal_length_is_measured_along_the_longer_side(width, height):
    assert normalize.focal_px(width, height, 90) == pytest.approx(960)
    assert normalize.focal_px(width, height, 2 * math.degrees(math.atan(0.5))) == pytest.approx(1920)


# ---------------------------------------------------------------------------------------------- by person


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_facing_is_a_proper_rotation_onto_the_optical_axis(a, b):
    ray = torch.tensor([a, b], dtype=torch.float64)
    rotation = normalize.facing(ray)
    direction = torch.tensor([a, b, 1.0], dtype=torch.float64)
    axis = torch.tensor([0, 0, 1.0], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(rotation @ rotation.T, eye, rtol=0, atol=1e-12)  # float64
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    assert torch.allclose(rotation @ direction, direction.norm() * axis, rtol=0, atol=1e-12)


def test_facing_known_answers():
    assert torch.equal(normalize.facing(torch.zeros(2)), torch.eye(3))
    turned = normalize.facing(torch.tensor([1.0, 0.0], dtype=torch.float64))  # 45 degrees to the right
    c = math.sqrt(0.5)
    expected = torch.tensor([[c, 0, -c], [0, 1, 0], [c, 0, c]], dtype=torch.float64)
    assert torch.allclose(turned, expected, rtol=0, atol=1e-12)  # float64


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_facing_takes_the_shortest_way(a, b):
    # the angle of a rotation is acos((trace - 1) / 2), and must be the angle between the ray and the axis
    rotation = normalize.facing(torch.tensor([a, b], dtype=torch.float64))
    cosine = (float(rotation.diagonal().sum()) - 1) / 2
    assert cosine == pytest.approx(1 / math.sqrt(a * a + b * b + 1), abs=1e-12)  # float64


@pytest.mark.parametrize("scale", [0.1, 1.3, 20.0])
def test_a_larger_person_farther_away_looks_the_same(scale):
    points, rotation = normalize.to_person(rays_of(at(1, -0.5, 4)))
    scaled, same = normalize.to_person(rays_of(scale * at(1, -0.5, 4)))
    assert torch.allclose(scaled, points, rtol=0, atol=1e-12)  # float64
    assert torch.allclose(same, rotation, rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", [(0, 0, 5), (2, 0, 5), (-2, 1.5, 4)])
def test_points_are_centered_and_two_units_large(place):
    points, _ = normalize.to_person(rays_of(at(*place)))
    low, high = points.amin(-2), points.amax(-2)
    assert float((high - low).amax(-1).mean()) == pytest.approx(2)
    assert ((low + high) / 2).mean(0).abs().max() < 0.2  # the box of turned points: centered up to perspective


@pytest.mark.parametrize("place", [(0.3, 0.1, 5), (2, -1, 6)])
def test_turning_the_camera_to_the_person_turns_the_answer_back(place):
    # The normalized points are the person as seen by a camera turned by exactly the returned rotation.
    joints = at(*place)
    points, rotation = normalize.to_person(rays_of(joints))
    seen = rays_of(joints @ rotation.T)
    size = float((seen.amax(-2) - seen.amin(-2)).amax(-1).mean())
    assert torch.allclose(points, seen * 2 / size, rtol=0, atol=1e-12)  # float64


def test_to_person_of_the_mirror_image_is_the_mirror_image():
    rays = rays_of(at(1.2, -0.4, 4))
    points, rotation = normalize.to_person(rays)
    mirrored, mirrored_rotation = normalize.to_person(mirror(rays))
    flip = torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    assert torch.allclose(mirrored, mirror(points), rtol=0, atol=1e-12)  # float64
    assert torch.allclose(mirrored_rotation, flip @ rotation @ flip, rtol=0, atol=1e-12)


def test_a_person_of_no_size_stays_finite():
    points, rotation = normalize.to_person(torch.full((3, 17, 2), 0.2))
    assert torch.isfinite(points).all()
    assert torch.isfinite(rotation).all()
