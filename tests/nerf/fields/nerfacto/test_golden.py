"""nerfacto's parts, and a whole small network of it, against nerfstudio 1.1.5's own numbers (tests/golden)."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras.cameras import NO_CAMERA, Cameras, Rays
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.fields.nerfacto.field import Nerfacto, State
from jaxhw.nerf.fields.nerfacto.networks import Networks, trunc_exp
from jaxhw.nerf.fields.nerfacto.options import HashOptions, Options, ProposalOptions
from jaxhw.nerf.fields.nerfacto.space import Place, Region
from jaxhw.nerf.networks import hash_grid
from jaxhw.nerf.networks.contraction import contract
from jaxhw.nerf.networks.encodings import spherical_harmonics
from jaxhw.nerf.networks.hash_grid import HashGrid
from jaxhw.nerf.rendering import losses
from jaxhw.nerf.sampling import proposal
from jaxhw.nerf.sampling.proposal import Spacing
from jaxhw.state import Variables

GOLDEN = Path(__file__).parents[3] / "golden" / "nerf_nerfacto.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def levels(table, count):
    """nerfstudio's one table as an array for each level."""
    return {hash_grid.name(i): jnp.asarray(part) for i, part in enumerate(np.split(table, count))}


@pytest.mark.parametrize(
    "numbers", ["16_16_2048", "5_16_128", "5_16_256", "16_16_4096", "16_16_8192", "5_16_512", "7_16_2048"]
)
def test_resolutions(golden, numbers):
    count, coarsest, finest = map(int, numbers.split("_"))
    wanted = golden[f"hash_resolutions_{numbers}"]
    np.testing.assert_array_equal(HashGrid(count, 2, 2**19, coarsest, finest, "hashed").resolutions, wanted)


def test_hash_indices(golden):
    grid = HashGrid(16, 2, 2**19, 16, 2048, "hashed")
    ours = np.asarray(grid.hashed(jnp.asarray(golden["hash_corners"])))[:, None] + 2**19 * np.arange(16)
    np.testing.assert_array_equal(ours, golden["hash_indices"])


def test_hash_encoding_and_its_gradients(golden):
    grid, table = HashGrid(4, 2, 2**9, 16, 128, "hashed"), levels(golden["small_table"], 4)
    points = jnp.asarray(golden["small_points"])
    np.testing.assert_allclose(grid(table, points), golden["small_features"], atol=1e-5)
    total = lambda table, points: (grid(table, points) * golden["small_cotangent"]).sum()
    by_table, by_point = jax.grad(total, (0, 1))(table, points)
    np.testing.assert_allclose(
        np.concatenate([by_table[k] for k in sorted(by_table)]), golden["small_d_table"], atol=1e-5
    )
    # On the first four points, which are vertices, the slope is a choice: theirs is 0, ours that of one side.
    np.testing.assert_allclose(by_point[4:], golden["small_d_points"][4:], rtol=1e-5, atol=1e-4)


def test_contraction_and_its_gradient(golden):
    points = jnp.asarray(golden["contraction_points"])
    np.testing.assert_allclose(contract(points, 1.0), golden["contraction_out"], atol=1e-5)
    slope = jax.grad(lambda x: (contract(x, 1.0) * golden["contraction_cotangent"]).sum())(points)
    np.testing.assert_allclose(slope, golden["contraction_d_points"], atol=1e-5)


def test_spherical_harmonics(golden):
    directions = jnp.asarray(golden["sh_directions"])
    np.testing.assert_allclose(spherical_harmonics(directions), golden["sh_at_direction"], atol=1e-5)
    np.testing.assert_allclose(spherical_harmonics((directions + 1) / 2), golden["sh_field"], atol=1e-5)


@pytest.mark.parametrize("name", ["piecewise", "piecewise_near_0", "uniform"])
def test_first_samples(golden, name):
    near, far = (jnp.full((1, 1), plane) for plane in golden[f"{name}_planes"])
    edges = proposal.first(1, 16, None)
    np.testing.assert_allclose(edges[0], golden[f"{name}_s"], atol=1e-5)
    distances = Spacing(name.split("_")[0], near, far).distances(edges)
    np.testing.assert_allclose(distances[0], golden[f"{name}_t"], rtol=1e-5, atol=1e-5)


def test_piecewise_spacing_and_its_inverse(golden):
    np.testing.assert_allclose(
        proposal.piecewise(jnp.asarray(golden["spacing_t"])), golden["spacing_s_of_t"], atol=1e-5
    )
    inverse = proposal.piecewise_inverse(jnp.asarray(golden["spacing_s"]))
    np.testing.assert_allclose(inverse, golden["spacing_t_of_s"], rtol=1e-5)


def test_resampling(golden):
    ours = proposal.resample(jnp.asarray(golden["pdf_edges"]), jnp.asarray(golden["pdf_weights"]), 17, None)
    np.testing.assert_allclose(ours, golden["pdf_s"], atol=1e-5)


def test_anneal(golden):
    ours = [float(proposal.anneal(jnp.int32(step), 1000)) for step in golden["anneal_steps"]]
    np.testing.assert_allclose(ours, golden["anneal_values"], atol=1e-5)


@pytest.mark.parametrize("begin, name", [(0, "updated_from_0"), (6000, "updated_from_6000")])
def test_schedule_of_proposals(golden, begin, name):
    wanted = golden[name]

    def step(since, step):
        learns = proposal.due(step, since, 5.0, 5000.0)
        return jnp.where(learns, 0, since) + 1, learns

    _, ours = jax.lax.scan(step, jnp.int32(0), begin + jnp.arange(len(wanted)))
    np.testing.assert_array_equal(ours, wanted)


def test_interlevel_loss_and_its_gradients(golden):
    edges, weights = ([jnp.asarray(golden[f"losses_{what}_{i}"]) for i in range(3)] for what in ("edges", "weights"))
    one = lambda i, w: proposal.interlevel_loss(edges[2], weights[2], edges[i], w).mean()
    np.testing.assert_allclose(one(0, weights[0]) + one(1, weights[1]), golden["losses_interlevel"], rtol=1e-5)
    for i in range(2):
        slope = jax.grad(lambda w, i=i: one(i, w))(weights[i])
        np.testing.assert_allclose(slope, golden[f"losses_interlevel_d_{i}"], rtol=1e-5, atol=1e-5)


def test_distortion_loss_and_its_gradient(golden):
    edges, weights = (jnp.asarray(golden[f"losses_{what}_2"]) for what in ("edges", "weights"))
    mean = lambda w: losses.distortion_loss(w, (edges[:, 1:] + edges[:, :-1]) / 2, jnp.diff(edges)).mean()
    np.testing.assert_allclose(mean(weights), golden["losses_distortion"], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(mean)(weights), golden["losses_distortion_d_2"], atol=1e-5)


def test_truncated_exponential(golden):
    x = jnp.asarray(golden["trunc_exp_x"])
    np.testing.assert_allclose(trunc_exp(x), golden["trunc_exp_y"], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: trunc_exp(x).sum())(x), golden["trunc_exp_d_x"], rtol=1e-5)


def cameras(count):
    pose = np.tile(np.eye(3, 4, dtype=np.float32), (count, 1, 1))
    pose[:, :, 3] = np.random.default_rng(0).uniform(-1, 1, (count, 3))
    ones = np.ones((count, 2), np.float32)
    return Cameras(pose, ones, ones, np.zeros((count, 4), np.float32), np.full((count, 2), 8, np.int32))


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_published_field_has_nerfstudios_number_of_parameters(golden):
    field = Nerfacto.create(Options(), Setting(cameras(45), 0.05, 1000.0, unbounded=True, near_from="guess"))
    params = jax.eval_shape(lambda: field.start(jax.random.key(0)).params)
    own = count({k: v for k, v in params.items() if k != "proposals"})
    assert own == int(golden["count_field"]) and count(params["appearance"]) == int(golden["count_appearance"])
    for i in range(2):
        assert count(params["proposals"][f"round_{i}"]) == int(golden[f"count_proposal_{i}"])


SMALL = Options(
    hash=HashOptions(levels=8, table_size=2**9, finest=256),
    proposal=ProposalOptions(samples=(64, 32), finest=(64, 128), table_size=2**8),
    samples=24,
    shifted_directions=True,
)


def imported(golden):
    """The small network's weights in our shapes."""
    of = lambda name: golden[f"network/{name}"]
    layer = lambda name: {"kernel": of(f"{name}.weight").T, "bias": of(f"{name}.bias")}
    first = of("field.mlp_head.layers.0.weight").T  # theirs: harmonics, geometry, appearance
    colour = {
        "kernel": np.concatenate([first[16:31], first[:16], first[31:]]),
        "bias": of("field.mlp_head.layers.0.bias"),
        "layer_1": layer("field.mlp_head.layers.1"),
        "last": layer("field.mlp_head.layers.2"),
    }
    params = {
        "hash": levels(of("field.mlp_base.model.0.hash_table"), 8),
        "base": {f"layer_{i}": layer(f"field.mlp_base.model.1.layers.{i}") for i in range(2)},
        "colour": colour,
        "appearance": of("field.embedding_appearance.embedding.weight"),
        "proposals": {
            f"round_{i}": {
                "hash": levels(of(f"proposal_networks.{i}.mlp_base.0.hash_table"), 5),
                "network": {f"layer_{j}": layer(f"proposal_networks.{i}.mlp_base.1.layers.{j}") for j in range(2)},
            }
            for i in range(2)
        },
    }
    place = Place(np.zeros(3, np.float32), np.float32(1))
    state = State(place, np.int32(0), np.float32(1), np.ones(8, np.float32), np.float32(0))
    return jax.tree.map(jnp.asarray, Variables(params, state))


def compare(golden, name, rendered, median):
    # In a box a sample near a face is inside or outside by rounding: nerfstudio's own float32 is 2.4e-4 off there.
    off = np.abs(np.clip(rendered.colour, 0, 1) - golden[f"{name}64/rgb"]).max(1)
    assert off.max() < (1e-4 if name == "network" else 1e-3) and (off > 1e-4).mean() < 0.03
    np.testing.assert_allclose(
        rendered.opacity, golden[f"{name}_accumulation"], atol=1e-4 if name == "network" else 1e-3
    )
    # Distances reach up to 1000, and where a ray meets nothing they are nowhere.
    expected, thick = golden[f"{name}_expected_depth"], golden[f"{name}_accumulation"] > 0.01
    np.testing.assert_allclose(rendered.depth[thick], expected[thick], rtol=1e-3)
    # Where half of the light is reached within rounding, the median is one sample or the next.
    clear = golden[f"{name}_median_margin"] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_allclose(median[clear], golden[f"{name}_depth"][clear], rtol=1e-3)


@pytest.mark.parametrize("name, unbounded", [("network", True), ("bounded", False)])
def test_the_same_weights_give_the_same_pictures(golden, name, unbounded):
    variables = imported(golden)
    changes = {} if unbounded else {"spacing": "uniform", "background": "scene"}
    region = Region(0.05, 1000.0, 0.0, True, False) if unbounded else Region(2.0, 6.0, 0.0, False, False)
    setting = Setting(cameras(5), 0.05, 1000.0, unbounded=unbounded, near_from="guess")
    origins, directions = (jnp.asarray(golden[f"{name}_{what}"]) for what in ("origins", "directions"))
    rays = Rays(origins, directions, jnp.full(len(origins), NO_CAMERA))
    seen = {}
    for depth in ("expected", "median"):
        options = dataclasses.replace(SMALL, **changes, depth=depth)
        field = Nerfacto(Networks(options, region), setting)
        seen[depth] = jax.jit(field.render)(variables, rays, jnp.ones(3))
    compare(golden, name, seen["expected"], seen["median"].depth)
