"""``posemamba doctor``: what this machine can do, and why not more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import typer

from app import __version__
from app.console import print_result
from checkpoints import downloads, find, verify
from detectors import AUTO, DETECTORS, meanings, resolve_detector
from lifter import LIFTERS, trained_lifters


def doctor() -> None:
    """Show devices, scan backends with reasons, detectors and weights found."""
    for line in (*_devices(), *_detectors()):
        print_result(line)
    problems = 0
    for line, is_damaged in (*_detector_weights(), *_lifter_weights()):
        print_result(line)
        problems += is_damaged
    untrained = ", ".join(name for name in LIFTERS if name not in trained_lifters())
    print_result(
        f"no weights here for {untrained}: train some ('posemamba train') or pass a weights file instead of a name"
    )
    raise typer.Exit(1 if problems else 0)


def _devices() -> Iterator[str]:
    import torch

    from lifter import scan
    from lifter.runtime.devices import why_auto_is_cpu, why_not_cuda

    yield f"posemamba-wild {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}"
    yield f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    no_cuda, is_cpu = why_not_cuda(), why_auto_is_cpu()
    yield f"cuda: {no_cuda or torch.cuda.get_device_name()}"
    yield f"device auto: {f'cpu ({is_cpu})' if is_cpu else 'cuda'}"
    for device in ["cpu"] if no_cuda else ["cpu", "cuda"]:
        for name, reason in scan.usable_backends(device).items():
            yield f"scan backend {name} on {device}: {reason or 'usable, ' + scan.describe(name)}"
        yield f"scan backend auto on {device}: {scan.describe(scan.resolve_backend('auto', device))}"


def _detectors() -> Iterator[str]:
    for name, spec in DETECTORS.items():
        yield f"detector {name}: {spec.state()}"
    try:
        yield f"detector auto: {resolve_detector(AUTO)}"
    except RuntimeError as error:
        yield f"detector auto: {error}"
    for quality, about in meanings().items():
        yield f"quality {quality}: {about}"


def _detector_weights() -> Iterator[tuple[str, bool]]:
    """Yield a line per download and whether it is damaged.

    Those of lifters are not hashed, which for all of them would take seconds: every use does that.
    """
    for entry in downloads("detector").values():
        try:
            found = f"{verify(entry)}, {entry.hash_text} matches; {entry.license}"
            yield f"weights {entry.name}: {found}", False
        except FileNotFoundError:
            missing = f"not here: posemamba fetch {entry.name} ({entry.megabytes} MB, {entry.license})"
            yield f"weights {entry.name}: {missing}", False
        except RuntimeError as error:
            yield f"weights {entry.name}: {error}", True
    for published in downloads("lifter").values():
        missing = f"not here: posemamba fetch {published.name}"
        where = f"{published.path}, SHA-256 on record, checked at every use" if published.is_here else missing
        yield f"weights {published.name}: {where}; {published.license}", False


def _lifter_weights() -> Iterator[tuple[str, bool]]:
    """Yield a line per lifter that weights are shipped for, and whether they are damaged."""
    for name in trained_lifters():
        try:
            yield f"weights {name}: {find(name, 'lifter')}, SHA-256 matches", False
        except RuntimeError as error:
            yield f"weights {name}: {error}", True
