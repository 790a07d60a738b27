"""The backend of ``torch.compile``: ``torch.compile(model, backend="fastconv")``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from functorch.compile import default_partition, make_boxed_func
from torch import fx
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch._guards import TracingContext

from fastconv.torch._inference import plan_inference
from fastconv.torch._interpolate import keep_interpolation
from fastconv.torch._training import call_kernels, use_kernels


def _partition(
    joint: fx.GraphModule, inputs: Sequence[Any], **options: Any
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Forward and backward pass of a net in training, on fastconv's operators."""
    use_kernels(joint.graph)
    joint.recompile()
    return default_partition(joint, inputs, **options)


def _compile_part(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    call_kernels(gm.graph)
    gm.recompile()
    return make_boxed_func(gm.forward)


def _compile_inference(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    context = TracingContext.try_get()
    static = context.fw_metadata.static_input_indices if context and context.fw_metadata else None
    plan_inference(gm, static or ())
    use_kernels(gm.graph)
    return _compile_part(gm, example_inputs)


@register_backend(name="fastconv")
def fastconv(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """Compile a graph that TorchDynamo has captured."""
    keep_interpolation(gm.graph)
    gm.recompile()
    compiler = aot_autograd(
        fw_compiler=_compile_part,
        bw_compiler=_compile_part,
        inference_compiler=_compile_inference,
        partition_fn=_partition,
    )
    compiled: Callable[..., Any] = compiler(gm, example_inputs)
    return compiled
