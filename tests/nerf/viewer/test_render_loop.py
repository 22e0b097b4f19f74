"""Whose picture is rendered next, and in which size; all without a browser."""

import numpy as np
import pytest

from jaxhw.nerf.viewer.crop import EVERYWHERE
from jaxhw.nerf.viewer.render_loop import RenderLoop, View, Wanted, doubling
from tests.nerf.fields.dvgo.made import ring
from tests.nerf.viewer.fakes import Clock, Draw, Gallery

CHUNK = 100


class Scene:
    """A loop with views; 100 rays take 20 ms, so that the first picture has 500 rays."""

    def __init__(self, views=1, seconds=0.02):
        self.clock = Clock()
        self.draw = Draw(self.clock, seconds)
        self.loop = RenderLoop(self.draw, 0.5, CHUNK, self.clock)
        self.loop.seconds.append(seconds)
        self.seen = [Gallery() for _ in range(views)]
        self.views = [View(g.pictures.append, g.errors.append) for g in self.seen]
        self.loop.views.extend(self.views)

    def want(self, view=0, size=(64, 48)):
        self.views[view].wanted = Wanted(ring(n=3).resized(size)[0], EVERYWHERE)

    def finish(self):
        count = 0
        while self.loop.advance():
            count += 1
            assert count < 1000
        return count


def test_sizes_double_from_what_there_is_time_for():
    assert doubling((640, 480), 5000) == [(80, 60), (160, 120), (320, 240), (640, 480)]
    assert doubling((640, 480), 4800) == [(80, 60), (160, 120), (320, 240), (640, 480)]
    assert doubling((640, 480), 4799)[0] == (40, 30)
    assert doubling((640, 480), 10**6) == [(640, 480)]
    assert doubling((3, 900), 10)[0][0] == 1  # no side vanishes


def test_a_picture_comes_coarse_then_finer_and_then_rests():
    scene = Scene()
    assert not scene.loop.advance()  # nothing is wanted
    scene.want()
    scene.finish()
    assert scene.seen[0].sizes == [(16, 12), (32, 24), (64, 48)]
    assert [p.finest for p in scene.seen[0].pictures] == [False, False, True]
    assert scene.seen[0].pictures[-1].rendered.colour.shape == (48, 64, 3)
    assert not scene.loop.advance()


def test_chunks_are_of_one_size_and_cover_the_picture():
    scene = Scene()
    scene.want(size=(16, 12))
    scene.finish()
    assert scene.draw.calls == [(16, 12, 0), (16, 12, 100)]


def test_a_camera_that_moves_begins_again_between_two_chunks():
    scene = Scene()
    scene.want()
    for _ in range(2 + 8 + 3):  # the first two pictures, and a part of the third
        scene.loop.advance()
    scene.want()
    scene.loop.advance()
    assert scene.draw.calls[-1] == (16, 12, 0) and len(scene.seen[0].pictures) == 2


def test_a_camera_that_moves_in_every_chunk_is_followed_all_the_same():
    scene = Scene()
    for _ in range(20):
        scene.want()
        scene.loop.advance()
    assert scene.seen[0].sizes == [(16, 12)] * 10  # of two chunks each
    newest = scene.views[0].wanted
    scene.finish()
    assert scene.seen[0].pictures[-1].wanted is newest and scene.seen[0].sizes[-1] == (64, 48)


def test_a_camera_that_moves_while_its_coarsest_picture_fails_begins_again():
    scene = Scene()
    works, scene.loop.draw = scene.loop.draw, lambda *args: 1 / 0
    scene.want()
    scene.finish()
    scene.loop.draw = works
    scene.want()
    scene.finish()
    assert len(scene.seen[0].errors) == 1 and scene.seen[0].sizes[-1] == (64, 48)


def test_the_coarse_picture_of_one_comes_before_the_fine_one_of_another():
    scene = Scene(views=2)
    scene.want(0)
    for _ in range(12):
        scene.loop.advance()
    scene.want(1)
    scene.loop.advance()
    scene.loop.advance()
    assert scene.seen[1].sizes == [(16, 12)]
    scene.finish()
    assert scene.seen[0].sizes == scene.seen[1].sizes


def test_ten_browsers_take_turns():
    scene = Scene(views=10)
    for i in range(10):
        scene.want(i)
    for _ in range(10):
        scene.loop.advance()
    assert [call[2] for call in scene.draw.calls] == [0] * 10  # the first chunk of each
    scene.finish()
    assert all(gallery.sizes[-1] == (64, 48) for gallery in scene.seen)


def test_new_variables_are_shown_in_the_finest_size_at_once():
    scene = Scene()
    scene.want()
    scene.finish()
    scene.loop.renew(0.75)
    scene.finish()
    assert scene.seen[0].sizes[3:] == [(64, 48)]
    np.testing.assert_array_equal(scene.seen[0].pictures[-1].rendered.colour, 0.75)


def test_a_finest_picture_of_new_variables_waits_for_a_camera_that_moves():
    scene = Scene()
    scene.want()
    scene.finish()
    scene.loop.renew(0.75)
    scene.loop.advance()
    scene.want()
    scene.loop.advance()
    assert scene.draw.calls[-1] == (16, 12, 0)


def test_a_picture_is_of_the_variables_that_it_began_with():
    scene = Scene()
    scene.want()
    for _ in range(5):
        scene.loop.advance()
    scene.loop.renew(0.75)
    scene.finish()
    values = [np.unique(p.rendered.colour).tolist() for p in scene.seen[0].pictures]
    assert values == [[0.5], [0.5], [0.5], [0.75]]


def test_an_error_is_the_views_alone_and_is_not_tried_for_ever():
    scene = Scene(views=2)
    works = scene.loop.draw

    def fails(source, box, camera, first, count):
        if camera.width % 5 == 0:
            raise RuntimeError("no such room")
        return works(source, box, camera, first, count)

    scene.loop.draw = fails
    scene.want(0, (50, 40))
    scene.want(1, (64, 48))
    assert scene.finish() < 100
    assert [str(error) for error in scene.seen[0].errors] == ["no such room"] and not scene.seen[0].pictures
    assert scene.seen[1].sizes[-1] == (64, 48) and not scene.seen[1].errors


def test_a_browser_that_left_in_the_midst_of_its_picture_is_forgotten():
    scene = Scene(views=2)
    scene.want(0)
    scene.want(1)
    scene.loop.advance()
    scene.loop.views.remove(scene.views[0])
    scene.finish()
    assert not scene.seen[0].pictures and scene.seen[1].sizes[-1] == (64, 48)


@pytest.mark.parametrize("seconds", [0.002, 0.2])
def test_the_first_size_follows_the_measured_speed(seconds):
    scene = Scene(seconds=seconds)
    scene.want(size=(256, 256))
    scene.finish()
    pixels = np.prod(scene.seen[0].sizes[0])
    assert pixels <= CHUNK / seconds * 0.1 < 4 * pixels
