"""Builds the CPU scan kernel, once per instruction set; every build is optional: no compiler, no failure."""

import hashlib
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

# -fno-tree-loop-im: GCC stores the sums of the backward pass twice otherwise
COMMON = ["/O2", "/std:c++17"] if sys.platform == "win32" else [
    "-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-tree-loop-im", "-pthread",
]  # fmt: skip
SOURCES = [f"lifter/scan/{name}" for name in ("kernel.cpp", "fused_ops.cpp", "vectors.h")]  # as in lifter/scan/cpu.py
SOURCE_SHA256 = hashlib.sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)).hexdigest()
BUILDS = {"portable": []}
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"]

setup(
    ext_modules=[
        Extension(
            f"lifter.scan._kernel_{name}",
            [name for name in SOURCES if name.endswith(".cpp")],
            depends=SOURCES,
            define_macros=[("SOURCE_SHA256", f'"{SOURCE_SHA256}"')],
            extra_compile_args=COMMON + flags,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            optional=True,
        )
        for name, flags in BUILDS.items()
    ]
)
