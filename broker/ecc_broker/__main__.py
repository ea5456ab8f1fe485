"""`ecc-broker`, and `python -m ecc_broker`."""

from __future__ import annotations

from ecc_model import console


def main() -> None:
    """Entry point of `ecc-broker`."""
    with console.interruptible():
        from ecc_broker.cli import main as run

        run()


if __name__ == "__main__":
    main()
