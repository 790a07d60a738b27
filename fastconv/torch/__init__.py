"""fastconv under PyTorch: its kernels as operators and as a backend of ``torch.compile``, and nets taken over.

* ``torch.compile(model, backend="fastconv")`` runs inference and training on the kernels; what they do not cover runs
  in PyTorch.  Batches and images may vary in size, memory may be channels last; second derivatives are refused.
* :func:`from_module` makes a :class:`fastconv.nn.Model` of a PyTorch module.
* ``torch.ops.fastconv.*`` are the kernels as differentiable operators on CPU tensors of float32 and float64.

Importing this module registers the backend and the operators.  Tensors and arrays share their memory; nothing is
copied but inputs that are not contiguous.
"""

from __future__ import annotations

from fastconv._optional import require

require("torch", extra="torch")

from fastconv.torch import backend  # noqa: E402, F401  (registers it, and the operators)
from fastconv.torch._export import from_module  # noqa: E402

__all__ = ["from_module"]
