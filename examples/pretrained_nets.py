"""Two nets trained on ImageNet, as graphs that take the weights of examples/fetch_pretrained.py."""

from collections.abc import Mapping

import numpy as np

from fastconv import nn

# (channels of the squeezing layer, channels of each expanding one) by stage: SqueezeNet 1.1
SQUEEZENET_STAGES = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)

# (repeats, kernel, stride of the first, expansion, output channels)
EFFICIENTNET_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

SIDE = 224  # of the square images


def squeezenet(weights: Mapping[str, np.ndarray]) -> nn.Model:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360) without its softmax.

    Parameters
    ----------
    weights : mapping
        ``"conv1.weight"`` (K, C, H, W), ``"conv1.bias"`` and so on.

    Returns
    -------
    Model
        From BGR images (3, 224, 224) to 1000 logits; see ``classify.PREPROCESSING``.
    """

    def fire(x: nn.Tensor, number: int, squeezed: int, expanded: int) -> nn.Tensor:
        name = f"fire{number}"
        x = nn.ReLU()(nn.Conv2d(squeezed, 1, name=f"{name}.squeeze1x1")(x))
        narrow = nn.ReLU()(nn.Conv2d(expanded, 1, name=f"{name}.expand1x1")(x))
        wide = nn.ReLU()(nn.Conv2d(expanded, 3, padding=1, name=f"{name}.expand3x3")(x))
        return nn.Concat()(narrow, wide)

    image = nn.Input((3, SIDE, SIDE))
    x = nn.ReLU()(nn.Conv2d(64, 3, stride=2, padding=_same(3, 2), name="conv1")(image))
    number = 2
    for stage in SQUEEZENET_STAGES:
        x = nn.MaxPool2d(3, stride=2)(x)
        for squeezed, expanded in stage:
            x = fire(x, number, squeezed, expanded)
            number += 1
    x = nn.GlobalAvgPool2d()(nn.Conv2d(1000, 1, name="conv10")(x))
    return _filled(nn.Model(image, x, name=None), weights)


def efficientnet_lite0(weights: Mapping[str, np.ndarray]) -> nn.Model:
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, in its version for small devices).

    Parameters
    ----------
    weights : mapping
        ``"stem.weight"``, ``"block0.depthwise.weight"``, ``"block0.depthwise_norm.running_var"`` and so on.

    Returns
    -------
    Model
        From RGB images (3, 224, 224) to 1000 logits; see ``classify.PREPROCESSING``.
    """

    def normed(x: nn.Tensor, layer: nn.Layer, name: str) -> nn.Tensor:
        return nn.BatchNorm2d(eps=1e-3, name=f"{name}_norm")(layer(x))

    def pointwise(x: nn.Tensor, channels: int, name: str) -> nn.Tensor:
        return normed(x, nn.Conv2d(channels, 1, bias=False, name=name), name)

    def block(x: nn.Tensor, name: str, kernel: int, stride: int, expansion: int, channels: int) -> nn.Tensor:
        before = x
        if expansion > 1:
            x = nn.ReLU6()(pointwise(x, expansion * x.shape[0], f"{name}.expand"))
        depthwise = nn.DepthwiseConv2d(
            kernel, stride, _same(kernel, stride), bias=False, name=f"{name}.depthwise"
        )
        x = nn.ReLU6()(normed(x, depthwise, f"{name}.depthwise"))
        x = pointwise(x, channels, f"{name}.project")
        return x + before if x.shape == before.shape else x

    image = nn.Input((3, SIDE, SIDE))
    x = normed(image, nn.Conv2d(32, 3, 2, _same(3, 2), bias=False, name="stem"), "stem")
    x = nn.ReLU6()(x)
    number = 0
    for repeats, kernel, stride, expansion, channels in EFFICIENTNET_LITE0_STAGES:
        for repeat in range(repeats):
            x = block(x, f"block{number}", kernel, 1 if repeat else stride, expansion, channels)
            number += 1
    x = nn.GlobalAvgPool2d()(nn.ReLU6()(pointwise(x, 1280, "head")))
    return _filled(nn.Model(image, nn.Linear(1000, name="classifier")(nn.Dropout(0.2)(x))), weights)


def _same(kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding of an image whose sides are multiples of the stride: more at its lower right."""
    low, high = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return low, high, low, high


def _filled(model: nn.Model, weights: Mapping[str, np.ndarray]) -> nn.Model:
    if set(weights) != set(model.params):
        different = sorted(set(weights) ^ set(model.params))
        raise ValueError(f"the weights must be those of the net; of one alone are {different}")
    for name, param in model.params.items():
        if weights[name].shape != param.shape:
            raise ValueError(f"{name} must have the shape {param.shape}, got {weights[name].shape}")
        param[...] = weights[name]
    return model
