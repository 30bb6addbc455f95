"""``python -m app`` is ``posemamba``."""

from app.cli.main import main

if __name__ == "__main__":
    main()
