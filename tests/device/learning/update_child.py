"""A device that learns, in a process that may be killed: `python update_child.py STATE MODEL LEARNER [LIMIT]`.

Prints `learning`, then the end of its update as JSON. LIMIT: files cannot grow beyond so many bytes, as on a full disk.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

from ecc_device.clock import VirtualClock
from ecc_device.learning.manager import UpdateManager
from ecc_device.models import open_active
from ecc_device.store import Store


def main() -> None:
    """See above."""
    state, model, learner, *limit = sys.argv[1:]
    with Store.open(Path(state)) as store:
        open_active(Path(model), store, Path(state), 0.0)
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), resource.RLIM_INFINITY))
        swap = lambda model, no: None  # noqa: E731
        manager = UpdateManager(
            store, Path(state), VirtualClock(), swap, shadow=lambda *_: None, shadow_frames=0, learner=learner
        )
        signal.signal(signal.SIGUSR1, lambda *_: manager.handle("undocked"))
        manager.open()
        manager.handle("charging")
        print("learning", flush=True)
        while (decision := manager.wait(0.05)) is None:
            pass
        print(json.dumps(decision.to_dict()), flush=True)


if __name__ == "__main__":
    main()
