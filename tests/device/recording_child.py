"""A device that records until it is killed: `python recording_child.py MODEL STATE OUT [FILE_LIMIT_BYTES]`.

Prints each frame's record as a JSON line. With a limit its files may grow no longer, as on a full disk, and it ends by
itself after `LIMITED` frames.
"""

from __future__ import annotations

import itertools
import json
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame

LIMITED = 400


def main(model: str, state: str, out: str, limit: str = "") -> None:
    config = DeviceConfig(model=Path(model), state=Path(state), record=Path(out))
    with Device(config) as device:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        for count in itertools.count():
            if limit and count == LIMITED:
                return
            pixels = np.random.default_rng(count).integers(0, 256, (16, 16, 1), np.uint8)
            frame = Frame(count, count / 10, pixels, None)
            print(json.dumps(device.runtime.classify(frame).to_record()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
