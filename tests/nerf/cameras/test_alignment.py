"""The similarity between cameras: a known one is found again, a mirror never; errors after it; noise of a size."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras import alignment
from tests.nerf.fields.dvgo.made import ring


def known(seed=0):
    """[4, 4] a similarity."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rng.uniform(0.2, 5) * Rotation.random(random_state=rng).as_matrix()
    matrix[:3, 3] = rng.normal(size=3)
    return matrix


def poses(kind):
    rng = np.random.default_rng(1)
    if kind == "ring":
        return ring(n=12).pose.astype(np.float64)
    count = {"anywhere": 9, "line": 6, "two": 2, "one": 1}[kind]
    positions = rng.normal(size=(count, 3))
    if kind == "line":
        positions = np.outer(np.arange(count), [1.0, 2, -1])
    axes = Rotation.random(count, random_state=rng).as_matrix()
    return np.concatenate([axes, positions[:, :, None]], 2)


@pytest.mark.parametrize("kind", ["ring", "anywhere", "line", "two"])
@pytest.mark.parametrize("seed", range(3))
def test_a_known_similarity_is_found_again(kind, seed):
    """Also where positions alone leave a turn open: along a line, and of two cameras."""
    matrix, source = known(seed), poses(kind)
    target = alignment.moved_poses(source, matrix)
    np.testing.assert_allclose(alignment.similarity(source, target), matrix, atol=1e-9)
    assert max(alignment.errors(target, source)) < 1e-5


def test_one_camera_is_taken_onto_another():
    source = poses("one")
    target = alignment.moved_poses(source, known())
    found = alignment.similarity(source, target)
    np.testing.assert_allclose(alignment.moved_poses(source, found), target, atol=1e-9)


def test_it_fits_what_cameras_see():
    """Cameras on an arc that moved a little and turned back to their subject: positions alone say less of a turn."""
    angle, rng = np.linspace(-0.5, 0.5, 40), np.random.default_rng(0)
    positions = 3 * np.stack([np.sin(angle), -np.cos(angle), 0 * angle], 1)
    truth, found = looking_at_the_origin(positions), looking_at_the_origin(positions + 0.05 * rng.normal(size=(40, 3)))
    spread = np.linalg.norm(found[:, :, 3] - found[:, :, 3].mean(0)) / np.linalg.norm(positions - positions.mean(0))
    # An independent implementation: the turn between the vectors from the middle of all points to each of them.
    a, b = (alignment._seen(poses, d) for poses, d in ((truth, 3.0), (found, 3.0 * spread)))
    rotation = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))[0].as_matrix()
    matrix = alignment.similarity(truth, found)
    np.testing.assert_allclose(matrix[:3, :3], spread * rotation, atol=0.01)
    # What is around the subject stays where it is, to a tenth of the noise; by the positions alone it does not.
    by_positions = Rotation.align_vectors(found[:, :, 3] - found[:, :, 3].mean(0), positions - positions.mean(0))[0]
    corner = np.array([0.5, 0.5, 0.5])
    moved = lambda turn, shift: np.linalg.norm(turn @ corner + shift - corner)
    ours = moved(matrix[:3, :3], matrix[:3, 3])
    theirs = moved(by_positions.as_matrix(), found[:, :, 3].mean(0) - by_positions.apply(positions.mean(0)))
    assert ours < 0.3 * theirs


def looking_at_the_origin(positions):
    """[n, 3, 4] poses with level right axes."""
    ahead = -positions / np.linalg.norm(positions, axis=1, keepdims=True)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(ahead, right), ahead, positions], 2)


@pytest.mark.parametrize("seed", range(20))
def test_it_never_mirrors(seed):
    """Umeyama's determinant test: not where the target's positions are mirrored, nor where they are in a plane."""
    rng = np.random.default_rng(seed)
    source = poses("anywhere")
    target = source.copy()
    target[:, :, 3] *= [1, 1, -1]
    target[:, :, 3] += 0.1 * rng.normal(size=(9, 3))
    if seed % 2:
        target[:, 2, 3] = 0
    rotation = alignment.similarity(source, target)[:3, :3]
    assert np.linalg.det(rotation) > 0
    scale = alignment.scale_of(alignment.similarity(source, target))
    np.testing.assert_allclose(rotation @ rotation.T, scale**2 * np.eye(3), atol=1e-9)


def test_errors_by_hand():
    """One camera of a ring turned by 8 degrees, in another gauge."""
    truth = poses("ring")
    found = truth.copy()
    found[3, :, :3] = Rotation.from_rotvec([0, 0, np.radians(8)]).as_matrix() @ found[3, :, :3]
    degrees, share = alignment.errors(alignment.moved_poses(found, known()), truth)
    assert 8 / 12 < degrees < 2 * 8 / 12 and share < 0.01  # the similarity spreads some of it over the others
    found = truth.copy()
    found[5, :, 3] += [0, 0, 0.3]
    _, share = alignment.errors(alignment.moved_poses(found, known()), truth)
    assert 0.3 / 3 / 12 < share < 2 * 0.3 / 3 / 12
    assert alignment.extent(truth[:, :, 3]) == pytest.approx(3, rel=1e-6)


def test_noise_has_the_size_that_was_asked_for_and_is_its_seed_s():
    truth = ring(n=2000).pose
    moved = alignment.perturbed(truth, 2.0, 0.05, seed=3)
    turned = Rotation.from_matrix(moved[:, :, :3] @ truth[:, :, :3].transpose(0, 2, 1)).magnitude()
    assert np.degrees(np.sqrt((turned**2).mean())) == pytest.approx(2.0, rel=0.05)
    shift = np.linalg.norm(moved[:, :, 3] - truth[:, :, 3], axis=1)
    assert np.sqrt((shift**2).mean()) / 3 == pytest.approx(0.05, rel=0.05)
    np.testing.assert_array_equal(moved, alignment.perturbed(truth, 2.0, 0.05, seed=3))
    assert not np.array_equal(moved, alignment.perturbed(truth, 2.0, 0.05, seed=4))


def test_cameras_keep_their_lenses():
    cameras = ring()
    moved = alignment.moved(cameras, known())
    assert moved.pose.dtype == np.float32
    np.testing.assert_array_equal(moved.focal, cameras.focal)
    axes = moved.pose[:, :, :3]
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.tile(np.eye(3), (12, 1, 1)), atol=1e-5)
