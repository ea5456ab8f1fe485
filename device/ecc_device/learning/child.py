"""The learner's process: `python -m ecc_device.learning.child FOLDER PARENT`.

Lowered priority, one thread, bounded memory; dies with its parent. Prints its progress, 0 to 100, a line each.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from ecc_device.learning.candidate import make_candidate
from ecc_device.learning.job import read_job, write_outcome
from ecc_model.errors import EccError

NICENESS = 15
MEMORY_BYTES = 2 << 30  # of private data; torch itself takes about 0.4 GB
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run one job; exit code 0 with an outcome written, 1 with one line on standard error."""
    folder, parent = Path(arguments[0]), int(arguments[1])
    _confine()
    if os.getppid() != parent:  # it died before the kernel was told to end us with it
        print(f"process {parent}, which wanted this update, has ended", file=sys.stderr)
        return 1
    try:
        job, arrays = read_job(folder)
        write_outcome(folder, make_candidate(folder, job, arrays, _print_progress))
    except EccError as error:
        print(error, file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):  # torch's way to say so
            raise
        print(f"the update needs more than {MEMORY_BYTES >> 20} MiB; learn from fewer rows", file=sys.stderr)
        return 1
    return 0


def _confine() -> None:
    os.nice(NICENESS)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_BYTES)  # it may not be raised
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # A learner without a device would learn for nobody: the kernel ends it with its parent.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _print_progress(share: float) -> None:
    print(round(100 * share), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
