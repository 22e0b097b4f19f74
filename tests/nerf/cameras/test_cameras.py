import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras import cameras as cams
from jaxhw.nerf.cameras.cameras import Cameras

WIDTH, HEIGHT = 64, 48
# COLMAP's parameters and ours, strong enough to bend: a phone's wide angle, an action camera's fisheye
LENSES = {
    "PINHOLE": ([50.0, 55.0, 31.5, 25.0], [0, 0, 0, 0]),
    "SIMPLE_RADIAL": ([50.0, 31.5, 25.0, -0.08], [-0.08, 0, 0, 0]),
    "RADIAL": ([50.0, 31.5, 25.0, -0.1, 0.03], [-0.1, 0.03, 0, 0]),
    "OPENCV": ([50.0, 55.0, 31.5, 25.0, 0.06, -0.08, -0.01, 0.004], [0.06, -0.08, -0.01, 0.004]),
    "OPENCV_FISHEYE": ([30.0, 32.0, 31.5, 25.0, 0.05, -0.02, 0.01, -0.003], [0.05, -0.02, 0.01, -0.003]),
}


def camera(model, pose=None, **changes):
    parameters, distortion = LENSES[model]
    one_focal = model in ("SIMPLE_RADIAL", "RADIAL")
    focal = [parameters[0]] * 2 if one_focal else parameters[:2]
    arrays = {
        "pose": np.eye(3, 4) if pose is None else pose,
        "focal": focal,
        "centre": parameters[1:3] if one_focal else parameters[2:4],
        "distortion": distortion,
    }
    arrays = {name: np.asarray(value, np.float32)[None] for name, value in (arrays | changes).items()}
    return Cameras(**arrays, size=np.array([[WIDTH, HEIGHT]], np.int32), model=model)


def random_pose(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    return np.concatenate([rotation, rng.normal(size=(3, 1))], 1)


@pytest.mark.parametrize("model", LENSES)
def test_rays_are_colmaps(model):
    pycolmap = pytest.importorskip("pycolmap")
    colmap = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=LENSES[model][0])
    pixels = cams.pixel_centres(WIDTH, HEIGHT)
    expected = colmap.cam_ray_from_img(pixels.astype(np.float64))
    pose = random_pose(0)

    rays = cams.image_rays(camera(model, pose)[0])

    assert len(rays) == WIDTH * HEIGHT and (rays.camera == -1).all()
    np.testing.assert_allclose(rays.directions, expected @ pose[:, :3].T, atol=1e-6)
    np.testing.assert_allclose(rays.origins, np.broadcast_to(pose[:, 3], rays.origins.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=-1), 1, atol=1e-6)


def test_axes_and_pixel_centres():
    pinhole = camera("PINHOLE", focal=[2.0, 2.0], centre=[WIDTH / 2, HEIGHT / 2])[0]
    _, directions = cams.rays_through(pinhole, np.array([[32.0, 24.0], [34.0, 24.0], [32.0, 26.0]], np.float32))
    root = np.sqrt(0.5)
    np.testing.assert_allclose(directions, [[0, 0, 1], [root, 0, root], [0, root, root]], atol=1e-7)
    assert cams.pixel_centres(3, 2).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]


@pytest.mark.parametrize("model", LENSES)
def test_the_optical_centre_has_a_ray_and_a_gradient(model):
    at_centre = camera(model)[0]

    def direction(focal, pixel):
        return cams.unproject(at_centre.replace(focal=focal), pixel)

    pixel = jnp.asarray(at_centre.centre)
    np.testing.assert_array_equal(direction(at_centre.focal, pixel), [0, 0, 1])
    to_focal, to_pixel = jax.jacrev(direction, (0, 1))(jnp.asarray(at_centre.focal), pixel)
    np.testing.assert_array_equal(to_focal, np.zeros((3, 2)))
    np.testing.assert_allclose(to_pixel[:2], np.diag(1 / at_centre.focal), rtol=1e-6)


def test_each_ray_is_of_the_camera_that_its_index_names():
    many = [camera("OPENCV", random_pose(i), focal=[40.0 + i, 41.0 + i], centre=[30.0 + i, 20.0]) for i in range(3)]
    several = jax.tree.map(lambda *a: np.concatenate(a), *many)
    index = np.array([2, 0, 1, 2])
    pixels = np.random.default_rng(0).uniform(0, 40, (4, 2)).astype(np.float32)
    rays = jax.jit(cams.generate_rays)(several, index, pixels)
    assert rays.camera.dtype == np.int32 and rays.camera.tolist() == index.tolist()
    for i, k in enumerate(index):
        origin, direction = cams.rays_through(many[k][0], pixels[i])
        np.testing.assert_allclose(rays.origins[i], origin)
        np.testing.assert_allclose(rays.directions[i], direction, atol=1e-7)
    assert len(several) == 3 and len(several[index]) == 4


def test_resized_cameras_see_the_same():
    original = camera("OPENCV", random_pose(1))
    half = original.resized((WIDTH // 2, HEIGHT // 4))
    assert (half[0].width, half[0].height) == (WIDTH // 2, HEIGHT // 4) and half.size.dtype == np.int32
    pixels = cams.pixel_centres(WIDTH // 2, HEIGHT // 4)
    expected = cams.rays_through(original[0], pixels * np.float32([2, 4]))[1]
    np.testing.assert_allclose(cams.image_rays(half[0]).directions, expected, atol=1e-6)


def test_cameras_of_mixed_sizes():
    both = jax.tree.map(lambda *a: np.concatenate(a), camera("PINHOLE"), camera("PINHOLE").resized((30, 50)))
    assert both.size.tolist() == [[WIDTH, HEIGHT], [30, 50]]
    assert len(cams.image_rays(both[1])) == 30 * 50
    again = both.resized([(30, 50), (WIDTH, HEIGHT)])
    np.testing.assert_allclose(again.focal, both.focal[::-1], rtol=1e-6)
    np.testing.assert_allclose(again.centre, both.centre[::-1], rtol=1e-6)
    with pytest.raises(TypeError):
        _ = both.width  # which of them is not said


def test_rows_of_rays():
    rays = cams.generate_rays(camera("PINHOLE"), np.zeros(5, int), np.arange(10, dtype=np.float32).reshape(5, 2))
    some = rays[np.array([3, 1])]
    assert len(rays) == 5 and len(some) == 2 and len(rays[1:]) == 4
    np.testing.assert_array_equal(some.directions, rays.directions[np.array([3, 1])])


def test_folded_distortion_stays_finite():
    """Beyond the radius where a strong barrel distortion folds there is no true ray, but there must be no NaN."""
    folded = camera("RADIAL", distortion=[-0.6, 0.0, 0, 0], focal=[10.0, 10.0])[0]
    assert np.isfinite(cams.image_rays(folded).directions).all()


@pytest.mark.parametrize("model", LENSES)
def test_projecting_is_the_inverse_of_rays(model):
    one = camera(model)[0]
    pixels = cams.pixel_centres(WIDTH, HEIGHT)
    distance = np.random.default_rng(0).uniform(0.5, 9, (len(pixels), 1)).astype(np.float32)
    back = cams.project(one, cams.unproject(one, pixels) * distance)
    np.testing.assert_allclose(back, pixels, atol=2e-4)


@pytest.mark.parametrize("size", [16, 48, 90])
@pytest.mark.parametrize("samples", [8, 32])
def test_points_along_rays_are_the_same_within_one_program(size, samples):
    """XLA's CPU backend once fused rays into their points and read other rows, of some thousand points and more."""
    one = camera("PINHOLE", random_pose(0)).resized((size, size))[0]
    pixels = cams.pixel_centres(size, size)
    t = np.linspace(2, 6, samples, dtype=np.float32)

    def middles(camera, pixels):
        origins, directions = cams.rays_through(camera, pixels)
        return (origins[:, None] + directions[:, None] * t[None, :, None]).mean(1)

    origins, directions = cams.rays_through(one, pixels)
    np.testing.assert_allclose(jax.jit(middles)(one, pixels), origins + 4 * directions, atol=1e-5)
