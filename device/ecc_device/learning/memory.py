"""How much memory a learner may take, and what is said when that is not enough."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

from ecc_model.errors import UpdateError

MEMORY_BYTES = 2 << 30  # of private data; torch itself takes about 0.4 GB


def limit_memory() -> None:
    """From now on this process gets `MEMORY_BYTES` at most, or what it was given where that is less."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_BYTES)  # it may not be raised
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


@contextlib.contextmanager
def memory_typed() -> Iterator[None]:
    """Turns a lack of memory, as Python and as torch say it, into `UpdateError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and "can't allocate memory" not in str(exc):  # torch's way to say so
            raise
        raise UpdateError(f"the update needs more than {MEMORY_BYTES >> 20} MiB; learn from fewer rows") from exc
