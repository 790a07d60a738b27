"""Run by test_contract: absurd sizes with little address space; every call must give the right answer or refuse."""

import resource
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.grad as G

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
fastconv.set_num_threads(1)

X, W = np.ones((1, 2, 5, 5)), np.ones((2, 2, 3, 3))
W32 = W.astype("float32")
ONE, WHERE = np.ones((1, 2, 1, 1)), np.zeros((1, 2, 1, 1), np.int64)
THIN = np.ones((1, 2, 5, 1))
WINOGRAD = {"algorithm": "winograd4"}


def wide(n: int, batch: int = 1) -> Any:
    """A huge array that takes 8 bytes."""
    return np.broadcast_to(np.float64(1), (batch, 2, n, 5))


# Each call with the sum of its result where it has one for every n; otherwise it may only refuse.
CALLS: list[tuple[Callable[[int], Any], float | None]] = [
    (lambda n: F.conv2d(X, W, stride=n), 36),
    (lambda n: F.conv2d(X, W, stride=n, padding=2), 4),
    (lambda n: F.conv2d(X, W, padding=n), None),
    (lambda n: F.conv2d(X, W, padding=(0, n)), None),
    (lambda n: F.conv2d(X, W, dilation=n), None),
    (lambda n: F.conv2d(X, W, dilation=n, padding=n), 100),
    (lambda n: F.conv2d(X, W, dilation=(1, n), padding=(0, n)), None),
    (lambda n: F.conv2d(X, W, groups=n), None),
    (lambda n: F.conv1d(X[0], W[:, :, 0], padding=n), None),
    (lambda n: F.conv2d(X, W, padding=n, **WINOGRAD), None),
    (lambda n: F.conv2d(X, W, padding=(n, 0), **WINOGRAD), None),
    (lambda n: F.conv2d(X, W, dilation=(n, 1), padding=(n, 0), **WINOGRAD), None),
    (lambda n: F.conv2d(wide(n, batch=0), W, **WINOGRAD), 0),
    (lambda n: G.conv2d_weight(wide(n, batch=0), W.shape, wide(n, batch=0), padding=1, **WINOGRAD), 0),
    (lambda n: F.conv2d(wide(n, batch=0).astype("float32"), W32, dilation=(n // 3, 1)), 0),
    (lambda n: F.conv_transpose2d(ONE, W, dilation=(n, 1), padding=(n - 1, 0), **WINOGRAD), None),
    (lambda n: G.conv2d_weight(X, (2, 2, 3, 3), X, dilation=n, padding=n, **WINOGRAD), None),
    (lambda n: F.conv2d(wide(n), W), None),
    (lambda n: F.conv2d(wide(n, batch=0), W), 0),
    (lambda n: F.conv_transpose2d(X, W, stride=n), None),
    (lambda n: F.conv_transpose2d(ONE, W, stride=n), 36),
    (lambda n: F.conv_transpose2d(ONE, W, stride=n, output_padding=n - 1), None),
    (lambda n: F.conv_transpose2d(ONE, W, dilation=n, padding=n - 1), None),
    (lambda n: G.conv2d_input((1, 2, 5, 5), W, ONE, stride=n), 36),
    (lambda n: G.conv2d_input((1, 2, n, n), W, ONE, stride=n), None),
    (lambda n: G.conv2d_weight(X, (2, 2, 3, 3), ONE, stride=n), 36),
    (lambda n: G.conv2d_weight(X, (2, 2, 3, 3), X, dilation=n, padding=n), 100),
    (lambda n: G.conv2d_weight(X, (2, 2, n, n), ONE), None),
    (lambda n: F.max_pool2d(X, 2, stride=n), 2),
    (lambda n: F.max_pool2d(X, n, padding=n // 2), None),
    (lambda n: F.max_pool2d(X, 2, dilation=n, padding=1), None),
    (lambda n: F.max_pool2d(wide(n, batch=0), 2), 0),
    (lambda n: G.max_pool2d(ONE, WHERE, (1, 2, 5, 5), 2, stride=n), 2),
    (lambda n: F.avg_pool2d(X, 2, stride=n, ceil_mode=True), 2),
    (lambda n: F.avg_pool2d(X, n, padding=n // 2), None),
    (lambda n: F.avg_pool2d(X, 2, divisor_override=-n), None),
    (lambda n: G.avg_pool2d(ONE, (1, 2, 5, 5), 2, stride=n), 2),
    (lambda n: G.avg_pool2d(ONE, (1, 2, 5, 5), n, padding=n // 2), None),
    (lambda n: F.adaptive_avg_pool2d(X, n), None),
    (lambda n: F.adaptive_max_pool1d(X[0], n), None),
    (lambda n: F.max_unpool2d(ONE, WHERE, 2, stride=n), 2),
    (lambda n: F.max_unpool2d(X, np.zeros((1, 2, 5, 5), np.int64), 2, stride=n), None),
    (lambda n: F.unfold(X, 2, stride=n), 8),
    (lambda n: F.unfold(X, 2, padding=n), None),
    (lambda n: F.fold(np.ones((1, 4, 1)), (n, n), 2, stride=n), None),
    (lambda n: F.pad(X, (n, n)), None),
    (lambda n: F.pad(X, (n, -n)), None),
    (lambda n: F.pad(X, (n, n, 0, 0), mode="replicate"), None),
    (lambda n: F.pad(X, (n, n, 0, 0), mode="circular"), None),
    (lambda n: F.relu(wide(n)), None),
    (lambda n: F.relu(wide(n, batch=0)), 0),
    (lambda n: F.softmax(X, n), None),
    (lambda n: F.drop_block2d(X, 0.5, n), None),
    (lambda n: F.dropout(X, 0.0, seed=n, offset=2 * n), 50),
    (lambda n: F.cross_entropy(np.zeros((2, 1)), np.zeros(2, int), ignore_index=-n), 0),
    (lambda n: fastconv.set_num_threads(n), None),
    (lambda n: fastconv.conv_matrix(W, (n, n)), None),
]

for number, (call, total) in enumerate(CALLS):
    for n in (2**31 - 1, 2**31, 2**40, 2**61, 2**62, 2**63 - 1, 2**63, 2**64):
        try:
            result = call(n)
        except (ValueError, MemoryError):
            continue
        assert total is None or np.sum(result) == total, (
            f"call {number} with {n}: {np.sum(result)}, not {total}"
        )

FAR = 2**31 - 1  # the largest stride; it is never taken
assert F.conv2d(X, W, stride=FAR).sum() == G.conv2d_weight(X, W.shape, ONE, stride=FAR).sum() == 36
assert F.conv2d(X, W).sum() == 324, "a refusal left something behind"
print("ok")
