"""Opens the web app; ``python app.py --help`` lists its settings. Nothing is defined here: ``app`` is the package."""

import sys

from app.cli import cli

if __name__ == "__main__":
    cli(["ui", *sys.argv[1:]])
