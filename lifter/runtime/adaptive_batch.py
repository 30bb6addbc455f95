"""Batches as large as memory allows: halved after an out-of-memory error."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class AdaptiveBatch:
    """A function of rows that is called on fewer of them at once after ``torch.OutOfMemoryError``.

    Attributes:
        function: Maps (rows, ...) to (rows, ...), every row by itself.
        most_rows: What was found to fit, kept for later calls; None as long as everything did.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self.most_rows: int | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """Return ``function`` of all rows.

        Raises:
            torch.OutOfMemoryError: Not even a single row fits.
        """
        before, outputs, done = self.most_rows, [], 0
        while done < len(rows):
            batch = rows[done:][: self.most_rows]
            output = self._attempt(batch)
            if output is None:
                torch.cuda.empty_cache()  # of the failed attempt; nothing where CUDA is not in use
                self.most_rows = len(batch) // 2
            else:
                outputs.append(output)
                done += len(batch)
        if self.most_rows != before:
            log.warning("out of memory: from now on %d windows at once instead of %d", self.most_rows, len(rows))
        return torch.cat(outputs)

    def _attempt(self, batch: Tensor) -> Tensor | None:
        """Return ``function(batch)``, None if memory ran out."""
        try:
            return self.function(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise torch.OutOfMemoryError(
                    f"not even one window fits into memory ({error}); close what else uses it, or use --device cpu"
                ) from error
        return None  # outside of the handler, where the traceback no longer holds the attempt's tensors
