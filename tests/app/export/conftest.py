"""Two people who walk, and a function that writes them in a format."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.export import WRITERS
from tests.people import walkers, with_options


@pytest.fixture(scope="module")
def result(walker):
    return walkers(walker[:150])


@pytest.fixture(scope="module")
def nobody(result):
    return replace(result, tracks=[], poses=[])


@pytest.fixture
def write(tmp_path):
    """A function that writes a result under other options, of bvh and trc the person at ``index``."""

    def write(name, result, *index, **options):
        path = tmp_path / f"pose.{name}"
        WRITERS[name].write(with_options(result, **options), path, *index)
        return path

    return write
