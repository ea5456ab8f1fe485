"""`ecc-device`, and `python -m ecc_device`: settings that must stand before numpy is loaded, then the command line."""

from __future__ import annotations

import os

from ecc_model import console


def main() -> None:
    """Entry point of `ecc-device`."""
    # OpenBLAS starts a thread per core, which spins between frames: a whole core for products too small to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with console.interruptible():
        from ecc_device.cli import main as run

        run()


if __name__ == "__main__":
    main()
