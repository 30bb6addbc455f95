"""The Muon optimizer: orthogonal updates, stacks as single matrices, steps of a known size."""

import pytest
import torch

from lifter.training.muon import RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 64), (5, 4, 128)])
def test_updates_are_nearly_orthogonal_with_the_same_directions(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    result = orthogonal(matrices)
    values = torch.linalg.svdvals(result)
    assert float(values.min()) > 0.5  # the quintic iteration is tuned for speed: it ends between 0.7 and 1.2 ...
    assert float(values.max()) < 1.3  # ... a little wider for the smallest singular values of a random square matrix
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    exact = u @ vt
    assert float((result * exact).sum() / (result.norm() * exact.norm())) > 0.97


def test_no_gradient_no_movement():
    assert torch.equal(orthogonal(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_the_step_has_its_size_and_goes_downhill(shape):
    torch.manual_seed(0)
    target = torch.randn(shape)
    weight = torch.nn.Parameter(torch.zeros(shape))
    optimizer = Muon([weight], lr=0.01, weight_decay=0.0)
    (weight - target).square().sum().backward()
    optimizer.step()
    # min(m, n) singular values near 1 give entries of root mean square 1 / sqrt(max(m, n)), which the rate cancels
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.01 * RMS, rel=0.2)
    assert float((weight.detach() * target).sum()) > 0


def test_a_stack_moves_like_its_matrices():
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(4, 8, 12))
    single = [torch.nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    gradients = [torch.randn(4, 8, 12) for _ in range(3)]
    one, many = Muon([stack], lr=0.02), Muon(single, lr=0.02)
    for gradient in gradients:
        stack.grad = gradient.clone()
        for parameter, part in zip(single, gradient, strict=True):
            parameter.grad = part.clone()
        one.step()
        many.step()
    assert torch.allclose(stack.detach(), torch.stack([p.detach() for p in single]), rtol=0, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"takes matrices or stacks of them, got shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
