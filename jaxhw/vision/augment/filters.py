"""Linear filters on one image [h, w, c]: resizing, Gaussian blur, smoothing; equal to torchvision's.

Resizing and blurring are separable and written as matrices, one for the rows and one for the columns. Under
``jax.vmap`` each image then has its own size of box or width of blur at the price of two small matrix products, where
convolutions with another kernel for each image would be slow.

Shapes: an image of h rows and w columns becomes one of u rows and v columns.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def separable(image: Array, rows: Array, columns: Array) -> Array:
    """``rows`` [u, h] and ``columns`` [v, w] applied to an image [h, w, c]: [u, v, c], in float32 on every device."""
    height, width, channels = image.shape
    exact = jax.lax.Precision.HIGHEST  # by default some devices multiply float32 as bfloat16
    # Channels between rows and columns make both products plain matrix products, twice as fast as einsum's.
    image = jnp.matmul(image.swapaxes(1, 2).reshape(height * channels, width), columns.T, precision=exact)
    image = jnp.matmul(rows, image.reshape(height, -1), precision=exact)
    return image.reshape(len(rows), channels, len(columns)).swapaxes(1, 2)


def resize_matrix(start: Array, length: Array, pixels: int, size: int, method: str) -> Array:
    """Weights [size, pixels] that resample the pixels [start, start + length) to ``size`` of them; rows sum to 1."""
    # Output pixel u has its centre at the source coordinate start + (u + 1/2) step; pixel i's centre is at i + 1/2.
    step = length / size
    source = jnp.arange(pixels)
    centre = start + (jnp.arange(size) + 0.5) * step
    # When shrinking, the filter widens with the step, so that every pixel counts (antialiasing).
    distance = jnp.abs(source + 0.5 - centre[:, None]) / jnp.maximum(step, 1.0)
    # Pixels outside of the box have no weight, as if it had been cut out first.
    inside = (source >= start) & (source < start + length)
    weights = jnp.where(inside, _KERNELS[method](distance), 0.0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def _triangle(x: Array) -> Array:
    """Linear interpolation: the weight at distance x >= 0."""
    return jnp.maximum(0.0, 1.0 - x)


def _cubic(x: Array) -> Array:
    """Keys' cubic convolution with a = -1/2: the weight at distance x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


_KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def gaussian_blur(image: Array, sigma: Array | float, kernel_size: int) -> Array:
    """Gaussian blur with ``sigma`` pixels and an odd kernel of at most 2 h - 1, 2 w - 1; mirrored at the border."""
    offsets = np.arange(kernel_size) - kernel_size // 2
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / jnp.sum(kernel)
    return separable(image, *(_blur_matrix(kernel, offsets, pixels) for pixels in image.shape[:2]))


def _blur_matrix(kernel: Array, offsets: np.ndarray, pixels: int) -> Array:
    """[pixels, pixels] for a kernel [k], with the weights that fall outside folded back (edge pixels count once)."""
    # Which pixel each output and each offset of the kernel reads, mirrored at both borders: [pixels, k].
    source = np.abs(np.arange(pixels)[:, None] + offsets)
    source = np.where(source >= pixels, 2 * (pixels - 1) - source, source)
    hits = source[:, :, None] == np.arange(pixels)  # which kernel weight lands on which pixel: constant
    return jnp.einsum("k,ukh->uh", kernel, hits, precision=jax.lax.Precision.HIGHEST)


def smoothed(image: Array) -> Array:
    """A 3x3 mean with weight 5 at the centre; the outermost pixels stay as they are (PIL's SMOOTH filter)."""
    # The kernel is a sum of a 3 x 3 box, which is separable, and four more times the centre: 9 + 4 = 13 weights.
    height, width, _ = image.shape
    box = separable(image, *(jnp.eye(n, k=-1) + jnp.eye(n) + jnp.eye(n, k=1) for n in (height, width)))
    inner = np.pad(np.ones((height - 2, width - 2, 1), bool), ((1, 1), (1, 1), (0, 0)))
    return jnp.where(inner, (box + 4.0 * image) / 13.0, image)
