import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import augment


@pytest.fixture
def images():
    return np.random.default_rng(0).random((12, 2, 9, 7), np.float32)


def call(transform, images, indices=None, seed=0, epoch=0):
    indices = np.arange(len(images)) if indices is None else indices
    return transform(images, seed=seed, epoch=epoch, indices=indices)


TRANSFORMS = [
    augment.Flip(),
    augment.Flip(axis="vertical"),
    augment.Shift(2),
    augment.Affine(20, (0.8, 1.2), shear=10),
    augment.Affine(20, interpolation="nearest", fill_mode="reflect"),
    augment.Crop((6, 5), padding=1),
    augment.Noise(0.1),
    augment.Brightness(),
    augment.Contrast(),
    augment.Cutout(3),
    augment.Compose([augment.Shift(1), augment.Affine(), augment.Flip(), augment.Noise()]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_a_sample_changes_the_same_way_in_every_batch(images, transform):
    images.flags.writeable = False
    whole = call(transform, images)
    order = np.random.default_rng(1).permutation(12)
    parts = [call(transform, images[part], part) for part in (order[:5], order[5:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])
    assert whole.dtype == np.float32
    assert whole.shape == (images.shape if not isinstance(transform, augment.Crop) else (12, 2, 6, 5))
    assert not np.array_equal(call(transform, images, epoch=1), whole)
    assert not np.array_equal(call(transform, images, seed=1), whole)


def test_parts_of_a_composition_draw_their_own_numbers(images):
    twice = call(augment.Compose([augment.Noise(1.0), augment.Noise(1.0)]), images) - images
    once = call(augment.Compose([augment.Noise(1.0)]), images) - images
    assert not np.allclose(twice, 2 * once, atol=0.1)


@pytest.mark.parametrize(
    ("axis", "view"), [("horizontal", np.s_[..., ::-1]), ("vertical", np.s_[..., ::-1, :])]
)
def test_flip(images, axis, view):
    result = call(augment.Flip(axis=axis), images)
    flipped = [np.array_equal(r, i[view]) for r, i in zip(result, images, strict=True)]
    kept = [np.array_equal(r, i) for r, i in zip(result, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 0 < sum(flipped) < 12
    np.testing.assert_array_equal(call(augment.Flip(1.0, axis), images), images[view])
    np.testing.assert_array_equal(call(augment.Flip(0.0, axis), images), images)


def test_shift_moves_by_whole_pixels_and_fills():
    images = np.zeros((200, 1, 9, 9), np.float32)
    images[:, :, 4, 4] = 1
    result = call(augment.Shift(2, fill=-1), images)
    spot = np.argwhere(result == 1)
    assert len(spot) == 200
    moves = spot[:, 2:] - 4
    assert {tuple(m) for m in moves} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    for image, (down, right) in zip(result[:, 0], moves, strict=True):
        assert (image == -1).sum() == 81 - (9 - abs(down)) * (9 - abs(right))
    np.testing.assert_array_equal(call(augment.Shift(0), images), images)


PAD_MODES = [("constant", "constant"), ("nearest", "edge"), ("reflect", "symmetric"), ("wrap", "wrap")]


@pytest.mark.parametrize(("mode", "pad"), PAD_MODES)
def test_crops_and_shifts_are_windows_of_the_padded_image(images, mode, pad):
    padded = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)), mode=pad)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 4), axis=(2, 3))
    for image, among in zip(call(augment.Crop((5, 4), 3, fill_mode=mode), images), windows, strict=True):
        assert (image[:, None, None] == among).all(axis=(0, 3, 4)).any()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 7), axis=(2, 3))
    for image, among in zip(call(augment.Shift(3, fill_mode=mode), images), windows, strict=True):
        assert (image[:, None, None] == among).all(axis=(0, 3, 4)).any()


def test_crops_come_from_everywhere():
    images = np.arange(16.0).reshape(1, 1, 4, 4).repeat(300, axis=0)
    corners = call(augment.Crop(2), images)[:, 0, 0, 0]
    assert sorted(set(corners)) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    with pytest.raises(
        ValueError, match=r"a crop of \(6, 6\) does not fit into images of \(4, 4\) padded by 0"
    ):
        call(augment.Crop(6), images)


def test_affine_identity_and_quarter_turn(images, monkeypatch):
    np.testing.assert_allclose(call(augment.Affine(0, (1, 1)), images), images, atol=1e-6)
    square = np.random.default_rng(0).random((3, 2, 8, 8), np.float32)
    monkeypatch.setattr(augment._random, "uniform", lambda seed, index: np.ones(index.shape))
    np.testing.assert_allclose(
        call(augment.Affine(90, (1, 1)), square), np.rot90(square, axes=(2, 3)), atol=1e-5
    )


def test_affine_agrees_with_scipy(images, monkeypatch):
    ndimage = pytest.importorskip("scipy.ndimage")
    monkeypatch.setattr(augment._random, "uniform", lambda seed, index: np.ones(index.shape))
    images = images.astype(np.float64)
    result = call(augment.Affine(25, (1, 1.3), fill=0.5), images)
    angle = np.deg2rad(25)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / 1.3
    centre = np.array([4.0, 3.0])
    for got, image in zip(result.reshape(-1, 9, 7), images.reshape(-1, 9, 7), strict=True):
        padded = np.pad(image, 3, constant_values=0.5)  # scipy itself does not blend into the fill value
        offset = centre - matrix @ centre + 3
        want = ndimage.affine_transform(
            padded, matrix, offset, output_shape=(9, 7), order=1, mode="constant", cval=0.5
        )
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("mode", "scipy_mode"),
    [("constant", "grid-constant"), ("nearest", "nearest"), ("reflect", "reflect"), ("wrap", "grid-wrap")],
)
def test_fill_modes_agree_with_scipy(images, monkeypatch, mode, scipy_mode, interpolation):
    ndimage = pytest.importorskip("scipy.ndimage")
    monkeypatch.setattr(augment._random, "uniform", lambda seed, index: np.ones(index.shape))
    images = images.astype(np.float64)
    # so small that far more than one repetition is in sight
    transform = augment.Affine(25, (0.2, 0.2), 0.5, interpolation=interpolation, fill_mode=mode)
    angle = np.deg2rad(25)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / 0.2
    centre = np.array([4.0, 3.0])
    order = 1 if interpolation == "bilinear" else 0
    for got, image in zip(call(transform, images).reshape(-1, 9, 7), images.reshape(-1, 9, 7), strict=True):
        want = ndimage.affine_transform(
            image, matrix, centre - matrix @ centre, order=order, mode=scipy_mode, cval=0.5
        )
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_shear_moves_each_row_by_its_height(images, monkeypatch):
    monkeypatch.setattr(augment._random, "uniform", lambda seed, index: np.ones(index.shape))
    slanted = call(augment.Affine(0, (1, 1), shear=45), images)
    for row in range(9):
        right = row - 4  # the centre stays
        want = np.zeros((12, 2, 7))
        want[..., max(right, 0) : 7 + min(right, 0)] = images[:, :, row, max(-right, 0) : 7 - max(right, 0)]
        np.testing.assert_allclose(slanted[:, :, row], want, atol=1e-5)


def test_noise_has_its_deviation():
    noise = call(augment.Noise(0.2), np.zeros((50, 1, 20, 20)))
    assert noise.std() == pytest.approx(0.2, rel=0.03)
    assert abs(noise.mean()) < 5 * 0.2 / 20000**0.5


def test_brightness_adds_one_number_and_contrast_keeps_the_mean(images):
    change = call(augment.Brightness(0.3), images) - images
    added = change.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(change, np.broadcast_to(added[:, None, None, None], images.shape), atol=1e-6)
    assert abs(added).max() <= 0.3 and added.min() < -0.05 and added.max() > 0.05
    result = call(augment.Contrast(0.5), images)
    mean = images.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(result.mean(axis=(2, 3), keepdims=True), mean, atol=1e-6)
    factor = result.std(axis=(2, 3)) / images.std(axis=(2, 3))
    np.testing.assert_allclose(factor[:, 0], factor[:, 1], rtol=1e-4)
    assert 0.5 <= factor.min() < 0.9 and 1.1 < factor.max() <= 1.5


def test_cutout_blanks_one_square():
    result = call(augment.Cutout(3, fill=-1), np.ones((300, 2, 9, 7), np.float32))
    blank = (result == -1).sum(axis=(1, 2, 3))
    assert set(result.ravel()) == {-1, 1}
    assert set(blank) == {2 * height * width for height in (2, 3) for width in (2, 3)}
    assert (result[:, :, 0, 0] == -1).any() and (result[:, :, 8, 6] == -1).any()
    kept = (call(augment.Cutout(3, p=0.3), np.ones((300, 2, 9, 7))) == 1).all(axis=(1, 2, 3))
    assert 0.6 < kept.mean() < 0.8


# ------------------------------------------------------------------------------------------ mixtures


def mixed(transform, images, labels, **key):
    return transform(images, labels, **{"seed": 0, "epoch": 0, "indices": np.arange(len(images))} | key)


def test_mixup_blends_neighbours_and_their_labels(images):
    labels = np.arange(12) % 3
    result, targets = mixed(augment.MixUp(0.4, num_classes=3), images, labels)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    share = targets.max(axis=1)  # neighbours are never of one class here
    own = targets[np.arange(12), labels]
    assert targets.dtype == result.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        targets, own[:, None] * one_hot + (1 - own[:, None]) * np.roll(one_hot, -1, 0), rtol=1e-6
    )
    weight = own[:, None, None, None]
    np.testing.assert_allclose(result, weight * images + (1 - weight) * np.roll(images, -1, 0), atol=1e-6)
    assert 0.5 <= share.min() < share.max() <= 1
    again = mixed(augment.MixUp(0.4), images, one_hot)  # labels that are probabilities already
    np.testing.assert_array_equal(again[0], result)
    np.testing.assert_array_equal(again[1], targets)
    turned = mixed(augment.MixUp(0.4), images[::-1], one_hot[::-1], indices=np.arange(12)[::-1])
    np.testing.assert_allclose(turned[1][::-1][np.arange(12), labels], own)  # its share is the sample's own


def test_cutmix_labels_follow_the_area(images):
    images = 1 + images
    result, targets = mixed(augment.CutMix(num_classes=12), images, np.arange(12))
    own = (result == images).mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(result, np.where(result == images, images, np.roll(images, -1, 0)))
    np.testing.assert_allclose(targets[np.arange(12), np.arange(12)], own, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert own.min() < 0.5 < own.max()
    for image in (result != images).any(axis=1):
        rows, columns = image.any(axis=1), image.any(axis=0)
        assert image.sum() == rows.sum() * columns.sum()  # a box


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_shares_are_beta_distributed(alpha):
    stats = pytest.importorskip("scipy.stats")
    values = augment._random.beta(7, np.arange(4000), alpha)
    assert stats.kstest(values, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(augment._random.beta(7, np.arange(5, 9), alpha), values[5:9])


def test_compositions_pass_labels_on(images):
    labels = np.arange(12) % 3
    chain = augment.Compose([augment.Flip(), augment.MixUp(num_classes=3), augment.CutMix()])
    assert chain.mixes_labels and not augment.Compose([augment.Flip()]).mixes_labels
    result, targets = mixed(chain, images, labels)
    assert result.shape == images.shape and targets.shape == (12, 3)
    assert (targets > 0).sum(axis=1).max() == 3
    result, same = mixed(augment.Flip(), images, labels)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(result, call(augment.Flip(), images))


def test_nets_train_on_mixtures_and_crops(images):
    model = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(2, 8, 6))
    model.compile(metrics=["accuracy"])
    chain = augment.Compose([augment.Crop((8, 6)), augment.MixUp(num_classes=3)])
    params = []
    for workers in (0, 2):
        model.set_weights({name: np.ones_like(param) for name, param in model.params.items()})
        model._epochs_done = 0
        history = model.fit(images, np.arange(12) % 3, 4, 2, augment=chain, workers=workers, verbose=0)
        assert set(history.history) == {"loss", "accuracy"}
        params.append(model.get_weights())
    for name, value in params[0].items():
        np.testing.assert_array_equal(value, params[1][name])
    with pytest.raises(ValueError, match="must have shape"):
        model.fit(images, np.arange(12) % 3, augment=augment.Crop(5), verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.Flip(2), "p must be between"),
        (lambda: augment.Flip(axis="x"), "axis must be"),
        (lambda: augment.Shift(-1), "pixels"),
        (lambda: augment.Affine(-1), "degrees"),
        (lambda: augment.Affine(scale=(1.2, 0.8)), "scale"),
        (lambda: augment.Affine(shear=90), "shear"),
        (lambda: augment.Affine(interpolation="cubic"), "interpolation must be"),
        (lambda: augment.Affine(fill_mode="edge"), "fill_mode must be one of"),
        (lambda: augment.Noise(-1), "std"),
        (lambda: augment.Crop(0), "size must be"),
        (lambda: augment.Crop(3, padding=-1), "padding must be"),
        (lambda: augment.Brightness(-1), "delta"),
        (lambda: augment.Contrast(2), "delta"),
        (lambda: augment.Cutout(0), "size must be"),
        (lambda: augment.MixUp(0), "alpha must be"),
        (lambda: augment.CutMix(num_classes=0), "num_classes must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_images(images):
    with pytest.raises(ValueError, match=r"floating-point images \(N, C, H, W\)"):
        call(augment.Flip(), images.astype(np.uint8))
    with pytest.raises(ValueError, match="one per image"):
        call(augment.Flip(), images, np.arange(3))
    with pytest.raises(ValueError, match="call it with images and labels"):
        call(augment.MixUp(), images)
    with pytest.raises(ValueError, match="needs num_classes"):
        mixed(augment.MixUp(), images, np.arange(12))
    with pytest.raises(ValueError, match="between 0 and 2"):
        mixed(augment.CutMix(num_classes=3), images, np.arange(12))
    with pytest.raises(ValueError, match="labels must be 12"):
        mixed(augment.Flip(), images, np.arange(3))
    with pytest.raises(TypeError, match="Transform objects"):
        augment.Compose([np.fliplr])
