import numpy as np
import pytest

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
    augment.Noise(0.1),
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
    assert whole.shape == images.shape
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.Flip(2), "p must be between"),
        (lambda: augment.Flip(axis="x"), "axis must be"),
        (lambda: augment.Shift(-1), "pixels"),
        (lambda: augment.Affine(-1), "degrees"),
        (lambda: augment.Affine(scale=(1.2, 0.8)), "scale"),
        (lambda: augment.Affine(shear=90), "shear"),
        (lambda: augment.Noise(-1), "std"),
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
    with pytest.raises(TypeError, match="Transform objects"):
        augment.Compose([np.fliplr])
