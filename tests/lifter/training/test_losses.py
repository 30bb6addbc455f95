"""Losses by hand."""

import math

import pytest
import torch

from lifter.training import losses
from lifter.training.losses import LossWeights


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


def test_gradients_of_the_loss_point_to_the_truth():
    torch.manual_seed(0)
    truth = torch.randn(2, 5, 17, 3)
    predicted = (truth + 0.1 * torch.randn(2, 5, 17, 3)).requires_grad_()
    before = losses.pose_loss(predicted, truth, LossWeights())
    before.backward()
    assert torch.isfinite(predicted.grad).all()
    after = losses.pose_loss(predicted.detach() - 0.01 * predicted.grad, truth, LossWeights())
    assert float(after) < float(before.detach())
