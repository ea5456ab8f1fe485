import subprocess
import sys

THREADS = """
import os, sys
sys.argv = ["ecc-device", "--help"]
from ecc_device.__main__ import main
assert "numpy" not in sys.modules, "too late to tell its BLAS how many threads it may start"
try:
    main()
except SystemExit:
    pass
import numpy
numpy.ones((512, 512)) @ numpy.ones((512, 512))
print(len(os.listdir("/proc/self/task")))
"""


def test_numpy_starts_no_threads_that_spin_between_frames(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"
