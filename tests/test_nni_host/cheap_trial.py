"""A trial without torch: sleeps up to so many seconds, then scores its architecture."""

import random
import sys
import time

import nni

from nas_plugins import Architecture
from nas_plugins.nni.metric import final_metric


def score_of(architecture):
    """Different for each architecture, and known to the test."""
    return int(architecture.id, 16) / 16**12


def main(longest_s):
    time.sleep(random.random() * longest_s)  # NNI hands out parameters in the order of asking
    architecture = Architecture(nni.get_next_parameter())
    time.sleep(random.random() * longest_s)
    nni.report_final_result(final_metric(architecture, score_of(architecture)))


if __name__ == "__main__":
    main(float(sys.argv[1]))
