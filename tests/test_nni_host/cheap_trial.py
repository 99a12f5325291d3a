"""A trial without torch: sleeps up to half a second, then scores its architecture."""

import random
import sys
import time
from pathlib import Path

from nas_plugins import SearchSpace
from nas_plugins.nni import receive_architecture, report_score
from nas_plugins.nni.reporting import failing_loudly


def score_of(architecture):
    """Different for each architecture, and known to the test."""
    return int(architecture.id, 16) / 16**12


def main():
    space = SearchSpace.from_json(Path(sys.argv[1]))
    longest = float(sys.argv[2])
    time.sleep(random.random() * longest)  # before asking: NNI mixes up who asked first
    architecture = receive_architecture(space)
    with failing_loudly(architecture):
        if dict(architecture) == {"op": "bad"}:
            raise ValueError("this one fails")
        time.sleep(random.random() * longest)
        report_score(architecture, score_of(architecture))


if __name__ == "__main__":
    main()
