"""Class folders of every kind of image, the digits, and cutting validation splits."""

import struct
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit

from jaxhw import decoding
from jaxhw.errors import UserError
from jaxhw.vision.data.datasets import load, split_validation
from jaxhw.vision.tasks import classify

RED = (255, 0, 0)


def everything(dataset):
    return dataset.take(np.arange(len(dataset)))


def fill(folder, names, count=10, size=(8, 8)):
    """Class folders of flat images whose grey level tells the class and the number."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (label * 50, i, 0)).save(folder / name / f"{i:02d}.png")
    return folder


def one_image(tmp_path, image, file="a.png", **options):
    """What `folder:` makes of one image: the train split of a set whose every file is that image."""
    for i in range(5):
        path = tmp_path / "only" / f"{i}{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    return load(f"folder:{tmp_path}", "train", image_size=8).take([0])[0]


# --- splits


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.37])
def test_split_counts_agree_with_scikit_learn(fraction):
    labels = np.random.default_rng(0).choice(5, 1003, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    train, val = split_validation(labels, fraction, seed=1)
    oracle = StratifiedShuffleSplit(1, test_size=round(fraction * 1003), random_state=0)
    _, expected = next(oracle.split(labels, labels))
    np.testing.assert_array_equal(np.bincount(labels[val]), np.bincount(labels[expected]))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(1003))
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()


def test_split_of_equal_classes_is_exact_and_depends_on_the_seed_alone():
    labels = np.tile(np.arange(100), 50)
    _, val = split_validation(labels, 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[val]), np.full(100, 5))
    np.testing.assert_array_equal(val, split_validation(labels, 0.1, seed=0)[1])
    assert not np.array_equal(val, split_validation(labels, 0.1, seed=1)[1])


def test_split_is_no_more_than_one_off_with_equal_remainders():
    labels = np.repeat(np.arange(10), 5)  # half of 5: 2.5 each, 25 in all
    _, val = split_validation(labels, 0.5, seed=0)
    assert sorted(np.bincount(labels[val])) == [2] * 5 + [3] * 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 0.01, float("nan")])
def test_split_that_leaves_a_side_empty(fraction):
    with pytest.raises(UserError, match="both sides need some"):
        split_validation(np.zeros(10, int), fraction, seed=0)


# --- digits and specs


def test_digits_are_scikit_learns():
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test), train.image_size) == (1438, 359, 8)
    assert train.names == [str(i) for i in range(10)] and train.labels.dtype == np.int32
    digits = load_digits()
    expected = sorted((np.round(i * 255 / 16).astype(np.uint8).tobytes(), t) for i, t in
                      zip(digits.images, digits.target, strict=True))  # fmt: skip
    images = np.concatenate([everything(train), everything(test)])
    assert images.dtype == np.uint8 and (images == images[..., :1]).all()
    labels = np.concatenate([train.labels, test.labels])
    assert sorted((i[..., 0].tobytes(), t) for i, t in zip(images, labels, strict=True)) == expected
    assert load("digits", "test", image_size=32).take([0, 1]).shape == (2, 32, 32, 3)


@pytest.mark.parametrize("spec", ["cifar100", "tfds:", "folder:", "domains:", "digits:x", ""])
def test_unknown_spec_lists_the_kinds(spec):
    with pytest.raises(UserError, match=r"use tfds:NAME .*, folder:DIR, domains:DIR or digits"):
        load(spec, "train")


def test_bad_split_and_size():
    with pytest.raises(UserError, match="splits train and test, not val"):
        load("digits", "val")
    with pytest.raises(UserError, match=r"config\.image_size=0 must be a whole number of at least 1"):
        load("digits", "train", image_size=0)


def test_subset_takes_its_own_rows():
    digits = load("digits", "train")
    some = digits.subset([5, 3, 9]).subset(np.array([2, 0]))
    np.testing.assert_array_equal(some.take([0, 1]), digits.take([9, 5]))
    np.testing.assert_array_equal(some.labels, digits.labels[[9, 5]])
    assert len(some) == 2 and some.images is digits.images


# --- folders


def test_folder_without_splits_is_cut_by_class(tmp_path):
    fill(tmp_path, ["b", "a", "c"], count=10)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "._0.png").write_text("what macOS leaves")
    train, test = load(f"folder:{tmp_path}", "train"), load(f"folder:{tmp_path}", "test")
    assert train.names == test.names == ["a", "b", "c"]
    assert (np.bincount(train.labels).tolist(), np.bincount(test.labels).tolist()) == ([8] * 3, [2] * 3)
    seen = {tuple(image[0, 0]) for dataset in (train, test) for image in everything(dataset)}
    assert len(seen) == 30
    level = np.array([50, 0, 100])  # written in the order b, a, c
    np.testing.assert_array_equal(everything(test)[:, 0, 0, 0], level[test.labels])


@pytest.mark.parametrize("other", ["test", "val", "valid", "validation"])
def test_folder_with_splits(tmp_path, other):
    fill(tmp_path / "train", ["cat", "dog"], count=4)
    fill(tmp_path / other, ["cat", "dog"], count=2)
    assert len(load(f"folder:{tmp_path}", "train")) == 8
    assert load(f"folder:{tmp_path}", "test").labels.tolist() == [0, 0, 1, 1]


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pets", ["cat", "dog"])
    assert load("folder:~/pets", "train").names == ["cat", "dog"]


def test_a_folder_too_large_for_memory_reads_the_same(tmp_path):
    fill(tmp_path, ["a", "b"], count=10, size=(12, 9))
    memory = load(f"folder:{tmp_path}", "train", image_size=8)
    disk = load(f"folder:{tmp_path}", "train", image_size=8, memory_limit=0)
    assert isinstance(memory.images, np.ndarray) and not isinstance(disk.images, np.ndarray)
    assert disk.image_size == 8
    picks = np.array([15, 0, 3, 3])
    np.testing.assert_array_equal(disk.take(picks), memory.take(picks))
    np.testing.assert_array_equal(disk.subset(picks).take([0]), memory.take([15]))


def test_resizing_is_antialiased_and_keeps_the_centre(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8))
    expected = np.asarray(image.resize((24, 8), Image.Resampling.BILINEAR))[:, 8:16]
    np.testing.assert_allclose(one_image(tmp_path, image).astype(int), expected, atol=1)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA"])
def test_modes(tmp_path, mode):
    image = Image.new("RGB", (8, 8), "white")
    image.paste("black", (0, 0, 4, 8))
    pixels = one_image(tmp_path, image.convert(mode), "a.tif" if mode == "CMYK" else "a.png")
    np.testing.assert_allclose(pixels, np.asarray(image), atol=1)


def test_transparency_is_composited_on_white(tmp_path):
    half = Image.new("RGBA", (8, 8), (*RED, 128))
    np.testing.assert_allclose(one_image(tmp_path, half)[0, 0], [255, 127, 127], atol=1)


def test_a_palettes_transparent_colour_is_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 4, 8))
    pixels = one_image(tmp_path, image, transparency=0)
    assert (pixels[:, :4] == (0, 0, 255)).all() and (pixels[:, 4:] == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    pixels = one_image(tmp_path, Image.fromarray(grey))
    np.testing.assert_array_equal(pixels, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, -1))


def test_floating_point_pixels_are_refused(tmp_path):
    """Whether 1 or 255 is white is anyone's guess."""
    with pytest.raises(UserError, match=r"cannot read image .*: its pixels are floating-point numbers; save it with"):
        one_image(tmp_path, Image.fromarray(np.full((8, 8), 0.5, np.float32)), "a.tif")


def test_exif_orientation(tmp_path):
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255  # the sky is up
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    pixels = one_image(tmp_path, stored, "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels, upright, atol=3)


def test_broken_exif_beside_sound_pixels(tmp_path):
    """Orientation 6 with a resolution stored as text: turned. Bytes that are no EXIF: as it is."""
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255
    tags = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHI4s", 0x011A, 2, 3, b"72")
    exif = b"Exif\x00\x00" + struct.pack(">2sHIH", b"MM", 42, 8, 2) + tags + bytes(4)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    turned = one_image(tmp_path / "text", stored, "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(turned, upright, atol=3)
    broken = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    same = one_image(tmp_path / "broken", Image.fromarray(upright), "a.jpg", exif=broken, quality=100, subsampling=0)
    np.testing.assert_allclose(same, upright, atol=3)


def test_pictures_of_too_many_pixels_are_read_reduced_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 64 * 64)
    red = Image.new("RGB", (512, 512), RED)
    np.testing.assert_allclose(one_image(tmp_path / "jpeg", red, "a.jpg"), np.broadcast_to(RED, (8, 8, 3)), atol=3)
    with pytest.raises(UserError, match=r"cannot read image .*: it has 512 x 512 pixels, more than 4,096: save"):
        one_image(tmp_path / "png", red)


def test_formats(tmp_path):
    for i, suffix in enumerate([".png", ".JPG", ".jpeg", ".webp", ".bmp", ".gif", ".tiff"]):
        path = tmp_path / "red" / f"{i}{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), RED).save(path)
    train, test = (load(f"folder:{tmp_path}", split) for split in ("train", "test"))
    images = np.concatenate([everything(train), everything(test)]).astype(int)
    assert len(images) == 7 and np.abs(images - RED).max() <= 4


def bad_folders():
    def missing(root):
        return "no such directory"

    def empty(root):
        root.mkdir()
        return "no class folders"

    def empty_class(root):
        fill(root, ["a"])
        (root / "b").mkdir()
        return "folder/b holds no images"

    def corrupt(root):
        fill(root, ["a", "b"])
        for file in (root / "a").iterdir():
            file.write_bytes(b"this is no image")
        return r"cannot read image .*folder/a/\d\d.png"

    def truncated(root):
        fill(root, ["a", "b"], size=(64, 64))
        rng = np.random.default_rng(0)
        for file in (root / "b").iterdir():
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file)
            file.write_bytes(file.read_bytes()[:3000])
        return r"cannot read image .*folder/b/\d\d.png"

    def no_test(root):
        fill(root / "train", ["a", "b"])
        return "train/ but no test/ or val/"

    def other_classes(root):
        fill(root / "train", ["a", "b"])
        fill(root / "test", ["a", "c"])
        return r"has class folders that .*folder's training set lacks: c \(1 in all\)"

    def varying(root):
        fill(root, ["a", "b"])
        for file in (root / "b").iterdir():
            Image.new("RGB", (9, 8)).save(file)
        return "varying sizes .* set config.image_size"

    def oblong(root):
        fill(root, ["a", "b"], size=(9, 8))
        return "9x8, not square: set config.image_size"

    def too_few(root):
        fill(root, ["a"], count=1)
        return "both sides need some"

    return [value for value in locals().values() if callable(value)]


def test_every_file_that_is_read_counts_and_the_others_are_told(tmp_path, capsys, monkeypatch):
    """Whatever it is called, however deep it lies; notes, hidden files and HEIC without its reader are no pictures."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    fill(tmp_path, ["a", "b"], count=5)
    picture = Image.new("RGB", (8, 8), RED)
    for name in ("x.jfif", "y.JPE", "sub/deeper/z.png"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "a" / name, "JPEG")
    picture.save(tmp_path / "a" / "no_suffix", "PNG")
    for name in ("notes.txt", "Thumbs.db", "c.heic"):
        (tmp_path / "b" / name).write_bytes(b"no picture")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"")
    (tmp_path / "README").write_text("about this set")
    train, test = (load(f"folder:{tmp_path}", split) for split in ("train", "test"))
    assert len(train) + len(test) == 14
    told = capsys.readouterr().err.splitlines()
    heic = "1 HEIC, which takes `pip install pillow-heif`, 1 beside the class folders, 2 no picture"
    assert told == [
        f"folder:{tmp_path}, {split}: {n} images, 2 classes; 4 files left out ({heic})"
        for split, n in (("train", len(train)), ("test", len(test)))
    ]


def test_labels_come_from_the_training_set_and_the_test_set_may_lack_classes(tmp_path, capsys):
    fill(tmp_path / "Train", ["a", "b", "c"])
    fill(tmp_path / "TEST", ["a", "c"])
    train, test = (load(f"folder:{tmp_path}", split) for split in ("train", "test"))
    assert train.names == test.names == ["a", "b", "c"] and set(test.labels) == {0, 2}
    assert "3 classes; none of b\n" in capsys.readouterr().err


def test_val_beside_train_and_test_is_the_validation_split(tmp_path):
    for part, count in (("train", 9), ("val", 3), ("test", 4)):
        fill(tmp_path / part, ["a", "b"], count)
    config = classify.default_config("vit")
    config.dataset = f"folder:{tmp_path}"
    train, splits = classify.load_splits(config)
    sizes = {"train": len(train)} | {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 18, "val": 6, "test": 8}
    config.validation = 0.5
    train, splits = classify.load_splits(config)
    assert len(train) == len(splits["val"]) == 9
    (tmp_path / "test").rename(tmp_path / "other")
    with pytest.raises(UserError, match="has the splits train and test, not val"):
        load(f"folder:{tmp_path}", "val")


def test_a_folder_of_pictures_alone_is_a_set_without_labels(tmp_path):
    fill(tmp_path, ["only"])
    dataset = load(f"folder:{tmp_path / 'only'}", "train")
    assert dataset.names == [] and (dataset.labels == -1).all() and len(dataset) > 1


def test_a_link_that_leads_back_up_is_followed_once(tmp_path):
    fill(tmp_path, ["a", "b"])
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    count = len(list((tmp_path / "a").glob("*.png"))) + len(list((tmp_path / "b").glob("*.png")))
    assert sum(len(load(f"folder:{tmp_path}", split)) for split in ("train", "test")) == count


@pytest.mark.parametrize("spoil", bad_folders(), ids=lambda spoil: spoil.__name__)
def test_bad_folders_say_what_is_wrong_in_one_line(tmp_path, spoil):
    pattern = spoil(tmp_path / "folder")
    with pytest.raises(UserError, match=pattern) as error:
        load(f"folder:{tmp_path}/folder", "train")
    assert "\n" not in str(error.value) and "folder" in str(error.value)


def test_a_file_that_breaks_later_is_named(tmp_path):
    fill(tmp_path, ["a", "b"])
    dataset = load(f"folder:{tmp_path}", "train", memory_limit=0)
    for file in (tmp_path / "a").iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot read image .*/a/\d\d.png"):
        dataset.take([0])


def test_a_class_of_trains(tmp_path):
    fill(tmp_path, ["bus", "train"])
    assert load(f"folder:{tmp_path}", "train").names == ["bus", "train"]


def test_real_photos(shared_data):
    folder = shared_data / "pacs64" / "photo"
    train, test = load(f"folder:{folder}", "train"), load(f"folder:{folder}", "test")
    files = [len(list(path.iterdir())) for path in sorted(folder.iterdir())]
    assert len(train.names) == 7 and train.image_size == 64
    np.testing.assert_array_equal(np.bincount(train.labels) + np.bincount(test.labels), files)
    assert 60 < everything(test).mean() < 200
