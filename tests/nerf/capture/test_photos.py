import os

import numpy as np
import pytest
from PIL import Image

from jaxhw import decoding
from jaxhw.errors import UserError
from jaxhw.nerf.capture import frames, privacy
from tests.nerf.capture import made
from tests.nerf.capture.made import blurred, picture, read, save


def extract(folder, *more):
    """What became of the photos in a folder; beside two that need no change, if it has fewer."""
    images = folder.parent / "images"
    found = frames.extract([folder, *more], images)
    written = sorted(path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file())
    assert written == [kept.name for kept in found.kept] and not found.video
    for kept in found.kept:
        with Image.open(images / kept.name) as image:
            assert image.size == kept.size and decoding.orientation(image) == 1 and image.mode in ("L", "RGB", "RGBA")
    return found, images


def single(tmp_path, name, image, **options):
    """One photo among others, as it was written: (its path, its pixels)."""
    folder = tmp_path / "photos"
    save(folder / name, image, **options)
    save(folder / "zz1.png", picture())
    save(folder / "zz2.png", picture())
    found, images = extract(folder)
    path = images / next(kept.name for kept in found.kept if kept.source == name)
    return path, read(path)


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.JPEG", "L"), ("a.png", "RGB"), ("a.png", "L")])
def test_plain_photos_are_copied(tmp_path, name, mode):
    path, _ = single(tmp_path, name, Image.fromarray(picture()).convert(mode), exif=made.exif())
    assert path.read_bytes() == (tmp_path / "photos" / name).read_bytes()
    assert path.name in ("a.jpg", "a.png")


def test_transparency_is_kept(tmp_path):
    image = np.dstack([picture(), np.full((64, 96), 90, np.uint8)])
    path, written = single(tmp_path, "a.png", image)
    assert path.read_bytes() == (tmp_path / "photos" / "a.png").read_bytes() and written.shape[-1] == 4


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_turned_once_without_a_tag(tmp_path, orientation, suffix):
    """Stored so that the tag's turn makes it upright: Pillow's own transposition is the reference."""
    upright = Image.fromarray(picture())
    back = {6: 8, 8: 6}.get(orientation, orientation)  # the turn that undoes it
    stored = upright.transpose(decoding.TO_UPRIGHT[back])
    options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    path, written = single(tmp_path, "a" + suffix, stored, exif=made.exif(orientation=orientation), **options)
    assert path.suffix == (".jpg" if suffix == ".jpg" else ".png")
    assert written.shape == (64, 96, 3) and made.corners(written) == [0, 1, 2, 3]
    assert np.abs(written.astype(int) - picture()).mean() < (3 if suffix == ".jpg" else 1e-9)
    assert decoding.ORIENTATION not in Image.open(path).getexif()


def test_what_the_focal_length_is_guessed_from_is_kept(tmp_path):
    path, _ = single(tmp_path, "a.jpg", picture(), exif=made.exif(orientation=6, place=True))
    exif = Image.open(path).getexif()
    inner = exif.get_ifd(0x8769)
    assert (exif[0x010F], exif[0x0110]) == ("Maker", "Model 1")
    assert (inner[0x920A], inner[0xA405]) == (4.25, 26)
    assert (inner[0xA20E], inner[0xA20F]) == (200.0, 300.0)  # across and down are exchanged
    assert 0xA431 not in inner and not exif.get_ifd(0x8825) and b"SERIAL" not in path.read_bytes()


def test_a_focal_length_without_a_maker_is_kept(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    exif[decoding.ORIENTATION] = 3
    path, _ = single(tmp_path, "a.jpg", picture(), exif=exif)
    assert dict(Image.open(path).getexif().get_ifd(0x8769)) == {0xA405: 26}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_place_is_left_out_and_the_pixels_stay(tmp_path, suffix):
    icc = Image.open(save(tmp_path / "p.png", picture(), icc_profile=b"profile" * 20)).info["icc_profile"]
    options = {
        "exif": made.exif(place=True),
        "icc_profile": icc,
        **({"comment": b"at home"} if suffix == ".jpg" else {}),
    }
    path, written = single(tmp_path, "a" + suffix, picture(), **options)
    original = tmp_path / "photos" / f"a{suffix}"
    assert np.array_equal(written, read(original))
    with Image.open(path) as image:
        assert not image.getexif().get_ifd(0x8825) and image.getexif().get_ifd(0x8769)[0xA405] == 26
        assert image.info["icc_profile"] == icc
    assert b"at home" not in path.read_bytes() and b"SERIAL" not in path.read_bytes()
    assert Image.open(original).getexif().get_ifd(0x8825), "the photo itself is as it was"


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {}])
def test_jpegs_of_all_layouts_lose_their_place(tmp_path, options):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    folder = tmp_path / "photos"
    place = b"<x:xmpmeta exif:GPSLatitude='52'/>"
    path = save(folder / "a.jpg", noise, exif=made.exif(place=True), xmp=place, **options)
    path.write_bytes(path.read_bytes() + b"a film with GPS behind the picture")
    save(folder / "b.jpg", noise, xmp=place, **options)
    found, images = extract(folder)
    for name in ("a.jpg", "b.jpg"):
        assert np.array_equal(read(images / name), read(folder / name))
        assert b"GPS" not in (images / name).read_bytes()
    assert len(found.kept) == 2


def test_a_jpeg_of_an_odd_layout_loses_its_place_too(tmp_path, monkeypatch):
    def odd(*args):
        raise ValueError("it is not laid out as a JPEG")

    monkeypatch.setattr(privacy, "without_metadata", odd)
    path, written = single(tmp_path, "a.jpg", picture(), exif=made.exif(place=True), quality=95)
    assert not Image.open(path).getexif().get_ifd(0x8825) and np.abs(written.astype(int) - picture()).mean() < 5


def test_lossy_and_lossless_kinds(tmp_path):
    folder, rgb = tmp_path / "photos", picture()
    save(folder / "lossy.webp", rgb)
    save(folder / "icc.webp", rgb, lossless=True, icc_profile=b"profile" * 20)
    save(folder / "b.bmp", rgb)
    save(folder / "t.tiff", rgb)
    save(folder / "clear.webp", np.dstack([rgb, rgb[..., 0]]))
    found, images = extract(folder)
    assert [kept.name for kept in found.kept] == ["b.png", "clear.png", "icc.png", "lossy.jpg", "t.png"]
    assert all(np.array_equal(read(images / name), rgb) for name in ("b.png", "icc.png", "t.png"))
    assert read(images / "clear.png").shape[-1] == 4


def test_odd_modes_become_8_bits(tmp_path):
    folder, rgb = tmp_path / "photos", picture()
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    save(folder / "16.png", grey.astype(np.uint16) * 257)
    save(folder / "16.tif", grey.astype(np.uint16) * 257)
    save(folder / "cmyk.jpg", Image.fromarray(rgb).convert("CMYK"), quality=98, icc_profile=b"of CMYK" * 20)
    save(folder / "palette.png", Image.fromarray(rgb).convert("P"))
    save(folder / "two.png", Image.fromarray(rgb).convert("1"))
    save(folder / "la.png", Image.fromarray(rgb).convert("LA"))
    save(folder / "float.tif", grey.astype(np.float32))
    found, images = extract(folder)
    names = [kept.name for kept in found.kept]
    assert names == ["16.png", "16_2.png", "cmyk.jpg", "la.png", "palette.png", "two.png"]
    assert np.array_equal(read(images / "16.png"), grey) and np.array_equal(read(images / "16_2.png"), grey)
    assert np.abs(read(images / "cmyk.jpg").astype(int) - rgb).mean() < 4
    assert "icc_profile" not in Image.open(images / "cmyk.jpg").info
    assert [item.source for item in found.rejected] == ["float.tif"] and "floating-point" in found.rejected[0].reason


def test_16_bits_of_colour(tmp_path):
    made.ffmpeg("-i", save(tmp_path / "a.png", picture()), "-pix_fmt", "rgb48be", tmp_path / "b.png")
    (tmp_path / "photos").mkdir()
    os.rename(tmp_path / "b.png", tmp_path / "photos" / "b.png")
    save(tmp_path / "photos" / "c.png", picture())
    _, images = extract(tmp_path / "photos")
    assert (images / "b.png").read_bytes()[24] == 8 and np.abs(
        read(images / "b.png").astype(int) - picture()
    ).max() <= 1


def test_heic(tmp_path):
    """Its reader turns it as the container says, and EXIF's orientation, which phones write as well, does not count."""
    if not decoding.register_heif():
        pytest.skip("reading HEIC takes pillow-heif")
    exif = made.exif(orientation=6, place=True)
    path, written = single(tmp_path, "IMG_1.HEIC", picture(), quality=95, exif=exif)
    assert path.name == "IMG_1.jpg" and written.shape == (64, 96, 3) and made.corners(written) == [0, 1, 2, 3]
    exif = Image.open(path).getexif()
    assert exif.get_ifd(0x8769)[0xA405] == 26 and not exif.get_ifd(0x8825)


def test_heic_without_its_reader_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "register_heif", lambda: False)
    folder = tmp_path / "photos"
    save(folder / "a.png", picture())
    save(folder / "b.png", picture())
    before = frames.fingerprint([folder])
    (folder / "c.heic").write_bytes(b"x")
    found, _ = extract(folder)
    assert "pip install pillow-heif" in found.rejected[0].reason and found.rejected[0].source == "c.heic"
    without = frames.fingerprint([folder])
    monkeypatch.setattr(decoding, "register_heif", lambda: True)
    assert len({before, without, frames.fingerprint([folder])}) == 3


def test_live_photos_overwrite_nothing(tmp_path):
    folder = tmp_path / "photos"
    for name in ("IMG_1.JPG", "IMG_1.png", "img_1.jpeg"):
        save(folder / name, picture(), format=None)
    found, _ = extract(folder)
    assert [(kept.name, kept.source) for kept in found.kept] == [
        ("IMG_1.jpg", "IMG_1.JPG"),
        ("IMG_1_2.png", "IMG_1.png"),
        ("img_1_3.jpg", "img_1.jpeg"),
    ]


def test_names_become_plain(tmp_path):
    folder = tmp_path / "my photos"
    for name in ("a b.png", "日.png", "line\nbreak.png", os.fsdecode(b"\xff.png")):
        save(folder / "x.png", picture()).rename(folder / name)
    found, _ = extract(folder)
    assert {kept.name for kept in found.kept} == {"a_b.png", "_.png", "line_break.png", "__2.png"}
    assert {kept.source for kept in found.kept} >= {"a b.png", "日.png", "line\nbreak.png"}


def test_folders_below_are_cameras_if_there_are_several(tmp_path):
    folder = tmp_path / "photos"
    for name in ("DCIM/front/1.png", "DCIM/front/2.png", "DCIM/back/1.png", "DCIM/masks/1.png", "DCIM/.trash/1.png"):
        save(folder / name, picture())
    save(folder / "DCIM" / "back" / "._1.png", picture())
    found, _ = extract(folder)
    assert [kept.name for kept in found.kept] == ["back/1.png", "front/1.png", "front/2.png"]
    assert found.kept[0].source == "DCIM/back/1.png" and not found.rejected


def test_one_folder_below_is_no_camera_of_its_own(tmp_path):
    for name in ("1.png", "2.png"):
        save(tmp_path / "photos" / "DCIM" / "100APPLE" / name, picture())
    found, _ = extract(tmp_path / "photos")
    assert [kept.name for kept in found.kept] == ["1.png", "2.png"]


def test_several_folders_are_several_cameras(tmp_path):
    for name in ("one/phone/1.png", "two/Phone/1.png", "my camera/1.png"):
        save(tmp_path / name, picture())
    found, _ = extract(tmp_path / "one" / "phone", tmp_path / "two" / "Phone", tmp_path / "my camera")
    assert [kept.name for kept in found.kept] == ["Phone_2/1.png", "my_camera/1.png", "phone/1.png"]
    assert found.kept[0].source == str(tmp_path / "two" / "Phone" / "1.png")


def test_links_that_lead_back_up_end(tmp_path):
    folder = tmp_path / "photos"
    save(folder / "1.png", picture())
    save(tmp_path / "elsewhere" / "2.png", picture())
    (folder / "up").symlink_to(folder)
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    (folder / "nowhere.png").symlink_to(tmp_path / "gone")
    found, _ = extract(folder)
    assert [kept.name for kept in found.kept] == ["1.png", "other/2.png"]
    assert [item.source for item in found.rejected] == ["nowhere.png"]


def test_broken_files_are_told_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "photos"
    for name in ("1.jpg", "2.jpg", "cut.jpg", "cut.png"):
        save(folder / name, np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    for name in ("cut.jpg", "cut.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:3000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "notes.txt").write_text("hello")
    (folder / "README").write_text("hello")
    found, _ = extract(folder)
    assert [kept.name for kept in found.kept] == ["1.jpg", "2.jpg"]
    reasons = {item.source: item.reason for item in found.rejected}
    assert reasons["notes.txt"] == "no picture (.txt)" and reasons["README"] == "no picture (no suffix)"
    assert reasons["text.jpg"] == reasons["empty.jpg"] == "cannot be read: it is no picture, whatever its name says"
    assert all("cannot be read: " in reasons[name] and "truncated" in reasons[name] for name in ("cut.jpg", "cut.png"))
    assert len(reasons) == 6


def test_blurry_photos_are_named_and_none_is_dropped(tmp_path):
    folder = tmp_path / "photos"
    for i in range(8):
        save(folder / f"{i}.png", blurred(picture(seed=i)) if i == 3 else picture(seed=i))
    found = frames.extract([folder], tmp_path / "images", most=2)
    assert [kept.name for kept in found.kept if kept.blurry] == ["3.png"] and len(found.kept) == 8


def test_a_huge_jpeg_is_written_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 96 * 64)
    path, written = single(tmp_path, "a.jpg", picture(190, 128))
    assert written.shape == (64, 95, 3) and path.suffix == ".jpg"


def test_too_few_pictures(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, expected in {
        "": "no picture that can be read; a scene takes",
        "a.mov": "no picture that can be read; found besides: 1 .mov; a scene takes",
        "b.jpg": "no picture that can be read; b.jpg cannot be read: it is no picture",
        "c.png": "only one picture that can be read; b.jpg cannot",
    }.items():
        if name:
            (folder / name).write_text("x")
        if name == "c.png":
            save(folder / name, picture())
        with pytest.raises(UserError) as caught:
            frames.extract([folder], tmp_path / f"images{name}")
        assert expected in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_sources_that_do_not_go_together(tmp_path):
    save(tmp_path / "photos" / "below" / "1.png", picture())
    (tmp_path / "a.mp4").touch()
    photos, video = tmp_path / "photos", tmp_path / "a.mp4"
    for sources, expected in [
        ([], "nothing"),
        ([video, photos], "one video file, or one or more folders"),
        ([video, video], "one video file, or one or more folders"),
        ([photos, photos], "would count twice"),
        ([photos / "below", photos], "would count twice"),
        ([tmp_path / "gone"], "does not exist"),
    ]:
        for function in (frames.fingerprint, lambda sources: frames.extract(sources, tmp_path / "images")):
            with pytest.raises(UserError, match=expected):
                function(sources)
    assert not (tmp_path / "images").exists()


def test_a_folder_in_use_is_not_written_to(tmp_path):
    save(tmp_path / "photos" / "1.png", picture())
    save(tmp_path / "images" / "1.png", picture())
    with pytest.raises(UserError, match="is not empty"):
        frames.extract([tmp_path / "photos"], tmp_path / "images")


def test_the_fingerprint_follows_every_change(tmp_path):
    folder = tmp_path / "photos"
    save(folder / "1.png", picture())
    save(folder / "below" / "2.png", picture())
    seen = [frames.fingerprint([folder])]
    assert frames.fingerprint([folder]) == seen[0]
    os.utime(folder / "1.png", ns=(1, 1))
    seen.append(frames.fingerprint([folder]))
    (folder / "1.png").rename(folder / "3.png")
    seen.append(frames.fingerprint([folder]))
    (folder / "below" / "2.png").unlink()
    seen.append(frames.fingerprint([folder]))
    seen.append(frames.fingerprint([folder / "3.png"]))
    assert len(set(seen)) == 5
    folder.rename(tmp_path / "moved").rename(folder)
    assert frames.fingerprint([folder]) == seen[3]
