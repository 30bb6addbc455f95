"""From 2D keypoints to 3D joints: ``load_lifter``, ``create_model`` and the registry of networks.

Importing this package imports no torch: models are named as strings and imported when they are asked for.
"""

import os

# Before torch is imported: spinning OpenMP threads cost 5 to 9 times the work on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from lifter.registry import (
    LIFTERS,
    LifterSpec,
    configuration,
    create_model,
    lifter_spec,
    load_lifter,
    require_fit,
    trained_lifters,
    usable_lifters,
)

__all__ = [
    "LIFTERS",
    "LifterSpec",
    "configuration",
    "create_model",
    "lifter_spec",
    "load_lifter",
    "require_fit",
    "trained_lifters",
    "usable_lifters",
]
