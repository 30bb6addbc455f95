"""Builds the CPU scan kernel, once per instruction set; every build is optional: no compiler, no failure."""

import platform
import sys

from setuptools import Extension, setup

COMMON = ["/O2", "/std:c++17"] if sys.platform == "win32" else [
    "-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-pthread",
]  # fmt: skip
BUILDS = {"portable": []}
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"]

setup(
    ext_modules=[
        Extension(
            f"lifter.scan._kernel_{name}",
            ["lifter/scan/kernel.cpp"],
            extra_compile_args=COMMON + flags,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            optional=True,
        )
        for name, flags in BUILDS.items()
    ]
)
