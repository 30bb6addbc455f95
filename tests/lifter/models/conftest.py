"""What the tests of the networks share."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="module")
def golden(root) -> Callable[[str], dict[str, np.ndarray]]:
    """A function from the name of a golden file to its arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(root / "tests" / "golden" / f"{name}.npz") as npz:
            return {key: npz[key] for key in npz.files}

    return load
