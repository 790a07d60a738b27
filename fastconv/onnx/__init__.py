"""ONNX files in and out, and the backend that runs them.

:func:`load` makes a net of a file, :func:`save` a file of a net, and :mod:`fastconv.onnx.backend` implements
``onnx.backend.base``.  All need the package ``onnx`` (extra ``onnx``), which is imported where it is used.

Read are opsets 6 to 28 of ONNX's own operators, on 8- to 64-bit integers, truth values, and 16- to 64-bit floats:

Abs, Add, And, ArgMax, ArgMin, AveragePool, BatchNormalization, Cast, CastLike, Ceil, Celu, Clip, Concat, Constant,
ConstantOfShape, Conv, ConvTranspose, Cos, DepthToSpace, Div, Dropout, Elu, Equal, Erf, Exp, Expand, Flatten, Floor,
Gather, Gelu, Gemm, GlobalAveragePool, GlobalLpPool, GlobalMaxPool, Greater, GreaterOrEqual, GroupNormalization,
HardSigmoid, HardSwish, Identity, InstanceNormalization, LRN, LayerNormalization, LeakyRelu, Less, LessOrEqual, Log,
LogSoftmax, LpPool, MatMul, Max, MaxPool, Mean, Min, Mish, Mul, Neg, Not, Or, PRelu, Pad, Pow, Range, Reciprocal,
ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin, ReduceProd, ReduceSum,
ReduceSumSquare, Relu, Reshape, Resize, Round, Selu, Shape, Sigmoid, Sign, Sin, Size, Slice, Softmax, Softplus,
Softsign, SpaceToDepth, Split, Sqrt, Squeeze, Sub, Sum, Swish, Tanh, Tile, Transpose, Unsqueeze, Upsample, Where,
Xor.
"""

from __future__ import annotations

from fastconv.onnx._load import load
from fastconv.onnx._save import save
from fastconv.onnx._values import UnsupportedModelError

__all__ = ["UnsupportedModelError", "load", "save"]
