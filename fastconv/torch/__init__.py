"""fastconv under PyTorch: its kernels as operators, as a backend of ``torch.compile``, and nets taken over.

Importing this module registers

* ``torch.ops.fastconv.*``: convolution, pooling, normalisation, dropout, linear layers and activations on CPU tensors
  of float32 and float64, differentiable, in the memory of the tensors.
"""

from __future__ import annotations

from fastconv._optional import require

require("torch", extra="torch")

from fastconv.torch import _ops  # noqa: E402, F401  (registers the operators)
