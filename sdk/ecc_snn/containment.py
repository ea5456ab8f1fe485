"""What keeps somebody else's exception from ending one of our threads."""

from __future__ import annotations

import logging
from types import TracebackType

from ecc_model.errors import EccError

_log = logging.getLogger("ecc_snn")


class Contained:
    """A context manager that lets nothing out: all that is raised inside is counted, the first is logged.

    An `EccError` is logged as its one line, anything else with its traceback. For one thread at a time.
    """

    def __init__(self, what: str) -> None:
        self.count = 0
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        self.count += 1
        if self.count == 1:
            known = isinstance(error, EccError)
            _log.error(
                "%s failed: %s (said once, later ones are only counted)",
                self._what,
                error if known else repr(error),
                exc_info=None if known else error,
            )
        return True
