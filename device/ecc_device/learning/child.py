"""The learner's process: `python -m ecc_device.learning.child FOLDER PARENT`.

Lowered priority, one thread, bounded memory; dies with its parent. Prints its progress, 0 to 100, a line each. SIGTERM
ends it at once, or where it learns by gradients after the step under way, whose end is kept in `checkpoint`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from ecc_device.learning.candidate import make_candidate
from ecc_device.learning.checkpoint import Checkpoint
from ecc_device.learning.job import read_job, write_outcome
from ecc_device.learning.memory import limit_memory, memory_typed
from ecc_model.errors import EccError

NICENESS = 15
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run one job; exit code 0 with an outcome written, 1 with one line on standard error."""
    folder, parent = Path(arguments[0]), int(arguments[1])
    _confine()
    if os.getppid() != parent:  # it died before the kernel was told to end us with it
        print(f"process {parent}, which wanted this update, has ended", file=sys.stderr)
        return 1
    try:
        with memory_typed():
            job, arrays = read_job(folder)
            checkpoint = Checkpoint(folder / "checkpoint")
            signal.signal(signal.SIGTERM, checkpoint.stop)
            write_outcome(folder, make_candidate(folder, job, arrays, _print_progress, checkpoint))
    except EccError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _confine() -> None:
    os.nice(NICENESS)
    limit_memory()
    # A learner without a device would learn for nobody: the kernel ends it with its parent.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _print_progress(share: float) -> None:
    print(round(100 * share), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
