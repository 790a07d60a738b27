"""A convolutional net as a scikit-learn classifier, for pipelines and grid searches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv.functional as F
from fastconv import nn
from fastconv._optional import require
from fastconv._spec import as_shape

require("sklearn", extra="sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["ConvClassifier"]

Array = NDArray[Any]


class ConvClassifier(ClassifierMixin, BaseEstimator):
    """Classifier of images by a convolutional net, trained with cross-entropy.

    Images are given as (N, C, H, W), as (N, H, W), or flat as (N, C * H * W), which is what scikit-learn's own
    tools pass on; they are converted to float32 and not scaled.  Fitted estimators can be pickled, as
    scikit-learn demands; for a file that is safe to read, save ``model_`` with :meth:`fastconv.nn.Model.save`.

    Parameters
    ----------
    channels : sequence of int
        One block of convolution, ReLU and 2 x 2 max-pooling (along axes that still have two pixels) for each.
    kernel_size : int
        Of the convolutions, which keep the size.
    hidden : int
        Units of a fully connected layer before the output; 0 for none.
    dropout : float
        Probability in front of each fully connected layer.
    model : callable, optional
        ``model(input_shape, n_classes, seed) -> nn.Model`` builds the net in place of the parameters above; its
        output are logits.
    image_shape : tuple of int, optional
        (C, H, W) or (H, W) of flat images.  By default they are taken for square with one channel if the number of
        features is a square number, and else for one row.
    optimizer : {"adam", "sgd"} or nn.optimizers.Optimizer
        By name it gets `learning_rate` (and, for SGD, a momentum of 0.9).
    learning_rate : float
    l2 : float
        Penalty of the weights, see :class:`fastconv.nn.L2`.
    batch_size, epochs : int
    augment : callable, optional
        See :mod:`fastconv.nn.augment`.
    early_stopping : bool
        Hold out `validation_fraction` of the samples, stop when their accuracy has not improved for
        `n_iter_no_change` epochs, and keep the best epoch's weights.
    validation_fraction : float
    n_iter_no_change : int
    random_state : int, RandomState or None
        Seed of everything random; an int makes fits repeatable bit for bit.
    verbose : {0, 1, 2}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        C * H * W.
    image_shape_ : (int, int, int)
    model_ : nn.Model
    history_ : dict of str to list of float
        Loss and accuracy per epoch.
    n_iter_ : int
        Epochs done.

    Examples
    --------
    >>> from fastconv import datasets
    >>> from fastconv.sklearn import ConvClassifier
    >>> (x, y), (x_test, y_test) = datasets.split(*datasets.digits(), held_out=400)
    >>> ConvClassifier(epochs=8, random_state=0).fit(x, y).score(x_test, y_test) > 0.95
    True
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        hidden: int = 64,
        dropout: float = 0.0,
        *,
        model: Callable[[tuple[int, ...], int, int], nn.Model] | None = None,
        image_shape: tuple[int, ...] | None = None,
        optimizer: str | nn.optimizers.Optimizer = "adam",
        learning_rate: float = 1e-3,
        l2: float = 0.0,
        batch_size: int = 32,
        epochs: int = 20,
        augment: Callable[..., Any] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.channels = channels
        self.kernel_size = kernel_size
        self.hidden = hidden
        self.dropout = dropout
        self.model = model
        self.image_shape = image_shape
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.l2 = l2
        self.batch_size = batch_size
        self.epochs = epochs
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> ConvClassifier:
        """Train a new net.

        Parameters
        ----------
        X : array_like of shape (N, C, H, W), (N, H, W) or (N, C * H * W)
        y : array_like of shape (N,)
            Classes: numbers or strings.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If shapes, classes or parameters do not fit.
        """
        shape = np.shape(X)[1:] if getattr(X, "ndim", 2) > 2 else None
        images, y = validate_data(self, _flat(X), y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.image_shape_ = self._image_shape(shape, images.shape[1])
        images = images.reshape(-1, *self.image_shape_)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_ = (self.model or self._net)(self.image_shape_, len(self.classes_), seed)
        if not isinstance(self.model_, nn.Model):
            raise TypeError(f"model must be a function that returns an nn.Model, got {self.model_!r} from it")
        regularizer = nn.L2(self.l2) if self.l2 else None
        self.model_.compile(self._optimizer(), "cross_entropy", ["accuracy"], regularizer=regularizer)
        validation, callbacks = None, []
        if self.early_stopping:
            images, held_out, labels, held_out_labels = train_test_split(
                images, labels, test_size=self.validation_fraction, stratify=labels, random_state=seed
            )
            validation = (held_out, held_out_labels)
            stop = nn.callbacks.EarlyStopping(
                "val_accuracy", patience=self.n_iter_no_change, restore_best_weights=True
            )
            callbacks.append(stop)
        history = self.model_.fit(
            images,
            labels,
            self.batch_size,
            self.epochs,
            validation_data=validation,
            augment=self.augment,
            callbacks=callbacks,
            verbose=self.verbose,
        )
        self.history_ = history.history
        self.n_iter_ = len(history.epoch)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, ndarray of shape (N, n_classes), float32, in the order of ``classes_``."""
        check_is_fitted(self)
        images = validate_data(self, _flat(X), reset=False, dtype=np.float32)
        return F.softmax(self.model_.predict(images.reshape(-1, *self.image_shape_)), 1)

    def predict(self, X: Any) -> Array:
        """The most probable class of each image, ndarray of shape (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _image_shape(self, given: tuple[int, ...] | None, features: int) -> tuple[int, ...]:
        """(C, H, W) of images that came as arrays of ``given`` axes, or flat."""
        side = math.isqrt(features)
        guess = (side, side) if side * side == features else (1, features)
        shape = as_shape(given or self.image_shape or guess, "image_shape")
        if len(shape) == 2:
            shape = (1, *shape)
        if len(shape) != 3 or math.prod(shape) != features:
            raise ValueError(
                f"image_shape must be (C, H, W) or (H, W) of {features} pixels in all, as X has, got {shape}"
            )
        return shape

    def _net(self, input_shape: tuple[int, ...], n_classes: int, seed: int) -> nn.Model:
        layers: list[nn.Layer] = []
        size = input_shape[1:]
        for channels in self.channels:
            window = tuple(min(2, extent) for extent in size)
            layers += [nn.Conv2d(channels, self.kernel_size, padding="same"), nn.ReLU(), nn.MaxPool2d(window)]
            size = tuple(extent // step for extent, step in zip(size, window, strict=True))
        layers.append(nn.Flatten())
        for features in (self.hidden,) if self.hidden else ():
            layers += [nn.Dropout(self.dropout), nn.Linear(features), nn.ReLU()]
        layers += [nn.Dropout(self.dropout), nn.Linear(n_classes)]
        return nn.Sequential(layers, input_shape, seed=seed)

    def _optimizer(self) -> nn.optimizers.Optimizer:
        if self.optimizer == "adam":
            return nn.Adam(self.learning_rate)
        if self.optimizer == "sgd":
            return nn.SGD(self.learning_rate, momentum=0.9)
        if isinstance(self.optimizer, nn.optimizers.Optimizer):
            return self.optimizer
        raise ValueError(f"optimizer must be 'adam', 'sgd' or an Optimizer, got {self.optimizer!r}")


def _flat(X: Any) -> Any:
    """Images as scikit-learn checks them, one row each."""
    return np.reshape(X, (len(X), -1)) if getattr(X, "ndim", 2) > 2 else X
