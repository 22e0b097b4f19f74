import numpy as np
import pytest

from jaxhw.nerf.scenes.pictures import Pictures, over
from tests.nerf import folders
from tests.nerf.folders import HEIGHT, WIDTH, N


def mixed(channels=3):
    arrays = folders.mixed_pictures(channels=channels)
    return arrays, Pictures.from_arrays(arrays)


def masks(share=0.6):
    rng = np.random.default_rng(2)
    return [rng.uniform(size=(h, w)) < share for w, h in folders.mixed_sizes()]


def test_one_size_draws_what_indices_into_an_array_did():
    """Bit for bit: the batches of runs from before there was a table."""
    images = folders.pictures(channels=4)
    pictures = Pictures.from_arrays(images)
    n, h, w, _ = images.shape
    flat = np.random.default_rng((0, 5)).integers(n * h * w, size=4096)
    picture, y, x = np.unravel_index(flat, (n, h, w))

    rows = pictures.draw(np.random.default_rng((0, 5)), 4096)
    found, pixel = pictures.locate(rows)

    np.testing.assert_array_equal(rows, flat)
    np.testing.assert_array_equal(found, picture.astype(np.int32), strict=True)
    np.testing.assert_array_equal(pixel, np.stack([x, y], -1).astype(np.float32) + 0.5, strict=True)
    np.testing.assert_array_equal(pictures.table[rows], images[picture, y, x], strict=True)


def test_an_array_of_pictures_is_not_copied():
    images = folders.pictures()
    pictures = Pictures.from_arrays(images)
    assert np.shares_memory(pictures.table, images) and len(pictures) == N
    assert pictures.size.tolist() == [[WIDTH, HEIGHT]] * N and pictures.size.dtype == np.int32


def test_mixed_sizes():
    arrays, pictures = mixed()
    sizes = folders.mixed_sizes().prod(1)
    assert pictures.offsets.tolist() == [0, *np.cumsum(sizes)] and pictures.count == sizes.sum()
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(pictures[i], array, strict=True)
        assert np.shares_memory(pictures[i], pictures.table)
        assert pictures.mask(i).shape == array.shape[:2] and pictures.mask(i).all()


def test_rows_are_found_in_mixed_sizes():
    arrays, pictures = mixed()
    rows = np.arange(len(pictures.table))
    picture, pixel = pictures.locate(rows)
    x, y = np.floor(pixel).astype(int).T
    assert (pixel % 1 == 0.5).all() and np.bincount(picture).tolist() == folders.mixed_sizes().prod(1).tolist()
    for row in rows[::7]:
        np.testing.assert_array_equal(arrays[picture[row]][y[row], x[row]], pictures.table[row])


def test_every_pixel_is_as_likely():
    pictures = mixed()[1]
    drawn = np.bincount(pictures.draw(np.random.default_rng(0), 200 * pictures.count), minlength=pictures.count)
    assert drawn.min() > 120 and drawn.max() < 290  # 200 each, within 6 standard deviations


def test_masked_pixels_are_never_drawn():
    given = masks()
    pictures = mixed()[1].masked(given)
    assert pictures.count == sum(mask.sum() for mask in given) and (np.diff(pictures.kept) > 0).all()
    rows = pictures.draw(np.random.default_rng(0), 30 * pictures.count)
    assert rows.dtype == np.int64 and np.array_equal(np.unique(rows), pictures.kept)
    for i, mask in enumerate(given):
        np.testing.assert_array_equal(pictures.mask(i), mask)


def test_masks_of_some_pictures_and_of_nothing():
    arrays, pictures = mixed()
    given = [None] * N
    given[4] = np.zeros(arrays[4].shape[:2], bool)
    one = Pictures.from_arrays(arrays, given)
    assert not one.mask(4).any() and one.mask(3).all() and one.count == pictures.count - given[4].size
    assert pictures.masked([None] * N).kept is None
    assert one.masked([np.ones(array.shape[:2], bool) for array in arrays]).kept is None


@pytest.mark.parametrize("indices", [[2, 3, 4], [0], [8, 1, 5], range(N), []])
@pytest.mark.parametrize("masked", [False, True])
def test_subsets(indices, masked):
    arrays, pictures = mixed()
    pictures = pictures.masked(masks()) if masked else pictures
    some = pictures.subset(indices)
    assert len(some) == len(indices) and some.count == sum(pictures.mask(i).sum() for i in indices)
    for k, i in enumerate(indices):
        np.testing.assert_array_equal(some[k], arrays[i])
        np.testing.assert_array_equal(some.mask(k), pictures.mask(i))


def test_subsets_share_memory_and_forget_masks_of_others():
    arrays, pictures = mixed()
    assert np.shares_memory(pictures.subset([3, 4]).table, pictures.table)
    given = [None] * N
    given[4] = np.zeros(arrays[4].shape[:2], bool)
    masked = pictures.masked(given)
    assert masked.subset([0, 7, 2]).kept is None and masked.subset([4]).count == 0


def test_pictures_without_alpha_are_opaque_beside_those_with_it():
    arrays = [np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 4), np.uint8)]
    pictures = Pictures.from_arrays(arrays)
    assert pictures[0].tolist() == [[[0, 0, 0, 255]] * 3] * 2 and not pictures[1].any()


def test_pictures_of_no_pixels_keep_their_sizes():
    pictures = Pictures.without_pixels(folders.mixed_sizes())
    assert len(pictures) == N and pictures.count == 0 and pictures.table.shape == (0, 3)
    assert pictures.subset([3, 1]).size.tolist() == folders.mixed_sizes()[[3, 1]].tolist()


def test_over_a_background():
    colours = np.array([[200, 100, 0, 255], [200, 100, 0, 0], [255, 255, 255, 51]], np.uint8)
    blended = over(colours, np.float32([0, 0.5, 1]))
    np.testing.assert_allclose(blended, [[200 / 255, 100 / 255, 0], [0, 0.5, 1], [0.2, 0.6, 1]], atol=1e-6)
    np.testing.assert_array_equal(over(colours[:, :3], np.ones(3)), colours[:, :3].astype(np.float32) / 255)
