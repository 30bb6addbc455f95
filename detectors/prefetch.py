"""``prefetch``: an iterator that works ahead in its own thread, so that the stages of a video overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any

POLL_S = 0.1  # how soon the thread notices that nobody wants its items any more


def prefetch(items: Iterable[Any], ahead: int = 4) -> Iterator[Any]:
    """Yield ``items`` in order while a thread prepares up to ``ahead`` of the next ones.

    An exception of ``items`` is raised at its place. When the caller stops early the thread ends, too, and ``items`` is
    closed in it.
    """
    worker = _Worker(items, ahead)
    worker.start()
    try:
        while (entry := worker.ready.get()) is not None:
            yield entry[0]
        if worker.error is not None:
            raise worker.error
    finally:
        worker.is_unwanted.set()
        worker.join()


class _Worker(threading.Thread):
    """Fills ``ready`` with one-element tuples, then None."""

    def __init__(self, items: Iterable[Any], ahead: int) -> None:
        super().__init__(name="prefetch", daemon=True)
        self.ready: queue.Queue[tuple[Any] | None] = queue.Queue(maxsize=ahead)
        self.is_unwanted = threading.Event()
        self.error: BaseException | None = None
        self._items = items

    def run(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._put((item,)):
                    break
        except BaseException as error:  # noqa: BLE001 - not swallowed: the consumer raises it
            self.error = error
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
            self._put(None)

    def _put(self, entry: tuple[Any] | None) -> bool:
        """Return whether ``entry`` found room before the consumer left."""
        while not self.is_unwanted.is_set():
            try:
                self.ready.put(entry, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False
