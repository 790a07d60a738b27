"""Trainable nets: layers, models, training.

Shapes are those of one sample; input channels and features are inferred; arguments are those of PyTorch's modules.

================================================  ===================================  ===========================
layer                                             takes                                gives
================================================  ===================================  ===========================
Conv1d, Conv2d, Conv3d                            (C, L), (C, H, W), (C, D, H, W)      (out_channels, ...)
DepthwiseConv2d                                   (C, H, W)                            (C * depth_multiplier, ...)
ConvTranspose1d, ConvTranspose2d                  (C, L), (C, H, W)                    (out_channels, ...)
Linear                                            (F,)                                 (out_features,)
BatchNorm; BatchNorm1d, BatchNorm2d               any; (F,) or (C, L), (C, H, W)       the same
InstanceNorm2d; GroupNorm, LocalResponseNorm      (C, H, W); (C, ...)                  the same
LayerNorm                                         any                                  the same
MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d        (C, L), (C, H, W)                    (C, ...)
AdaptiveAvgPool1d, -2d, AdaptiveMaxPool1d, -2d    (C, L), (C, H, W)                    (C, *output_size)
GlobalAvgPool, -1d, -2d, GlobalMaxPool, -1d, -2d  (C, ...); (C, L), (C, H, W)          (C,), or (C, 1, ...)
Upsample                                          (C, L), (C, H, W), (C, D, H, W)      (C, ...)
PixelShuffle, PixelUnshuffle                      (C, H, W)                            (C / r**2, H * r, W * r)
Pad                                               any                                  longer or shorter sides
Dropout, GaussianNoise                            any                                  the same
Dropout2d; DropBlock2d                            (C, ...); (C, H, W)                  the same
ReLU, ReLU6, LeakyReLU, ELU, SELU, GELU, SiLU     any                                  the same
Mish, Softplus, Hardswish, Hardsigmoid, PReLU     any                                  the same
Sigmoid, Tanh, Softmax                            any                                  the same
Flatten, Reshape; Permute                         any                                  elements in order; not so
Add, or ``a + b``                                 two or more that broadcast           the larger sizes
Multiply, or ``a * b``                            two that broadcast                   the larger sizes
Concat                                            two or more that differ in one axis  the sum along that
================================================  ===================================  ===========================

Dropout, DropBlock and noise act in training only, and are pure functions of the model's seed, the step and the layer.
A model is called like a layer, too; what is built on it shares its parameters.
"""

from __future__ import annotations

from fastconv.nn import (
    augment,
    callbacks,
    data,
    initializers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from fastconv.nn.layers import (
    ELU,
    GELU,
    SELU,
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool1d,
    AvgPool2d,
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    DepthwiseConv2d,
    DropBlock2d,
    Dropout,
    Dropout2d,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    GlobalMaxPool,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    GroupNorm,
    Hardsigmoid,
    Hardswish,
    Input,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    MaxPool1d,
    MaxPool2d,
    Mish,
    Multiply,
    Pad,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    PReLU,
    ReLU,
    ReLU6,
    Reshape,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    Tensor,
    Upsample,
)
from fastconv.nn.losses import CrossEntropy, MeanSquaredError
from fastconv.nn.model import Model, Sequential
from fastconv.nn.optimizers import SGD, Adam, AdamW, RMSprop
from fastconv.nn.regularizers import L1, L1L2, L2
from fastconv.nn.serialization import load

__all__ = [
    "ELU",
    "GELU",
    "L1",
    "L1L2",
    "L2",
    "SELU",
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossEntropy",
    "DepthwiseConv2d",
    "DropBlock2d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Input",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MeanSquaredError",
    "Mish",
    "Model",
    "Multiply",
    "PReLU",
    "Pad",
    "Permute",
    "PixelShuffle",
    "PixelUnshuffle",
    "RMSprop",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Tensor",
    "Upsample",
    "augment",
    "callbacks",
    "data",
    "initializers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
]
