"""Weights files: which there are (``manifest``), downloads (``download``) and tensors (``tensors``, needs torch).

The other packages import this one; it imports none of them.
"""

from checkpoints.files import atomic_write, sha256_of
from checkpoints.manifest import DOWNLOADED, FOLDER, Entry, downloads, find, shipped, suggest, verify

__all__ = [
    "DOWNLOADED",
    "FOLDER",
    "Entry",
    "atomic_write",
    "downloads",
    "find",
    "sha256_of",
    "shipped",
    "suggest",
    "verify",
]
