"""A device alone on a disk that is full from its start: `python full_disk_child.py MODEL STATE FRAMES FREED`.

After frame number FREED the file `ballast` beside STATE goes. Prints one JSON line per frame and one at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.sources import NpzRecording


def main() -> None:
    """See above."""
    model, state, source, freed = sys.argv[1:]
    with Device(DeviceConfig(model=Path(model), state=Path(state))) as device:
        for frame in NpzRecording(Path(source)):
            result = device.runtime.classify(Frame(frame.index, frame.time_s, frame.pixels, None))
            health = device.health.current().get("disk", "")
            print(json.dumps([result.label, result.why, result.row, health]))
            if frame.index == int(freed):
                (Path(state).parent / "ballast").unlink()
        print(json.dumps([device.store.summary().rows["waiting"], device.store.drops()]))


if __name__ == "__main__":
    main()
