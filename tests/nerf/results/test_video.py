import mediapy
import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.results import video


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
    expected = np.stack([video.to_uint8(frame)[:, :48] for frame in moving_square(6)])
    assert np.abs(back.astype(int) - expected).mean() < 8
    assert [p.name for p in path.parent.iterdir()] == ["square.mp4"]


def test_an_interrupted_video_leaves_nothing(tmp_path):
    def frames():
        yield from moving_square(2)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        video.write(tmp_path / "square.mp4", frames())
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


def test_side_by_side():
    left, right = np.zeros((4, 3, 3), np.uint8), np.ones((4, 5, 3))
    both = video.beside(left, right)
    assert both.shape == (4, 8, 3) and both.dtype == np.uint8
    assert (both[:, :3] == 0).all() and (both[:, 3:] == 255).all()


def test_depth_is_white_where_there_is_nothing_and_ordered_elsewhere():
    depth, opacity = np.array([[1.0, 2.0, 4.0, 3.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])
    picture = video.depth_picture(depth, opacity, 1.0, 4.0)
    assert (picture[0, 3] == 255).all()
    assert len({tuple(pixel) for pixel in picture[0]}) == 4
    same = video.depth_picture(np.array([[0.5, 9.0]]), np.ones((1, 2)), 1.0, 4.0)
    np.testing.assert_array_equal(same[0], picture[0, [0, 2]])  # what is outside the range has the colours of its ends


def test_depth_range_ignores_the_empty():
    depth = np.concatenate([np.linspace(2, 3, 100), np.full(100, 50.0)])
    near, far = video.depth_range(depth, np.repeat([1.0, 0.0], 100))
    assert 2 <= near < 2.05 and 2.95 < far <= 3
    assert video.depth_range(depth, np.zeros(200))[0] > 0


def test_errors_are_black_where_there_are_none():
    truth = np.full((2, 2, 3), 0.5)
    picture = truth.copy()
    picture[0, 0] += video.WORST
    picture[1, 1, 0] += video.WORST
    errors = video.error_picture(picture, truth).astype(int).sum(-1)
    assert errors[0, 0] > errors[1, 1] > errors[0, 1] == errors[1, 0]
    assert errors[0, 1] < 10
