"""Weights of lifters that their authors publish: names -> files beside the shipped ones. Imports no torch by itself.

No hash of them is published. So a file is read as tensors only, must fit the network that its name says, strictly, and
its SHA-256, recorded beside it by the first ``posemamba fetch``, is demanded from then on, of later downloads, too.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from torch import Tensor

    from checkpoints.lifter_weights import Weights

FOLDER = Path(__file__).resolve().parent
MANIFEST = FOLDER / "downloads.toml"
FIRST_STAGE = "bam."  # how the keys of MDTF's first stage begin in a file of both
UNPUBLISHED = {"hgmamba": "HGMamba", "ssr-stf": "SSR-STF"}  # their authors publish no weights


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One file.

    Attributes:
        name: What ``posemamba fetch`` and ``--lifter`` call it.
        lifter: Name of the network in ``lifter.LIFTERS``; empty for a first stage, which is a part of others.
        sources: Addresses, best first.
        first_stage: Name of the file that holds the first stage of the network; empty if it has none.
        license: Of the weights: who got Human3.6M agreed to use it for research only.
    """

    name: str
    lifter: str
    sources: tuple[str, ...]
    first_stage: str = ""
    license: str = "research only (Human3.6M)"
    # The largest network has 19 million float32 numbers, three times that with the state of its optimizer.
    max_bytes: ClassVar[int] = 500_000_000

    @property
    def path(self) -> Path:
        """Where the file belongs."""
        return FOLDER / f"{self.name}.pth.tr"

    @property
    def record(self) -> Path:
        """Where the SHA-256 is kept, as ``sha256sum --check`` reads it."""
        return self.path.with_name(self.path.name + ".sha256")

    @property
    def is_here(self) -> bool:
        """Whether the file is here and was checked once; its hash is not read."""
        return self.path.is_file() and self.record.is_file()

    @property
    def hash_said(self) -> str:
        """What is known of the hash, for messages."""
        return f"SHA-256 {self.sha256}" if self.sha256 else "its hash is not published"

    @property
    def sha256(self) -> str:
        """The hash that was recorded, empty before the first download."""
        if not self.record.is_file():
            return ""
        digest = self.record.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise RuntimeError(f"{self.record} holds no SHA-256; delete it and run posemamba fetch {self.name}")
        return digest

    def accept(self, file: Path) -> None:
        """Record the hash of a file that is what the name says; with a hash on record the file must have that.

        Raises:
            ValueError: It is something else; the text goes on after the name of the file.
        """
        from checkpoints.lifter_weights import read_weights, sha256_of

        if self.sha256:
            digest = sha256_of(file)
            if digest != self.sha256:
                raise ValueError(
                    f"has SHA-256 {digest}, that of the first download was {self.sha256} (if the authors have replaced "
                    f"it and you trust them, delete {self.record})"
                )
            return
        try:
            weights = read_weights(file)
            _require_fit(self, weights.tensors)
        except ValueError as error:
            raise ValueError(f"is not {self.name}: {error}") from error
        self.record.write_text(f"{weights.sha256}  {self.path.name}\n", encoding="utf-8")


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tables of a manifest by name."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def published_weights() -> dict[str, PublishedWeights]:
    """Return every published file by name."""
    return {
        name: PublishedWeights(name, entry["lifter"], tuple(entry["sources"]), entry.get("first_stage", ""))
        for name, entry in read_toml(MANIFEST).items()
        if "lifter" in entry
    }


def fetched_lifters() -> list[str]:
    """Return the names that ``--lifter`` takes because all of their files were fetched; hashes are not read."""
    known = published_weights()
    here = {"", *(name for name, entry in known.items() if entry.is_here)}
    return [name for name, entry in known.items() if entry.lifter and {name, entry.first_stage} <= here]


def published_for(lifter: str) -> str:
    """Return the name of the published weights of a network, empty if there are none."""
    return next((name for name, entry in published_weights().items() if entry.lifter == lifter), "")


def hint_for(name: str, known: Iterable[str]) -> str:
    """Return what somebody may have meant by a name that is not ``known``, or why there is none; else nothing."""
    for prefix, title in UNPUBLISHED.items():
        if name.startswith(prefix):
            return f"the authors of {title} publish no weights; 'posemamba train --lifter NAME' makes some"
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def read_published(entry: PublishedWeights) -> Weights:
    """Return the verified weights of a lifter; those of two stages joined.

    Raises:
        FileNotFoundError: They were not fetched; the text has the command.
        RuntimeError: A file has another hash than at its first download.
        ValueError: These weights are only a part of a lifter.
    """
    from checkpoints.lifter_weights import find_checkpoint, read_weights
    from lifter.models.mdtf import join_stages

    if not entry.lifter:
        users = [each.name for each in published_weights().values() if each.first_stage == entry.name]
        raise ValueError(f"{entry.name} is no lifter but the first stage of {' and '.join(users)}; use one of these")
    weights = read_weights(find_checkpoint(entry.name))
    if not entry.first_stage:
        return weights
    if _has_first_stage(weights.tensors):
        return replace(weights, tensors=join_stages({}, weights.tensors))
    first = read_weights(find_checkpoint(entry.first_stage))
    tensors = join_stages(first.tensors, weights.tensors)
    return replace(weights, tensors=tensors, parts={first.path.name: first.sha256})


def require_network(entry: PublishedWeights, name: str, config: Any) -> None:
    """Raise ValueError unless a network, called ``name`` and configured so, is the one that an entry is named after."""
    from lifter import configuration

    if config != configuration(entry.lifter, ("reference",) if entry.first_stage else ()):
        raise ValueError(f"it holds weights of {name}, expected {entry.lifter}")


def _require_fit(entry: PublishedWeights, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless one file fits its network; a stage that is in another file is left untrained."""
    from lifter import create_model
    from lifter.load import build_for
    from lifter.models.mdtf import join_stages

    user = entry if entry.lifter else next(e for e in published_weights().values() if e.first_stage == entry.name)
    if user.first_stage:
        blank = create_model(user.lifter).state_dict()
        first = {key.removeprefix(FIRST_STAGE): x for key, x in blank.items() if key.startswith(FIRST_STAGE)}
        second = {key: x for key, x in blank.items() if not key.startswith(FIRST_STAGE)}
        if not entry.lifter:
            tensors = join_stages(tensors, second)
        else:
            tensors = join_stages({} if _has_first_stage(tensors) else first, tensors)
    name, model, _ = build_for(tensors)
    require_network(user, name, model.config)


def _has_first_stage(tensors: dict[str, Tensor]) -> bool:
    return any(key.startswith(FIRST_STAGE) for key in tensors)
