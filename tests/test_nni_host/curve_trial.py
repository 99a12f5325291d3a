"""A trial without torch: reports a learning curve to the end, unless it is stopped before."""

import sys
import time

import nni

from nas_plugins import Architecture
from nas_plugins.nni.metric import final_metric


def main(epochs, patience_s):
    architecture = Architecture(nni.get_next_parameter())
    end = architecture["end"]
    for epoch in range(1, epochs + 1):
        value = end * (1 - 0.6 * epoch**-0.7)
        nni.report_intermediate_result(final_metric(architecture, value))
        if epoch == epochs // 2 and end < 0.5:
            time.sleep(patience_s)  # until the assessor has decided, or much longer
    nni.report_final_result(final_metric(architecture, value))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
