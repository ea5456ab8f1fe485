"""`ecc-tools`, and `python -m ecc_tools`: settings that must stand before numpy is loaded, then the command line."""

from __future__ import annotations

import os

from ecc_model import console


def main() -> None:
    """Entry point of `ecc-tools`."""
    # What is timed here is timed as a device runs it: numpy's products on one thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with console.interruptible():
        from ecc_tools.cli import main as run

        run()


if __name__ == "__main__":
    main()
