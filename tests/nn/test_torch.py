"""Training step by step beside PyTorch, in float64: forward, backward, loss, running statistics, optimizer, penalty."""

import numpy as np
import pytest

from fastconv import nn

torch = pytest.importorskip("torch")


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d_1 = torch.nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.batch_norm_1 = torch.nn.BatchNorm2d(6)
        self.conv2d_2 = torch.nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=False)
        self.conv2d_3 = torch.nn.Conv2d(6, 4, 1)
        self.linear_1 = torch.nn.Linear(10 * 9, 5)

    def forward(self, x):
        F = torch.nn.functional
        h = F.relu(self.batch_norm_1(self.conv2d_1(x)))
        h = h + F.leaky_relu(self.conv2d_2(h), 0.1)
        joined = torch.cat([F.max_pool2d(h, 3, 2, 1), F.avg_pool2d(torch.tanh(self.conv2d_3(h)), 2)], 1)
        return self.linear_1(joined.flatten(1))


def our_net():
    x = nn.Input((2, 12, 12))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(6, 3, padding=1, stride=2)(x)))
    h = h + nn.LeakyReLU(0.1)(nn.Conv2d(6, 3, padding=2, dilation=2, groups=3, bias=False)(h))
    branches = nn.MaxPool2d(3, 2, 1)(h), nn.AvgPool2d(2)(nn.Tanh()(nn.Conv2d(4, 1)(h)))
    return nn.Model(x, nn.Linear(5)(nn.Flatten()(nn.Concat()(*branches))), dtype="float64")


@pytest.mark.parametrize("soft", [False, True])
def test_training_follows_torch(soft):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 8, 2, 12, 12))  # four batches
    classes = rng.integers(0, 5, (4, 8))
    y = rng.dirichlet(np.ones(5), (4, 8)) if soft else classes

    model, twin = our_net(), TorchNet().double()
    for name in model.trainable:
        twin.get_parameter(name).data.copy_(torch.from_numpy(model.params[name]))
    model.compile(nn.Adam(0.01), nn.CrossEntropy(label_smoothing=0.1), regularizer=nn.L2(0.01))
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    for batch, target in zip(x, y, strict=True):
        ours = model.fit(batch, target, 8, shuffle=False, verbose=0).history["loss"][0]
        optimizer.zero_grad()
        loss = criterion(twin(torch.from_numpy(batch)), torch.from_numpy(target))
        loss = loss + 0.01 * sum((p**2).sum() for p in twin.parameters() if p.ndim > 1)
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-10)

    theirs = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
    for name, value in model.params.items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
    twin.eval()
    with torch.no_grad():
        np.testing.assert_allclose(
            model.predict(x[0]), twin(torch.from_numpy(x[0])).numpy(), rtol=1e-7, atol=1e-8
        )
