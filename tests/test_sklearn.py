"""scikit-learn's own checks of an estimator, and what people do with one."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastconv import datasets, nn
from fastconv.sklearn import ConvClassifier


@parametrize_with_checks(
    [ConvClassifier(channels=(8,), hidden=0, epochs=15, learning_rate=5e-3, random_state=0)]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    return datasets.split(*datasets.digits(), held_out=1100)


def small(**options):
    return ConvClassifier(
        **{"channels": (8,), "hidden": 0, "epochs": 3, "learning_rate": 5e-3, "random_state": 0} | options
    )


@pytest.mark.parametrize("form", ["NCHW", "NHW", "flat"])
def test_images_in_every_form_give_the_same_net(digits, form):
    (x, y), (x_test, y_test) = digits
    shape = {"NCHW": (-1, 1, 8, 8), "NHW": (-1, 8, 8), "flat": (-1, 64)}[form]
    classifier = small().fit(x.reshape(shape), y)
    assert classifier.image_shape_ == (1, 8, 8) and classifier.n_features_in_ == 64
    want = small().fit(x, y).predict_proba(x_test)
    np.testing.assert_array_equal(classifier.predict_proba(x_test.reshape(shape)), want)
    np.testing.assert_array_equal(classifier.predict_proba(x_test.reshape(-1, 64)), want)
    assert classifier.score(x_test.reshape(shape), y_test) > 0.8


def test_flat_images_of_a_given_shape(rng):
    x, y = rng.random((20, 24)), np.arange(20) % 2
    assert small().fit(x, y).image_shape_ == (1, 1, 24)
    assert small(image_shape=(4, 6)).fit(x, y).image_shape_ == (1, 4, 6)
    assert small(image_shape=(2, 3, 4)).fit(x, y).image_shape_ == (2, 3, 4)
    assert small().fit(x.reshape(20, 2, 3, 4), y).image_shape_ == (2, 3, 4)
    with pytest.raises(ValueError, match=r"of 24 pixels in all, as X has, got \(1, 5, 5\)"):
        small(image_shape=(5, 5)).fit(x, y)


def test_classes_may_be_names(digits):
    (x, y), (x_test, y_test) = digits
    names = np.array(["even", "odd"])
    classifier = small().fit(x, names[y % 2])
    assert classifier.classes_.tolist() == ["even", "odd"]
    assert classifier.score(x_test, names[y_test % 2]) > 0.8


def test_random_state_decides_every_bit(digits):
    (x, y), (x_test, _) = digits
    first, again, other = (
        small(random_state=seed, dropout=0.2).fit(x, y).predict_proba(x_test) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_early_stopping_keeps_the_best_epoch(digits):
    (x, y), _ = digits
    classifier = small(epochs=40, early_stopping=True, n_iter_no_change=2, learning_rate=0.02).fit(x, y)
    best = np.argmax(classifier.history_["val_accuracy"])
    assert classifier.n_iter_ == len(classifier.history_["loss"]) == best + 3 < 40


def build(input_shape, n_classes, seed):
    layers = [nn.Conv2d(4, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.Linear(n_classes)]
    return nn.Sequential(layers, input_shape, seed=seed)


def test_a_net_of_ones_own(digits):
    (x, y), (x_test, y_test) = digits
    classifier = small(
        model=build, optimizer=nn.SGD(0.05, momentum=0.9), augment=nn.augment.Shift(1), l2=1e-4
    )
    assert classifier.fit(x, y).score(x_test, y_test) > 0.8
    assert [node.op.kind for node in classifier.model_.graph.nodes][1] == "batch_norm"
    with pytest.raises(TypeError, match=r"returns an nn\.Model, got 3"):
        small(model=lambda *arguments: 3).fit(x, y)
    with pytest.raises(ValueError, match="optimizer must be 'adam', 'sgd'"):
        small(optimizer="lbfgs").fit(x, y)


def test_clones_and_pickles(digits):
    (x, y), (x_test, _) = digits
    fitted = small(model=build).fit(x, y)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "model_")
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(x_test), fitted.predict_proba(x_test))


def test_pipelines_and_grid_searches(digits):
    (x, y), (x_test, y_test) = digits
    x, x_test = 16 * x.reshape(-1, 64), 16 * x_test.reshape(-1, 64)
    pipeline = make_pipeline(MinMaxScaler(), small())
    assert pipeline.fit(x, y).score(x_test, y_test) > 0.8
    grid = {"convclassifier__learning_rate": [1e-6, 1e-2], "convclassifier__channels": [(4,), (4, 8)]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
    assert search.best_params_["convclassifier__learning_rate"] == 1e-2
    assert search.score(x_test, y_test) > 0.8
    scores = cross_val_score(make_pipeline(PCA(16), small(optimizer="sgd", learning_rate=0.01)), x, y, cv=2)
    assert scores.min() > 0.4
