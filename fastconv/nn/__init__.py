"""Trainable nets: layers, models, training."""

from __future__ import annotations

from fastconv.nn import augment, callbacks, data, initializers, losses, metrics, optimizers, regularizers
from fastconv.nn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv1d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    Input,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sigmoid,
    Softmax,
    Tanh,
    Tensor,
)
from fastconv.nn.losses import CrossEntropy, MeanSquaredError
from fastconv.nn.model import Model, Sequential
from fastconv.nn.optimizers import SGD, Adam
from fastconv.nn.regularizers import L1, L1L2, L2
from fastconv.nn.serialization import load

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "SGD",
    "Adam",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "CrossEntropy",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "Input",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MeanSquaredError",
    "Model",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Tensor",
    "augment",
    "callbacks",
    "data",
    "initializers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
]
