"""One thread for torch: networks this small only wait for a second one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported
