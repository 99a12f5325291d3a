"""A mixture's weighted sum in less time and memory than candidate by candidate.

What :class:`~nas_plugins.supernet.MixedLayer` computes as a plain sum is the specification;
this gives the same outputs, gradients and running statistics up to rounding, for candidates
built like those of the cell spaces, in training. What is different:

- ReLU and pooling of one tensor are computed once for all the edges that leave it.
- ``none`` adds nothing; a candidate's factor is the scale of its last batch norm.
- Of a convolutional candidate only what its wide convolutions give is kept for the backward
  pass, or in low memory nothing; pointwise convolutions, batch norms and ReLUs are computed
  again.
- On a CPU activations are in channels-last order, and the gradients of depthwise convolutions
  are convolutions of other shapes, which have faster kernels.
"""

from nas_plugins.fused.mixture import weighted_sum
from nas_plugins.fused.sharing import Sharing

__all__ = ["Sharing", "weighted_sum"]
