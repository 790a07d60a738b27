"""The backend of ``torch.compile``: ``torch.compile(model, backend="fastconv")``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from functorch.compile import make_boxed_func
from torch import fx
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch._guards import TracingContext

from fastconv.torch._inference import plan_inference


def _compile_inference(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    context = TracingContext.try_get()
    static = context.fw_metadata.static_input_indices if context and context.fw_metadata else ()
    plan_inference(gm, static or ())
    gm.recompile()
    return make_boxed_func(gm.forward)


@register_backend(name="fastconv")
def fastconv(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    return aot_autograd(fw_compiler=_compile_inference, inference_compiler=_compile_inference)(gm, example_inputs)
