"""Working ahead changes neither order nor errors, and leaves no thread behind."""

from __future__ import annotations

import threading

import pytest

from detectors.prefetch import prefetch


def names():
    return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_items_come_in_order(count):
    assert list(prefetch(range(count), ahead=2)) == list(range(count))
    assert "prefetch" not in names()


def test_an_error_is_raised_at_its_place():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    seen = []
    with pytest.raises(ValueError, match="third"):
        for item in prefetch(items()):
            seen.append(item)
    assert seen == [1, 2]
    assert "prefetch" not in names()


def test_stopping_early_closes_the_source():
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    for item in (ahead := prefetch(items(), ahead=2)):
        if item == 3:
            break
    ahead.close()
    assert closed.wait(5)
    assert "prefetch" not in names()


def test_it_runs_at_most_so_far_ahead():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    for item in prefetch(items(), ahead=3):
        assert len(made) <= item + 6  # one being consumed, three waiting, one in hand, one just asked for
