"""Well-known nets as PyTorch modules, faithful in structure and of any width; and how far two results may be apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    padding = kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, outputs, 3, stride)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.downsample = None if same else nn.Sequential(*conv_norm(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv 1512.03385."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        blocks: list[nn.Module] = []
        for stage in range(4):
            for block in range(2):
                outputs = width * 2**stage
                blocks.append(BasicBlock(channels, outputs, 2 if stage and not block else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.blocks(x)), 1))


class VGG(nn.Module):
    """Simonyan, Zisserman: "Very deep convolutional networks", arXiv 1409.1556; configuration D is VGG-16."""

    def __init__(
        self,
        width: int = 64,
        classes: int = 1000,
        stages: Sequence[int] = (2, 2, 3, 3, 3),
        hidden: int = 4096,
        pooled: int = 7,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, depth in enumerate(stages):
            outputs = width * 2 ** min(stage, 3)
            for _ in range(depth):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                channels = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((pooled, pooled))
        self.classifier = nn.Sequential(
            *(nn.Linear(channels * pooled**2, hidden), nn.ReLU(True), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout()),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [*conv_norm(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [*conv_norm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*layers, *conv_norm(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2", arXiv 1801.04381."""

    PLAN = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, classes: int = 1000, scale: float = 1.0, plan: Any = PLAN) -> None:
        super().__init__()
        channels = int(32 * scale)
        layers = [*conv_norm(3, channels, 3, 2), nn.ReLU6(inplace=True)]
        for expand, base, repeats, stride in plan:
            for number in range(repeats):
                outputs = int(base * scale)
                layers.append(InvertedResidual(channels, outputs, 1 if number else stride, expand))
                channels = outputs
        last = int(1280 * scale)
        self.features = nn.Sequential(*layers, *conv_norm(channels, last, 1), nn.ReLU6(inplace=True))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class UNet(nn.Module):
    """Ronneberger, Fischer, Brox: "U-Net", arXiv 1505.04597; one of the two steps up is an interpolation."""

    def __init__(self, width: int = 64, classes: int = 2, mode: str = "bilinear") -> None:
        super().__init__()
        self.mode = mode
        self.down1 = self.two_convs(3, width)
        self.down2 = self.two_convs(width, 2 * width)
        self.bottom = self.two_convs(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up2 = self.two_convs(4 * width, 2 * width)
        self.up1 = self.two_convs(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def two_convs(inputs: int, outputs: int) -> nn.Module:
        first, second = conv_norm(inputs, outputs, 3), conv_norm(outputs, outputs, 3)
        return nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        h = self.up2(torch.cat([b, self.up(c)], dim=1))
        align = False if self.mode == "bilinear" else None
        h = F.interpolate(h, size=a.shape[2:], mode=self.mode, align_corners=align)
        return self.head(self.up1(torch.cat([a, h], dim=1)))


class Dilated(nn.Module):
    """Chen, Papandreou, Schroff, Adam: "Rethinking atrous convolution" (DeepLabv3), arXiv 1706.05587."""

    def __init__(self, width: int = 64, classes: int = 5, rates: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(3, width, 3, 2), nn.LeakyReLU(0.1))
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for rate in rates
        )
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.ReLU())
        self.project = nn.Sequential(
            *conv_norm(width * (len(rates) + 1), width, 1), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        pooled = F.interpolate(self.pooled(h), size=h.shape[-2:], mode="nearest")
        h = self.project(torch.cat([*(branch(h) for branch in self.branches), pooled], dim=1))
        return F.interpolate(self.head(h), size=x.shape[-2:], mode="bilinear", align_corners=False)


def settle(net: nn.Module, seed: int = 0) -> nn.Module:
    """Batch normalisations with statistics as if the net had been trained."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
    return net


SHORT = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2))

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (lambda: ResNet18(8, 10), (4, 3, 32, 32)),
    "vgg": (lambda: VGG(4, 10, (1, 2, 2), 16, 2), (4, 3, 24, 24)),
    "mobilenetv2": (lambda: MobileNetV2(10, 0.5, SHORT), (4, 3, 32, 32)),
    "unet": (lambda: UNet(6), (3, 3, 16, 16)),
    "dilated": (lambda: Dilated(8), (3, 3, 18, 18)),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """A net as if it had been trained, and an input."""
    make, shape = NETS[name]
    return settle(make()).to(dtype), torch.randn(*shape, dtype=dtype)


def assert_as_close(ours: Tensor, net: nn.Module, x: Tensor, slack: float = 8.0) -> None:
    """``ours`` is as close to the result in double precision as ``net``'s own result is, up to ``slack``.

    How much an architecture lets rounding grow is measured on PyTorch's own kernels.
    """
    exact = copy.deepcopy(net).double()(x.double())
    theirs = net(x)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    eps = torch.finfo(theirs.dtype).eps * float(exact.detach().abs().max())
    allowed = slack * max(float((theirs - exact).detach().abs().max()), 4 * eps)
    assert float((ours - exact).detach().abs().max()) <= allowed
