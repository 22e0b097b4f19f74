import os
import signal

import mediapy
import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.results import video
from jaxhw.nerf.results.panels import to_uint8


def moving_square(n, height=34, width=49):
    for i in range(n):
        frame = np.full((height, width, 3), 0.2)
        frame[8:24, 2 * i : 2 * i + 16] = [0.9, 0.5, 0.1]
        yield frame


def test_a_video_is_read_back(tmp_path):
    path = tmp_path / "new" / "square.mp4"
    video.write(path, moving_square(6), fps=10, total=6)
    back = mediapy.read_video(path)
    assert back.shape == (6, 34, 48, 3) and back.metadata.fps == 10
    expected = np.stack([to_uint8(frame)[:, :48] for frame in moving_square(6)])
    assert np.abs(back.astype(int) - expected).mean() < 8
    assert [p.name for p in path.parent.iterdir()] == ["square.mp4"]


def fail():
    raise RuntimeError("stopped")


@pytest.mark.parametrize(
    ("stop", "error"), [(fail, RuntimeError), (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit)]
)
def test_an_interrupted_video_leaves_nothing(tmp_path, stop, error):
    def frames():
        yield from moving_square(2)
        stop()
        yield from moving_square(2)

    with pytest.raises(error):
        video.write_all([tmp_path / "a.mp4", tmp_path / "b.mp4"], ((frame, frame) for frame in frames()))
    assert not list(tmp_path.iterdir())


def test_videos_side_by_side_are_those_written_alone(tmp_path):
    pairs = zip(moving_square(4), moving_square(4, 20, 30), strict=True)
    video.write_all([tmp_path / "a.mp4", tmp_path / "b.mp4"], pairs)
    video.write(tmp_path / "alone.mp4", moving_square(4, 20, 30))
    assert mediapy.read_video(tmp_path / "a.mp4").shape == (4, 34, 48, 3)
    np.testing.assert_array_equal(mediapy.read_video(tmp_path / "b.mp4"), mediapy.read_video(tmp_path / "alone.mp4"))


def test_no_frames(tmp_path):
    with pytest.raises(UserError, match="no frames"):
        video.write(tmp_path / "empty.mp4", [])
