import os
import re

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.capture import ffmpeg, frames, video
from tests.nerf.capture import made
from tests.nerf.capture.made import blurred, movie, moving, picture, read


def extract(path, most=300):
    images = path.parent / "images"
    found = frames.extract([path], images, most)
    assert sorted(file.name for file in images.iterdir()) == [kept.name for kept in found.kept]
    return found, [read(images / kept.name) for kept in found.kept]


def refused(path):
    with pytest.raises(UserError) as caught:
        frames.extract([path], path.parent / "images")
    line = str(caught.value)
    assert str(path) in line and "\n" not in line and "0x" not in line and "[error]" not in line
    return line


def test_all_frames_of_a_short_video(tmp_path):
    original = moving(5)
    found, images = extract(movie(tmp_path / "a.mp4", original))
    assert found.video and not found.rejected
    assert [kept.name for kept in found.kept] == [f"0000{i}.jpg" for i in range(1, 6)]
    assert [kept.source for kept in found.kept] == [f"a.mp4 at 0.{i}0 s" for i in range(5)]
    assert all(kept.size == (96, 64) and kept.sharpness > 0 for kept in found.kept)
    for image, other in zip(images, original, strict=True):
        assert np.abs(image.astype(int) - other).mean() < 4


def test_the_sharpest_frame_of_each_window(tmp_path):
    images = [blurred(image) if i % 4 != 2 else image for i, image in enumerate(moving(12))]
    found, _ = extract(movie(tmp_path / "a.mp4", images), most=3)
    assert [kept.source for kept in found.kept] == ["a.mp4 at 0.20 s", "a.mp4 at 0.60 s", "a.mp4 at 1.00 s"]
    assert len(found.rejected) == 9
    assert found.rejected[0].source == "a.mp4 at 0.00 s"
    assert found.rejected[0].reason == "less sharp than 00001.jpg 0.20 s later"
    assert found.rejected[2].reason == "less sharp than 00001.jpg 0.10 s earlier"


def test_windows_are_of_equal_time_and_a_pause_is_cut():
    at = [video.Frame(i, i / 100, 1.0) for i in range(90)] + [video.Frame(90 + i, 0.9 + i, 1.0) for i in range(9)]
    chosen = video.choose(at, 9)
    assert len(chosen) == 9 and sum(i < 90 for i in chosen) == 1
    broken = [video.Frame(i, i / 10 + 1e5 * (i > 50), float(i)) for i in range(100)]
    assert len(video.choose(broken, 10)) >= 9


def test_many_frames_are_selected(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "BATCH", 7)
    found, images = extract(movie(tmp_path / "a.mp4", moving(20)))
    assert len(found.kept) == 20
    assert all(np.abs(a.astype(int) - b).mean() < 4 for a, b in zip(images, moving(20), strict=True))


def test_blurred_frames_are_named(tmp_path):
    images = [blurred(image) if i in (6, 14) else image for i, image in enumerate(moving(20))]
    found, _ = extract(movie(tmp_path / "a.mp4", images))
    assert [kept.name for kept in found.kept if kept.blurry] == ["00007.jpg", "00015.jpg"]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_by_the_display_matrix(tmp_path, degrees):
    """The file says by how much a player must turn the pictures against the clock."""
    turned = [np.rot90(image, -degrees // 90) for image in moving(3)]
    movie(tmp_path / "stored.mp4", [np.ascontiguousarray(image) for image in turned])
    made.ffmpeg("-display_rotation", degrees, "-i", tmp_path / "stored.mp4", "-c", "copy", tmp_path / "a.mp4")
    found, images = extract(tmp_path / "a.mp4")
    assert found.kept[0].size == (96, 64) and images[0].shape == (64, 96, 3)
    assert all(made.corners(image) == [0, 1, 2, 3] for image in images)


def test_variable_rate_gives_each_frame_once_at_its_time(tmp_path):
    pause = ["-vf", "settb=1/1000,setpts='N*100+if(gt(N,5),900,0)'", "-fps_mode", "passthrough"]
    found, images = extract(movie(tmp_path / "a.mkv", moving(12), *pause, "-enc_time_base", "1:1000"))
    assert len(images) == 12
    times = [float(re.search(r"at ([\d.]+) s", kept.source)[1]) for kept in found.kept]
    assert np.allclose(times, [i / 10 + 0.9 * (i > 5) for i in range(12)], atol=0.011)


def test_pixels_that_are_not_square(tmp_path):
    found, images = extract(movie(tmp_path / "a.mp4", moving(2), "-vf", "setsar=2"))
    assert found.kept[0].size == (192, 64) and images[0].shape == (64, 192, 3)


HDR = "format=gbrpf32le,zscale=tin=iec61966-2-1:pin=bt709:min=gbr:rin=full:t=linear:p=bt709:npl=203," + (
    "zscale=p=bt2020:npl=203,zscale=t={transfer}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
)


@pytest.mark.parametrize(("transfer", "white"), [("arib-std-b67", 0.75), ("smpte2084", 0.58)])
def test_high_dynamic_range_becomes_the_srgb_that_it_was_made_of(tmp_path, transfer, white):
    """White at 203 cd/m2, as BT.2408 says. As decoded without conversion it is grey, at 75 % or 58 % of the signal."""
    original = np.full((128, 192, 3), 255, np.uint8)
    original[:64] = np.linspace(0, 255, 192).astype(np.uint8)[None, :, None]
    original[64:96, :96] = (200, 80, 40)
    tags = ["-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-color_range", "tv"]
    codec = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:crf=8"]
    movie(tmp_path / "a.mp4", [original] * 3, "-vf", HDR.format(transfer=transfer), *codec, *tags)
    _, images = extract(tmp_path / "a.mp4")
    made.ffmpeg("-i", tmp_path / "a.mp4", "-frames:v", "1", tmp_path / "naive.png")
    naive = read(tmp_path / "naive.png").astype(float)[..., :3]
    naive = naive / 257 if naive.max() > 255 else naive

    assert naive[110, 150].mean() / 255 == pytest.approx(white, abs=0.02)
    assert np.abs(images[0] - original.astype(float)).mean() < 6
    middle = np.abs(images[0] - original.astype(float))[:60, :170]  # below the knee of the curve
    assert middle.mean() < 2
    assert np.abs(images[0][80, 48].astype(int) - (200, 80, 40)).max() <= 4
    assert np.abs(naive[:60, :170] - original[:60, :170]).mean() > 10


def test_without_tags_high_definition_is_bt709(tmp_path):
    """Red of BT.709 that is decoded as BT.601 is off by 20 levels and more."""
    image = np.full((720, 1280, 3), (200, 40, 40), np.uint8)
    matrix = "scale=out_color_matrix=bt709,setparams=colorspace=unknown"
    _, images = extract(movie(tmp_path / "a.mp4", [image] * 2, "-vf", matrix))
    assert np.abs(images[0].astype(int) - image).max() <= 4


@pytest.mark.parametrize("name", ["-x.mp4", "a%03d.mp4", 'it\'s a "film": 1,2;[x]\n.mp4', "日本 é.mp4", "a.txt"])
def test_odd_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.rename(movie(tmp_path / "a.mp4", moving(2)), tmp_path / name)
    found = frames.extract([frames.Path(name)], tmp_path / "images")
    assert [kept.source for kept in found.kept] == [f"{name} at 0.00 s", f"{name} at 0.10 s"]


def test_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\xfe.mp4")
    os.rename(movie(tmp_path / "a.mp4", moving(2)), path)
    assert len(extract(path)[0].kept) == 2


def test_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("hello\n" * 50)
    assert "it is no video, whatever its name says" in refused(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "empty file" in refused(tmp_path / "empty.mp4")
    made.ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.m4a")
    assert "only sound" in refused(tmp_path / "sound.m4a")
    made.save(tmp_path / "a.jpg", picture())
    assert "give the folder that it lies in" in refused(tmp_path / "a.jpg")
    assert "does not exist" in refused(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "is no file" in refused(tmp_path / "pipe.mp4")


def test_sound_with_a_cover_is_no_video(tmp_path):
    made.save(tmp_path / "cover.png", picture())
    cover = ["-map", "0", "-map", "1", "-disposition:v", "attached_pic", "-c:v", "png"]
    made.ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-i", tmp_path / "cover.png", *cover, tmp_path / "a.m4a")
    assert "only sound" in refused(tmp_path / "a.m4a")


def test_one_frame_is_no_scene(tmp_path):
    assert "has one frame; a scene takes" in refused(movie(tmp_path / "a.mp4", moving(1)))


def test_fewer_than_two_frames_are_no_scene(tmp_path):
    with pytest.raises(UserError, match="at least two pictures"):
        frames.extract([movie(tmp_path / "a.mp4", moving(3))], tmp_path / "images", most=1)


def test_playlists_open_nothing(tmp_path):
    """Named as what they are or as videos: ffmpeg alone would read the video that they name."""
    target = movie(tmp_path / "target.ts", moving(3), "-c:v", "mpeg2video", rate=25)
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{target}'\n"
    for name, text in {"a.m3u8": hls, "a.mp4": hls, "a.ffconcat": concat, "b.mp4": concat}.items():
        (tmp_path / name).write_text(text)
        assert "it is no video" in refused(tmp_path / name)
    made.ffmpeg("-i", tmp_path / "a.m3u8", tmp_path / "alone.mp4")


def test_a_video_that_is_cut_short(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    data = movie(tmp_path / "a.mp4", list(noise), "-movflags", "+faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    found, _ = extract(tmp_path / "cut.mp4")
    assert 10 < len(found.kept) < 25
    end = found.kept[-1].source.removeprefix("cut.mp4 at ")
    assert found.rejected[-1].source == f"cut.mp4 after {end}"
    assert found.rejected[-1].reason == "cannot be decoded, and the file says that it lasts 4.00 s"
    assert (
        f"cut.mp4 end at {end}, and the file says that it lasts 4.00 s: it may be cut short" in capsys.readouterr().err
    )


def test_a_recording_that_was_broken_off(tmp_path):
    data = movie(tmp_path / "a.mp4", moving(20)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    assert "its index is missing" in refused(tmp_path / "cut.mp4")


def test_damage_within_is_told(tmp_path, capsys):
    data = bytearray(movie(tmp_path / "a.mp4", moving(40)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    (tmp_path / "b.mp4").write_bytes(data)
    found, _ = extract(tmp_path / "b.mp4")
    assert len(found.kept) >= 2 and "damage" in " ".join(item.reason for item in found.rejected)
    assert "b.mp4 is damaged" in capsys.readouterr().err


def test_whole_videos_are_not_called_damaged(tmp_path):
    codecs = {"mp4": "libx265", "mkv": "libvpx-vp9", "avi": "mpeg4", "mov": "prores", "ts": "libx264", "webm": "libvpx"}
    for suffix, codec in codecs.items():
        quiet = ["-x265-params", "log-level=error"] if codec == "libx265" else []
        path = movie(tmp_path / f"x.{suffix}", moving(6), "-c:v", codec, *quiet)
        found = frames.extract([path], tmp_path / suffix)
        assert len(found.kept) == 6 and not found.rejected, suffix


@pytest.mark.parametrize("script", ["exec sleep 60", "echo hello; exec sleep 60"])
def test_an_ffmpeg_that_hangs_is_ended(tmp_path, monkeypatch, script):
    path = movie(tmp_path / "a.mp4", moving(2))
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg.imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.5)
    with pytest.raises(UserError, match="gave no frame"):
        frames.extract([path], tmp_path / "images")


def test_an_ffmpeg_that_tells_no_times(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.2)
    command = ffmpeg.command(movie(tmp_path / "a.mp4", moving(2)), "null", "-f", "rawvideo", "-")
    with pytest.raises(UserError, match="does not tell the times"):
        next(ffmpeg.frames(command, 96, ffmpeg.Log()))


def test_ffmpeg_is_ended_with_its_reader(tmp_path):
    path = movie(tmp_path / "a.mp4", moving(50))
    command = ffmpeg.command(path, ffmpeg.SHOW, "-pix_fmt", "gray", "-f", "rawvideo", "-")
    reading = ffmpeg.frames(command, 96 * 64, ffmpeg.Log())
    shown, data = next(reading)
    assert shown == ffmpeg.Shown(0, 0.0, (96, 64)) and len(data) == 96 * 64
    reading.close()  # hangs if ffmpeg went on writing to a pipe that nobody reads


def test_without_ffmpeg(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(ffmpeg.imageio_ffmpeg, "get_ffmpeg_exe", missing)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="pip install"):
        frames.extract([path], tmp_path / "images")


def test_frames_that_cannot_be_decoded_again_are_told(tmp_path, monkeypatch):
    path = movie(tmp_path / "a.mp4", moving(4))
    decode = video._decode
    monkeypatch.setattr(video, "_decode", lambda *args: list(decode(*args))[:3])
    found, _ = extract(path)
    assert [kept.name for kept in found.kept] == ["00001.jpg", "00002.jpg", "00003.jpg"]
    assert [item.source for item in found.rejected] == ["a.mp4 at 0.30 s"]


def test_a_real_capture(shared_data, tmp_path):
    found = frames.extract([shared_data / "video" / "toy_orbit.mp4"], tmp_path / "images")
    assert len(found.kept) == 111 and not found.rejected
    assert [kept.name for kept in found.kept if kept.blurry] == ["00104.jpg"]  # the camera was jerked
    assert {kept.size for kept in found.kept} == {(720, 540)}
