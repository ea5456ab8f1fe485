"""Golden files: bytes that must not change."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"


class Golden:
    """Stored bytes that other programs, older and newer, must be able to read."""

    def __init__(self, regenerate: bool) -> None:
        self._regenerate = regenerate

    def stored(self, name: str, data: bytes) -> bytes:
        """What the file `name` holds; with --regenerate-golden that is `data` from now on."""
        path = GOLDEN / name
        if self._regenerate:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert path.exists(), f"{path} is missing; make it with: pytest --regenerate-golden"
        return path.read_bytes()

    def check(self, name: str, data: bytes) -> None:
        """`data` is what the file holds, byte for byte."""
        assert data.hex() == self.stored(name, data).hex(), (
            f"the bytes of {name} changed, so other programs cannot read them; docs/wire.md says what follows from that"
        )
