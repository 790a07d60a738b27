"""Train a net on Fashion-MNIST for 12 epochs, on a CPU, and draw its learning curves.

    python examples/fashion_mnist.py --plot curve.png

The data come from Debian's package dataset-fashion-mnist, or from examples/fetch_fashion_mnist.py.  The schedule is
fixed and nothing is chosen by the test images: what counts is their accuracy after the last epoch.
"""

import argparse
import math
import time

from fastconv import datasets, nn


def net(seed: int) -> nn.Sequential:
    """Five convolutions with batch normalisation, three poolings, dropout, one linear layer."""

    def block(channels: int) -> list[nn.Layer]:
        return [nn.Conv2d(channels, 3, padding=1, bias=False), nn.BatchNorm2d(), nn.ReLU()]

    layers = [
        *block(32),
        *block(32),
        nn.MaxPool2d(2),
        *block(64),
        *block(64),
        nn.MaxPool2d(2),
        *block(128),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(10),
    ]
    return nn.Sequential(layers, input_shape=(1, 28, 28), seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the four IDX files are")
    parser.add_argument("--plot", help="write the learning curves to this picture")
    parser.add_argument("--save", help="write the trained net to this safetensors file")
    parser.add_argument("--checkpoint", help="keep the run in this file, and go on from it if it is there")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="background threads that augment")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    train, test = datasets.fashion_mnist(arguments.folder)
    model = net(arguments.seed)
    print(model.summary())
    steps = arguments.epochs * math.ceil(len(train[1]) / arguments.batch_size)
    rate = nn.schedules.OneCycle(max_rate=0.1, steps=steps)
    optimizer = nn.SGD(rate, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss="cross_entropy", metrics=["accuracy"], regularizer=nn.L2(1e-4))
    began = time.perf_counter()
    history = model.fit(
        *train,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=test,
        augment=nn.augment.Compose([nn.augment.Flip(), nn.augment.Shift(1)]),
        workers=arguments.workers,
        verbose=2,
        checkpoint=arguments.checkpoint,
        resume=arguments.checkpoint is not None,
    ).history
    accuracy, took = history["val_accuracy"][-1], time.perf_counter() - began
    print(f"after the last epoch {accuracy:.2%} of the test images are classified rightly ({took:.0f} s)")
    if arguments.save:
        model.save(arguments.save)
    if arguments.plot:
        from fastconv import plot

        plot.training_curves(history, "Fashion-MNIST").savefig(arguments.plot, dpi=120)


if __name__ == "__main__":
    main()
