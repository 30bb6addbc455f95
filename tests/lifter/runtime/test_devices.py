"""Which device a name means, and why."""

import pytest
import torch

from lifter.runtime.devices import is_built_for, resolve_device, why_auto_is_cpu, why_not_cuda


@pytest.fixture
def no_cuda():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")


def test_a_named_device_is_taken_as_it_is():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_is_the_cpu_where_there_is_no_gpu(no_cuda):
    assert resolve_device("auto") == torch.device("cpu")
    assert why_auto_is_cpu() == why_not_cuda() == "torch sees no CUDA device"


@pytest.mark.parametrize("backend", ["cpu", "torch", "reference"])
def test_auto_is_the_cpu_for_a_scan_without_gpu_kernel(backend):
    assert resolve_device("auto", backend) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(no_cuda, device):
    with pytest.raises(RuntimeError, match=f"device '{device}' was asked for, but torch sees no CUDA device"):
        resolve_device(device)


@pytest.mark.requires_cuda
def test_auto_is_the_gpu_where_the_scan_has_a_kernel():
    assert why_auto_is_cpu() is None
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("auto", "cpu") == torch.device("cpu")


@pytest.mark.requires_cuda
def test_a_gpu_too_many_is_refused():
    with pytest.raises(RuntimeError, match="torch sees only"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")


# machine code runs within its major version, portable code on everything later: NVIDIA's compatibility rules
@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((9, 0), ["sm_75", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((7, 0), ["sm_75", "sm_90"], False),
        ((12, 1), ["sm_90a", "sm_120"], True),
        ((10, 0), ["sm_90"], False),
        ((10, 0), ["sm_75", "compute_90"], True),
        ((8, 0), ["compute_90"], False),
    ],
)
def test_old_and_new_gpus_are_told_from_those_that_torch_was_built_for(capability, architectures, expected):
    assert is_built_for(capability, architectures) is expected
