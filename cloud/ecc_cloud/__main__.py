"""`ecc-cloud`, and `python -m ecc_cloud`."""

from __future__ import annotations

from ecc_model import console


def main() -> None:
    """Entry point of `ecc-cloud`."""
    with console.interruptible():
        from ecc_cloud.cli import main as run

        run()


if __name__ == "__main__":
    main()
