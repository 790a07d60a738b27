"""Fashion-MNIST to 93 % of the test images in 12 epochs, on a CPU.

    python examples/fashion_mnist.py --plot curve.png

The data come from Debian's package dataset-fashion-mnist, or from examples/fetch_fashion_mnist.py.  The schedule is
fixed and nothing is chosen by the test images: what counts is their accuracy after the last epoch.
"""

import argparse
import math
import time

from fastconv import datasets, nn


def net(seed: int) -> nn.Sequential:
    """Four convolutions with batch normalisation, three poolings, dropout, one linear layer."""

    def block(channels: int) -> list[nn.Layer]:
        return [nn.Conv2d(channels, 3, padding=1, bias=False), nn.BatchNorm2d(), nn.ReLU()]

    layers = [
        *block(32),
        nn.MaxPool2d(2),
        *block(64),
        *block(64),
        nn.MaxPool2d(2),
        nn.Dropout(0.1),
        *block(128),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(10),
    ]
    return nn.Sequential(layers, input_shape=(1, 28, 28), seed=seed)


class OneCycle(nn.callbacks.Callback):
    """The learning rate rises for the first quarter of all steps and falls to zero along half a cosine after it."""

    def __init__(self, optimizer: nn.optimizers.Optimizer, steps: int) -> None:
        self.optimizer = optimizer
        self.top = optimizer.learning_rate
        self.steps = steps
        self.done = 0

    def on_train_batch_begin(self, batch: int) -> None:
        share, rise = self.done / self.steps, 0.25
        fall = (1 + math.cos(math.pi * (share - rise) / (1 - rise))) / 2
        self.optimizer.learning_rate = self.top * (0.04 + 0.96 * share / rise if share < rise else fall)
        self.done += 1


class Clock(nn.callbacks.Callback):
    """A line per epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        values = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        print(f"epoch {epoch + 1:2}  {values}  {time.perf_counter() - self.began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the four IDX files are")
    parser.add_argument("--plot", help="write the learning curves to this picture")
    parser.add_argument("--save", help="write the trained net to this safetensors file")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="background threads that augment")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    train, test = datasets.fashion_mnist(arguments.folder)
    model = net(arguments.seed)
    print(model.summary())
    optimizer = nn.SGD(learning_rate=0.05, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss="cross_entropy", metrics=["accuracy"], regularizer=nn.L2(1e-4))
    steps = arguments.epochs * -(-len(train[1]) // arguments.batch_size)
    history = model.fit(
        *train,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=test,
        augment=nn.augment.Compose([nn.augment.Flip(), nn.augment.Shift(1)]),
        callbacks=[OneCycle(optimizer, steps), Clock()],
        workers=arguments.workers,
        verbose=0,
    ).history
    print(f"test images classified rightly after the last epoch: {history['val_accuracy'][-1]:.2%}")
    if arguments.save:
        model.save(arguments.save)
    if arguments.plot:
        from fastconv import plot

        plot.training_curves(history, "Fashion-MNIST").savefig(arguments.plot, dpi=120)


if __name__ == "__main__":
    main()
