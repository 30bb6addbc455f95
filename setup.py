"""Builds the CPU scan kernel, once per instruction set; every build is optional: no compiler, no failure."""

import hashlib
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

COMMON = ["/O2", "/std:c++17"] if sys.platform == "win32" else [
    "-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-pthread",
]  # fmt: skip
KERNEL = Path(__file__).with_name("lifter") / "scan" / "kernel.cpp"
SOURCE_SHA256 = hashlib.sha256(KERNEL.read_bytes()).hexdigest()
BUILDS = {"portable": []}
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"]

setup(
    ext_modules=[
        Extension(
            f"lifter.scan._kernel_{name}",
            ["lifter/scan/kernel.cpp"],
            define_macros=[("SOURCE_SHA256", f'"{SOURCE_SHA256}"')],
            extra_compile_args=COMMON + flags,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            optional=True,
        )
        for name, flags in BUILDS.items()
    ]
)
