"""Rendering what lies in a box: rays skip what is before it, and what they see beyond it is left out."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.field import Field
from jaxhw.nerf.rendering.renderer import RenderRays
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.state import Variables

EVERYWHERE = np.float32([[-np.inf] * 3, [np.inf] * 3])


def cropped(field: Field) -> RenderRays:
    """The field's `render`, whose variables are (the field's, box [2, 3])."""

    def render(scope: tuple[Variables, jax.Array], rays: Rays, background: jax.Array) -> Rendered:
        # A ray that begins later renders what is in front of the box no more. The field itself skips `rendered_near`.
        variables, box = scope
        entry, leaving = crossing(box, rays)
        skipped = jnp.maximum(entry - field.rendered_near, 0)
        skipped = jnp.where(entry < leaving, skipped, 0)
        rays = rays.replace(origins=rays.origins + skipped[:, None] * rays.directions)
        rendered = field.render(variables, rays, background)
        # What is seen beyond the box, or by a ray that misses it, is not there.
        depth = rendered.depth + skipped
        inside = (entry < leaving) & (leaving > 0) & (depth <= leaving)
        return Rendered(
            colour=jnp.where(inside[:, None], rendered.colour, background),
            depth=jnp.where(inside, depth, 0),
            opacity=jnp.where(inside, rendered.opacity, 0),
        )

    return render


def crossing(box: jax.Array, rays: Rays) -> tuple[jax.Array, jax.Array]:
    """Distances [r] at which rays enter a box [2, 3] and leave it; a ray that misses it leaves before it enters."""
    directions = jnp.where(jnp.abs(rays.directions) < 1e-9, 1e-9, rays.directions)
    a, b = ((corner - rays.origins) / directions for corner in box)
    return jnp.minimum(a, b).max(-1), jnp.maximum(a, b).min(-1)
