"""Mistakes raise ValueError or TypeError with a message that names the rule and what it got; nothing is computed.

Mistakes in dtype are in test_contract, for every op and argument; those that PyTorch shares are in test_torch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES, Case
from kit import ramp

X, W, B = ramp((2, 4, 6, 5)), ramp((6, 4, 3, 3), seed=1), ramp((6,), seed=2)
Y = ramp((2, 6, 4, 3))
LINE, LINE_W = ramp((2, 4, 6)), ramp((6, 4, 3))
LOGITS, LABELS = ramp((3, 5)), np.array([0, 4, 2])
_, WHERE = F.max_pool2d(X, 2, return_indices=True)
POOLED = ramp((2, 4, 3, 2))
_, MASK = F.dropout(X, 0.5, seed=0, return_mask=True)

V, T = ValueError, TypeError

BAD: list[tuple[str, Callable[[], Any], Any, str]] = [
    # convolution: every argument
    ("few axes", lambda: F.conv2d(X[0, 0], W), V, r"\(N, C, H, W\) or \(C, H, W\), got \(6, 5\)"),
    ("many axes", lambda: F.conv2d(X[None], W), V, r"\(N, C, H, W\) or \(C, H, W\), got \(1, 2, 4, 6, 5\)"),
    ("weight axes", lambda: F.conv2d(X, W[0]), V, r"4 dimensions, got shape \(4, 3, 3\)"),
    ("channels", lambda: F.conv2d(X, W[:, :3]), V, r"weight.shape\[1\] \* groups = 3 \* 1, got .*\(2, 4, 6, 5\)"),
    ("no channels", lambda: F.conv2d(X[:, :0], W[:, :0]), V, r"at least one channel.*\(6, 0, 3, 3\)"),
    ("no filters", lambda: F.conv2d(X, W[:0]), V, r"at least one channel.*\(0, 4, 3, 3\)"),
    ("empty kernel", lambda: F.conv2d(X, W[..., :0]), V, r"kernel sizes must be >= 1, .*\(6, 4, 3, 0\)"),
    ("groups of filters", lambda: F.conv2d(X, W[:5, :2], groups=2), V, "multiple of groups, got 5 and 2"),
    ("groups 0", lambda: F.conv2d(X, W, groups=0), V, "groups must be >= 1, got 0"),
    ("groups float", lambda: F.conv2d(X, W, groups=1.0), T, r"groups must be an integer, got 1\.0"),
    ("groups bool", lambda: F.conv2d(X, W, groups=True), T, "groups must be an integer, got True"),
    ("groups None", lambda: F.conv2d(X, W, groups=None), T, "groups must be an integer, got None"),
    ("stride 0", lambda: F.conv2d(X, W, stride=(1, 0)), V, r"stride must be >= 1, got \(1, 0\)"),
    ("stride text", lambda: F.conv2d(X, W, stride="2"), T, "stride must be an integer, got '2'"),
    ("stride float", lambda: F.conv2d(X, W, stride=(1, 2.0)), T, r"stride must be an integer, got 2\.0"),
    ("stride nan", lambda: F.conv2d(X, W, stride=math.nan), T, "stride must be an integer, got nan"),
    ("strides", lambda: F.conv2d(X, W, stride=(1, 1, 1)), V, r"one integer or 2.*got \(1, 1, 1\)"),
    ("stride list", lambda: F.conv2d(X, W, stride=[]), V, r"one integer or 2.*got"),
    ("stride huge", lambda: F.conv2d(X, W, stride=2**31), V, "stride must be <= 2147483647, got 2147483648"),
    ("dilation", lambda: F.conv2d(X, W, dilation=0), V, "dilation must be >= 1, got 0"),
    ("padding < 0", lambda: F.conv2d(X, W, padding=-1), V, "padding must be >= 0, got -1"),
    ("padding name", lambda: F.conv2d(X, W, padding="SAME"), V, "'valid' or 'same', got 'SAME'"),
    ("padding triple", lambda: F.conv2d(X, W, padding=(1, 1, 1)), V, r"got \(1, 1, 1\)"),
    ("padding nested", lambda: F.conv2d(X, W, padding=((1, 1), 1)), V, r"2 \(low, high\) pairs, got \(\(1, 1\), 1\)"),
    ("padding None", lambda: F.conv2d(X, W, padding=None), T, "padding must be an integer, got None"),
    ("same, stride 2", lambda: F.conv2d(X, W, stride=2, padding="same"), V, r"stride 1, got stride \(2, 2\)"),
    ("small image", lambda: F.conv2d(X[:, :, :2], W), V, r"effective kernel: input size 2 \+ padding \(0, 0\)"),
    ("dilated kernel", lambda: F.conv2d(X, W, dilation=(1, 3)), V, r"input size 5 .* dilation 3 \* \(kernel 3 - 1\)"),
    ("bias shape", lambda: F.conv2d(X, W, B[:5]), V, r"bias must have shape \(6,\), got \(5,\)"),
    ("bias axes", lambda: F.conv2d(X, W, B[:, None]), V, r"bias must have shape \(6,\), got \(6, 1\)"),
    ("algorithm", lambda: F.conv2d(X, W, algorithm="fft"), V, "'auto' or one of .* got 'fft'"),
    ("max_error", lambda: F.conv2d(X, W, max_error=math.nan), V, "max_error must be None or a number > 0, got nan"),
    ("max_error text", lambda: F.conv2d(X, W, max_error="low"), V, "number > 0, got 'low'"),
    ("ragged", lambda: F.relu([[1.0, 2.0], [3.0]]), (V, T), "inhomogeneous"),
    ("nothing", lambda: F.relu(None), T, "input must be float32 or float64, got object"),
    ("text", lambda: F.relu("1.0"), T, "input must be float32 or float64, got <U3"),
    # transposed convolution
    ("output_padding", lambda: F.conv_transpose2d(X, W[:4], output_padding=1),
     V, "smaller than stride or dilation, got output_padding 1"),
    ("output_padding < 0", lambda: F.conv_transpose2d(X, W[:4], output_padding=-1),
     V, "output_padding must be >= 0, got -1"),
    ("transposed channels", lambda: F.conv_transpose2d(X, W), V, r"equal weight.shape\[0\], got .*\(6, 4, 3, 3\)"),
    ("transposed groups", lambda: F.conv_transpose2d(X, W[:4], groups=3), V, "multiple of groups, got 4 and 3"),
    ("transposed padding", lambda: F.conv_transpose2d(X, W[:4], padding="same"), T, "must be integers, got 'same'"),
    ("transposed size", lambda: F.conv_transpose2d(X, W[:4], padding=4),
     V, "not be empty, got input size 6 -> output size 0"),
    # gradients of convolution
    ("grad shape", lambda: G.conv2d_input(X.shape, W, Y[:1]),
     V, r"grad_output must have shape \(2, 6, 4, 3\), got \(1, 6, 4, 3\)"),
    ("grad size", lambda: G.conv2d_input((4, 5), W, Y), V, r"input_size must have shape .*got \(4, 5\)"),
    ("size < 0", lambda: G.conv2d_input((2, 4, -6, 5), W, Y), V, "input_size must be >= 0"),
    ("size text", lambda: G.conv2d_input("2465", W, Y), T, "input_size must be a sequence of integers, got '2465'"),
    ("size int", lambda: G.conv2d_input(5, W, Y), T, "input_size must be a sequence of integers, got 5"),
    ("size float", lambda: G.conv2d_input((2, 4, 6.0, 5), W, Y), T, r"input_size must be an integer, got 6\.0"),
    ("weight size", lambda: G.conv2d_weight(X, (6, 4, 3), Y), V, "same number of dimensions"),
    ("weight channels", lambda: G.conv2d_weight(X, (6, 3, 3, 3), Y), V, "input channels must equal"),
    ("bias grad", lambda: G.conv_bias(B), V, r"shape \(N, K, ...\), got \(6,\)"),
    ("transposed grad", lambda: G.conv_transpose2d_input(X.shape, W[:4], X),
     V, r"grad_output must have shape \(2, 4, 8, 7\)"),
    # pooling
    ("kernel 0", lambda: F.max_pool2d(X, 0), V, "kernel_size must be >= 1, got 0"),
    ("kernel float", lambda: F.avg_pool2d(X, 2.0), T, r"kernel_size must be an integer, got 2\.0"),
    ("kernel large", lambda: F.max_pool2d(X, (2, 6)), V, r"input size 5 \+ 2 \* padding 0 < 6"),
    ("pool padding", lambda: F.max_pool2d(X, 3, padding=2), V, "at most half the kernel"),
    ("pool stride", lambda: F.avg_pool1d(LINE, 2, stride=0), V, "stride must be >= 1, got 0"),
    ("pool channels", lambda: F.max_pool2d(X[:, :0], 2),
     V, r"only the batch .* may be empty, got shape \(2, 0, 6, 5\)"),
    ("all padding", lambda: F.max_pool2d(X[:, :, :1], 2, padding=1, dilation=2),
     V, "every window must cover an element"),
    ("divisor", lambda: F.avg_pool2d(X, 2, divisor_override=0), V, "divisor_override must be other than 0 .*got 0"),
    ("divisor float", lambda: F.avg_pool2d(X, 2, divisor_override=1.5),
     T, r"divisor_override must be an integer, got 1\.5"),
    ("index_dtype", lambda: F.max_pool2d(X, 2, index_dtype="int32"), V, "'int64' or 'uint8', got 'int32'"),
    ("pool grad shape", lambda: G.max_pool2d(X, WHERE, X.shape, 2), V, r"must have shape \(2, 4, 3, 2\)"),
    ("pool grad indices", lambda: G.max_pool2d(POOLED, WHERE[:1], X.shape, 2),
     V, r"indices must have shape \(2, 4, 3, 2\)"),
    ("pool index dtype", lambda: G.max_pool2d(POOLED, WHERE.astype("int32"), X.shape, 2),
     T, "indices must be int64 or uint8, got int32"),
    ("pool index", lambda: G.max_pool2d(POOLED, WHERE + 30, X.shape, 2), V, r"indices must be in \[0, 30\)"),
    ("pool index < 0", lambda: G.max_pool2d(POOLED, -WHERE, X.shape, 2), V, r"indices must be in \[0, 30\)"),
    ("offset", lambda: G.max_pool2d(POOLED, WHERE.astype("uint8"), X.shape, 2), V, r"offsets in \[0, 4\)"),
    ("avg grad", lambda: G.avg_pool2d(X, X.shape, 2), V, r"grad_output must have shape \(2, 4, 3, 2\)"),
    ("adaptive 0", lambda: F.adaptive_avg_pool2d(X, 0), V, "output_size must be >= 1, got 0"),
    ("adaptive float", lambda: F.adaptive_max_pool2d(X, (2, 2.5)), T, r"output_size must be an integer, got 2\.5"),
    ("adaptive triple", lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), V, r"one integer or 2, got \(1, 2, 3\)"),
    ("adaptive grad", lambda: G.adaptive_avg_pool2d(X[0, 0], X.shape), V, "grad_output"),
    ("adaptive index", lambda: G.adaptive_max_pool2d(POOLED, WHERE + 30, X.shape), V, r"in \[0, 30\)"),
    ("unpool index", lambda: F.max_unpool2d(POOLED, WHERE + 30, 2), V, r"indices must be in \[0, 24\)"),
    ("unpool size", lambda: F.max_unpool2d(POOLED, WHERE, 2, output_size=(8, 5)),
     V, "output_size must be between 5 and 7"),
    ("unpool text", lambda: F.max_unpool2d(POOLED, WHERE, 2, output_size="65"), (V, T), "output_size"),
    ("unpool int", lambda: F.max_unpool2d(POOLED, WHERE, 2, output_size=6), (V, T), "output_size"),
    ("unpool shape", lambda: F.max_unpool2d(X, WHERE, 2), V, r"indices must have shape \(2, 4, 6, 5\)"),
    # dropout
    ("p > 1", lambda: F.dropout(X, 1.01), V, r"p must be a probability between 0 and 1, got 1\.01"),
    ("p nan", lambda: F.dropout(X, math.nan), V, "between 0 and 1, got nan"),
    ("p text", lambda: F.dropout(X, "half"), T, "p must be a number, got 'half'"),
    ("p when off", lambda: F.dropout(X, 2.0, training=False), V, r"got 2\.0"),
    ("seed < 0", lambda: F.dropout(X, seed=-1), V, "seed must be between 0 and .*, got -1"),
    ("seed float", lambda: F.dropout(X, seed=1.0), T, r"seed must be an integer, got 1\.0"),
    ("offset huge", lambda: F.dropout(X, seed=1, offset=2**64), V, "offset"),
    ("mask dtype", lambda: F.dropout(X, mask=X > 0), T, "packed bits of dtype uint8, got bool"),
    ("mask shape", lambda: F.dropout(X, mask=MASK[1:]), V, r"mask of 240 bits must have shape \(30,\), got \(29,\)"),
    ("mask per channel", lambda: F.dropout2d(X, mask=MASK), V, r"mask of 8 bits must have shape \(1,\), got \(30,\)"),
    ("mask and seed", lambda: F.drop_block2d(X, 0.1, 2, seed=1, mask=MASK), V, "a seed or a mask, not both"),
    ("block", lambda: F.drop_block2d(X, 0.1, 6), V, r"must not exceed the feature map, got 6 and map \(6, 5\)"),
    ("block 0", lambda: F.drop_block2d(X, 0.1, 0), V, "block_size must be >= 1, got 0"),
    ("block axes", lambda: F.drop_block2d(X[0], 0.1, 2), V, r"shape \(N, C, H, W\), got \(4, 6, 5\)"),
    ("dropout grad", lambda: G.dropout(X, MASK[1:], 0.5), V, r"must have shape \(30,\)"),
    # point-wise ops, linear, normalisation, loss
    ("slope < 0", lambda: F.leaky_relu(X, -0.1), V, r"negative_slope must be a finite number >= 0, got -0\.1"),
    ("slope inf", lambda: F.leaky_relu(X, math.inf), V, "finite number >= 0, got inf"),
    ("relu grad", lambda: G.relu(X, X[:1]), V, "grad_output"),
    ("dim", lambda: F.softmax(X, 4), V, r"dim must be between -4 and 3 for shape \(2, 4, 6, 5\), got 4"),
    ("dim None", lambda: F.log_softmax(X, None), T, "dim must be an integer, got None"),
    ("features", lambda: F.linear(X, W[0, 0]), V, r"in_features = 3 elements, got shape \(2, 4, 6, 5\)"),
    ("linear weight", lambda: F.linear(X, W), V, r"weight must have shape .*got \(6, 4, 3, 3\)"),
    ("linear bias", lambda: F.linear(LOGITS, ramp((2, 5)), B), V, r"bias must have shape \(2,\), got \(6,\)"),
    ("linear scalar", lambda: F.linear(1.0, ramp((2, 5))), V, r"got shape \(\)"),
    ("linear grad", lambda: G.linear_weight(LOGITS, ramp((4, 2))), V, "grad_output must have shape"),
    ("norm axes", lambda: F.batch_norm(B, B, B), V, r"shape \(N, C, ...\), got \(6,\)"),
    ("norm mean", lambda: F.batch_norm(X, B, B[:4]), V, r"running_mean must have shape \(4,\), got \(6,\)"),
    ("norm weight", lambda: F.batch_norm(X, B[:4], B[:4], B), V, r"weight must have shape \(4,\), got \(6,\)"),
    ("norm eps", lambda: F.batch_norm(X, B[:4], B[:4], eps=-1.0), V, r"eps must be >= 0, got -1\.0"),
    ("norm None", lambda: F.batch_norm(X, None, B[:4]), V, "must be given in evaluation"),
    ("norm values", lambda: F.batch_norm(X[:1, :, 0, 0], None, None, training=True),
     V, "more than 1 value per channel"),
    ("labels", lambda: F.cross_entropy(LOGITS, LABELS + 1),
     V, r"labels must be in \[0, 5\) or equal ignore_index -100, got 5"),
    ("labels past int64", lambda: F.cross_entropy(LOGITS, np.array([0, 1, 2**64 - 100], np.uint64)),
     V, r"in \[0, 5\) or equal ignore_index -100, got 18446744073709551516"),
    ("label shape", lambda: F.cross_entropy(LOGITS, LABELS[:2]),
     V, r"target labels .*must have shape \(3,\), got \(2,\)"),
    ("soft shape", lambda: F.cross_entropy(LOGITS, LOGITS[:2]),
     V, r"probabilities .*must have shape \(3, 5\), got \(2, 5\)"),
    ("target bool", lambda: F.cross_entropy(LOGITS, LABELS > 0), T, "integer labels or float probabilities, got bool"),
    ("reduction", lambda: F.cross_entropy(LOGITS, LABELS, reduction="max"), V, "'none', 'mean' or 'sum', got 'max'"),
    ("smoothing", lambda: F.cross_entropy(LOGITS, LABELS, label_smoothing=-0.1),
     V, r"label_smoothing must be .*got -0\.1"),
    ("class weights", lambda: F.cross_entropy(LOGITS, LABELS, B), V, r"weight must have shape \(5,\), got \(6,\)"),
    ("soft ignore", lambda: F.cross_entropy(LOGITS, LOGITS, ignore_index=1), V, "ignore_index is for labels"),
    ("ignore float", lambda: F.cross_entropy(LOGITS, LABELS, ignore_index=0.5),
     T, r"ignore_index must be an integer, got 0\.5"),
    ("loss grad", lambda: G.cross_entropy(LOGITS, LOGITS, LABELS), V, r"have shape \(\), got \(3, 5\)"),
    # patches and padding
    ("unfold kernel", lambda: F.unfold(X, 7), V, "effective kernel"),
    ("fold rows", lambda: F.fold(ramp((1, 7, 9)), (4, 4), 2), V, r"multiple of KH \* KW = 4, got 7"),
    ("fold columns", lambda: F.fold(ramp((1, 8, 8)), (4, 4), 2), V, r"must have shape \(1, 8, 9\), got \(1, 8, 8\)"),
    ("fold axes", lambda: F.fold(X, (4, 4), 2), V, r"or without N, got \(2, 4, 6, 5\)"),
    ("pad odd", lambda: F.pad(X, (1, 2, 3)), V, r"\(lo, hi\) pairs.*got \(1, 2, 3\)"),
    ("pad axes", lambda: F.pad(X, (1,) * 10), V, "at most one for each of 4 axes"),
    ("pad int", lambda: F.pad(X, 1), T, "pad must be a sequence of integers, got 1"),
    ("pad mode", lambda: F.pad(X, (1, 1), "edge"), V, r"mode must be one of .* got 'edge'"),
    ("pad crop", lambda: F.pad(X, (-3, -3)), V, r"cropped below 0, got size 5 and pad \(-3, -3\)"),
    ("pad reflect", lambda: F.pad(X, (5, 0, 0, 0), "reflect"), V, r"size 5 by 0 to 4 on each side, got \(5, 0\)"),
    ("pad grad", lambda: G.pad(X, X.shape, (1, 1)), V, r"grad_output must have shape \(2, 4, 6, 7\)"),
    # the package
    ("matrix weight", lambda: fastconv.conv_matrix(W[0, 0], (5, 5)), V, "got"),
    ("manual seed", lambda: fastconv.manual_seed(-1), V, "seed must be between 0 and .*got -1"),
    ("manual seed text", lambda: fastconv.manual_seed("0"), T, "seed must be an integer, got '0'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), [pytest.param(*each[1:], id=each[0]) for each in BAD])
def test_mistake(call: Callable[[], Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value)


def test_mistakes_have_names_of_their_own() -> None:
    names = [each[0] for each in BAD]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_arrays_of_any_wrong_shape_are_refused_or_right(each: Case) -> None:
    """Each array in turn with an axis more, less, longer or emptied: the reference's error, or its result."""
    clean = each.make("float64")
    for i, original in enumerate(clean):
        if not isinstance(original, np.ndarray):
            continue
        changed = [
            original[None],
            original[..., None],
            np.concatenate([original, original[:1]]),
            original.reshape(-1),
        ]
        changed += [original[0], original[:0], original[..., :0], original[..., :-1]]
        for other in changed:
            arguments = [*clean[:i], other, *clean[i + 1 :]]
            with fastconv.use_backend("reference"):
                expected = outcome(each, arguments)
            got = outcome(each, arguments)
            if isinstance(expected, str):
                assert got == expected, f"argument {i} of shape {other.shape}"
            else:
                for ours, theirs in zip(got, expected, strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def outcome(each: Case, arguments: list[Any]) -> Any:
    """The results, or the message of a ValueError or TypeError; anything else is not caught."""
    try:
        return each.run(arguments)
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("each", CASES, ids=str)
@pytest.mark.parametrize(
    "wrong", [None, "x", 1.5, -1, 2**70, (), (1, 2, 3, 4, 5), {}, math.nan, object, b"2"], ids=repr
)
def test_options_of_any_wrong_kind_are_refused_or_right(each: Case, wrong: object) -> None:
    """Each parameter that is not an array in turn: the answer is a result, a ValueError or a TypeError."""
    arguments = each.make("float64")
    names = list(inspect.signature(each.function).parameters)
    for i, value in enumerate(arguments):
        if not isinstance(value, np.ndarray):
            outcome(each, [*arguments[:i], wrong, *arguments[i + 1 :]])
    for name in names[len(arguments) :]:
        case = Case(each.name, each.arguments, {**each.options, name: wrong})
        outcome(case, arguments)


@pytest.mark.parametrize("wrong", [1.0, True, (1.0, 1), (1, True), [1, 1.0], np.array([1.0, 1.0])])
def test_equal_numbers_of_another_type_do_not_pass_on_the_strength_of_a_former_call(wrong: Any) -> None:
    """Plans are kept by their arguments, and 1 == 1.0 == True."""
    for call in (
        lambda stride: F.conv2d(X, W, stride=stride),
        lambda stride: F.conv_transpose2d(Y, W, stride=stride),
        lambda stride: F.max_pool2d(X, 2, stride=stride),
        lambda stride: F.avg_pool2d(X, 2, stride=stride),
        lambda stride: G.conv2d_input(X.shape, W, Y, stride=stride),
    ):
        call(1)
        call((1, 1))
        with pytest.raises(TypeError, match="stride must be an integer"):
            call(wrong)
