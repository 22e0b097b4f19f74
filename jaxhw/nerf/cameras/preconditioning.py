"""CamP's preconditioning: coordinates for a camera's correction in which all of them move pixels alike.

Park et al., "CamP: Camera Preconditioning for Neural Radiance Fields", SIGGRAPH Asia 2023 (arXiv 2308.10902), with the
numbers of its code, camp_zipnerf. A translation of 0.01 may move a picture by many pixels and a change of a coefficient
by none, and a rotation moves it nearly as a translation does: a single learning rate suits no two of them.

With points x_1 ... x_m of a camera's frustum, their pixels pi(phi, x_j) as functions of its correction phi [d], divided
by the longer side of the picture, and J_j = d pi(phi, x_j) / d phi [2, d] at phi = 0:

    S = mean_j J_j^T J_j + diag(max(1e-8, 0.1 diag(mean_j J_j^T J_j)))        (the paper's eq. 8, damped as in eq. 10)
    P = S^(-1/2)                                                              (eq. 9: the inverse of whitening)

The corrections that are learnt are psi with phi = P psi, so that pixels move by J P psi: P^T (J^T J) P is the identity
but for the damping. As in the code, J^T J is a mean over points, not a sum, lest the rate hang on their number.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras, project, rays_through
from jaxhw.nerf.cameras.correction import Correction, corrected

POINTS = 1000  # of a frustum; the code's are 5000
ABSOLUTE, RELATIVE = 1e-8, 0.1  # damping of the diagonal


def preconditioned(correction: Correction, cameras: Cameras, near: float, far: float) -> Correction:
    """The correction in CamP's coordinates for n training cameras, with points between distances `near` and `far`."""
    matrices = jax.jit(lambda cameras: square_jacobians(correction, cameras, near, far))(cameras)
    return Correction(correction.options, correction.model, inverse_root(np.asarray(matrices)))


def square_jacobians(correction: Correction, cameras: Cameras, near: float, far: float) -> jax.Array:
    """[n, d, d] means of J^T J over the points of each camera's frustum that it has in its picture."""
    # The same shares of every frustum, so that a matrix is that of its camera alone. Distances are even in their
    # logarithm: what is near moves much, what is far is much of the picture.
    shares = np.random.default_rng(0).uniform(size=(POINTS, 3)).astype(np.float32)
    distances = near * (far / near) ** shares[:, 2:]

    def of_camera(camera: Cameras) -> jax.Array:
        origins, directions = rays_through(camera, shares[:, :2] * camera.size)
        points = origins + directions * distances
        side = camera.size.max()

        def pixels(values: jax.Array) -> jax.Array:
            one = corrected(correction.options, jax.tree.map(lambda a: a[None], camera), values[None])
            one = jax.tree.map(lambda a: a[0], one)
            local = ((points - one.pose[:, 3])[:, :, None] * one.pose[:, :3]).sum(1)
            return project(one, local) / side

        jacobians = jax.jacfwd(pixels)(jnp.zeros(correction.size))
        now = pixels(jnp.zeros(correction.size)) * side
        inside = ((now >= -0.5) & (now <= camera.size + 0.5)).all(-1)  # a strong distortion may have thrown some out
        jacobians = jnp.where(inside[:, None, None], jacobians, 0)
        total = (jacobians[:, :, :, None] * jacobians[:, :, None, :]).sum((0, 1))
        return total / jnp.maximum(inside.sum(), 1)

    return jax.lax.map(of_camera, jax.tree.map(jnp.asarray, cameras))


def inverse_root(matrices: np.ndarray) -> np.ndarray:
    """[n, d, d] float32 inverse square roots of symmetric matrices, damped along their diagonals."""
    matrices = np.asarray(matrices, np.float64)
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    damped = matrices + np.maximum(ABSOLUTE, RELATIVE * diagonal)[:, :, None] * np.eye(matrices.shape[-1])
    values, vectors = np.linalg.eigh(damped)
    return (vectors / np.sqrt(values)[:, None, :] @ vectors.transpose(0, 2, 1)).astype(np.float32)
