"""Opens the web app; ``python app.py --help`` lists its settings. Nothing is defined here: ``app`` is the package."""

import os
import subprocess
import sys
from pathlib import Path

from app.cli.main import cli

if __name__ == "__main__":
    # A Hugging Face Space installs requirements.txt but not the checkout, so the compiled scan is built when it starts.
    # Where that fails, the slower scan is used and the reason is in the log.
    if "SPACE_ID" in os.environ:
        build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(build, cwd=Path(__file__).parent, check=False)
    cli(["ui", *sys.argv[1:]])
