"""Writes nerf_nerfacto.npz: nerfacto's parts and a small network of it, computed by nerfstudio 1.1.5 in torch.

    pip install torch numpy jaxtyping rich      # made with torch 2.13.0 on a CPU
    pip install --no-deps nerfstudio==1.1.5
    python tests/golden/nerf_nerfacto.py

No tiny-cuda-nn: with it, nerfstudio computes some things otherwise (below). What nerfstudio imports but does not use
here is replaced by stand-ins. Everything is computed in float32, as nerfstudio does on a CPU; "network64/" is the small
network's answer in float64, which says how much of a difference is rounding. "bounded" is a network of the same weights
without contraction, sampled uniformly up to 6, on white, in a scene box of +-1.

What another implementation must do in the same way (one in numpy that does agrees with "network64/" to 3e-8):

- Resolutions are ``floor(min_res * g**level)`` with ``g = exp((ln(max_res) - ln(min_res)) / (levels - 1))`` rounded to
  float32 before the power and the power rounded to float32: the finest of (16 levels, 16 to 2048) is 2047, not 2048.
- Every level is hashed, coarse ones too, with ``(x ^ 2654435761 y ^ 805459861 z) mod T``, plus ``level * T``: one table
  of all levels. Corners of a cell are ``floor`` and ``ceil`` of ``x * resolution`` (no shift by half a cell): on a
  lattice point both are the same corner, so the gradient with respect to the position is 0 there. The first four
  points of ``small_points`` are lattice points of all or some levels. Features come out level by level.
- Positions: ``origin + direction * (start + end) / 2``, contracted (as they are where ``m = max |p| < 1``, otherwise
  ``(2 - 1 / m) * (p / m)``), then ``(p + 2) / 4``. Only then the selector ``all(0 < p < 1)``: positions outside become
  0, are looked up at 0, and their density is multiplied by 0. Without contraction:
  ``(p - aabb[0]) / (aabb[1] - aabb[0])`` and the same selector.
- All linear layers have biases; ReLU between them. The base network's first output is the density's, the other 15 (no
  activation) go on to the colours, whose input is in the order: spherical harmonics, the 15 features, appearance.
- Density is ``average_init_density * exp(h)``; the derivative of exp is ``exp(clip(h, -15, 15))``.
- Spherical harmonics are evaluated at ``(direction + 1) / 2``, not at the direction: the field maps directions to
  [0, 1] for tiny-cuda-nn, which maps them back, but the torch encoding does not. It carries no gradient.
- Training draws one number in [0, 1) a ray and level: the first sampler's edges move from the centre before them to the
  centre after them (the outer ones from or to the end), the PDF's are at ``(i + number) / (n + 1)``.
- Losses reach weights only, never through the samples' places; the camera optimiser's gradient comes through positions
  in the field and in proposals that learn.
- Layers begin as ``torch.nn.Linear`` does, appearances as normal numbers of deviation 1, tables in +-0.001.
- In evaluation appearance is the mean of the training images' embeddings, and near is 0, even if it is 2 in training;
  far stays. Rays that bring their own near and far keep them.
- Samplers keep n + 1 edges in s; ``t = inverse(s * s(far) + (1 - s) * s(near))``. Near 1 the inverse ``1 / (2 - 2s)``
  loses most of float32's digits (``s(1000) = 0.9995``).
- Proposals: evenly spaced, then from the previous weights to the power of the anneal value. The PDF sampler adds 0.01
  to every weight, then what the sum lacks of 1e-5; ``cdf = min(1, cumsum(pdf))`` with a 0 before it; evaluated at the
  n + 1 centres ``i / (n + 1) + 1 / (2 (n + 1))``, so that the first edge is above near and the last below far; found
  by ``searchsorted(side="right")``; 0/0 is 0; no gradient. Resampled in s, which is also where losses are computed.
- Weights: ``(1 - exp(-density * delta)) * exp(-sum before)``, NaN replaced by 0. No last interval up to infinity.
- Colour: ``sum(w * rgb) + rgb[last] * (1 - sum(w))``, in evaluation clipped to [0, 1].
- Median depth: the centre (start + end) / 2 of the first sample whose cumulative weight is at least 0.5; the last one's
  if none is. ``network_median_margin`` is the least distance of a cumulative weight from 0.5: rays where it is less
  than the rounding may take the sample beside it. Expected depth: ``sum(w t) / (sum(w) + 1e-10)``, clipped to the
  smallest and largest centre of the whole chunk of rays, not of the ray.
- Interlevel: ``mean(clip(w - bound, 0)**2 / (w + 1e-7))`` over rays and samples, summed over proposals. Bound: for a
  final interval, the proposal's weights from the last interval whose start is not after its start to the first whose
  end is after its end (one more where the ends are equal).
- ``_step`` of the proposal sampler is the last step done, so 0 in steps 0 and 1: proposals learn in steps 0 to 10, then
  every second step. Rendering in evaluation takes the same turn, and so resets the count of steps if it was due.
- SO3xR3's angle is ``sqrt(max(|w|**2, 1e-4))``: below 0.01 it is 0.01, and what comes out is not quite a rotation. The
  correction is added to origins and turns directions, both in world axes: origins are not turned.
- Penalty: ``0.01 mean|t| + 0.001 mean|w|`` over all cameras, with gradient 0 where a norm is 0.
- The state dict has each proposal's hash table twice: ``encoding.hash_table`` is ``mlp_base.0.hash_table``.
"""

# ruff: noqa: E402 (nerfstudio comes after the stand-ins)

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

ABSENT = """cv2 matplotlib nerfacc plotly plotly.express plotly.graph_objects torch.utils.tensorboard torchmetrics
torchmetrics.functional torchmetrics.image torchmetrics.image.lpip tyro viser viser.transforms"""
RESOLUTIONS = [(16, 16, 2048), (5, 16, 128), (5, 16, 256), (16, 16, 4096), (16, 16, 8192), (5, 16, 512), (7, 16, 2048)]
PROPOSALS = [dict(hidden_dim=16, log2_hashmap_size=8, num_levels=5, max_res=m, use_linear=False) for m in (64, 128)]
SMALL = dict(
    num_levels=8,
    log2_hashmap_size=9,
    max_res=256,
    num_proposal_samples_per_ray=(64, 32),
    num_nerf_samples_per_ray=24,
    proposal_net_args_list=PROPOSALS,
)
BOUNDED = dict(
    disable_scene_contraction=True,
    proposal_initial_sampler="uniform",
    near_plane=2.0,
    far_plane=6.0,
    background_color="white",
)
NEAR, FAR = 0.05, 1000.0

sys.modules.update({name: MagicMock() for name in ABSENT.split()})

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.lie_groups import exp_map_SE3, exp_map_SO3xR3
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.fields.base_field import get_normalized_directions
from nerfstudio.model_components import losses, ray_samplers
from nerfstudio.models.nerfacto import NerfactoModelConfig


def unit(rows: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, 3), dim=-1)


def bundle(origins, directions, near=NEAR, far=FAR, cameras=None) -> RayBundle:
    ones = torch.ones_like(origins[:, :1])
    indices = torch.zeros_like(ones).long() if cameras is None else cameras[:, None]
    nears, fars = (None if plane is None else ones * plane for plane in (near, far))
    return RayBundle(origins, directions, ones, camera_indices=indices, nears=nears, fars=fars)


def edges_of(samples) -> tuple[torch.Tensor, torch.Tensor]:
    """The edges [rays, samples + 1] in s and along the ray."""
    s = losses.ray_samples_to_sdist(samples)
    return s, torch.cat([samples.frustums.starts[..., 0], samples.frustums.ends[:, -1:, 0]], -1)


def samples_at(edges: torch.Tensor):
    """Ray samples with these edges in s, of the piecewise spacing."""
    rays = bundle(torch.zeros(len(edges), 3), unit(len(edges)))
    even = ray_samplers.UniformLinDispPiecewiseSampler(4).eval()(rays)
    t = even.spacing_to_euclidean_fn(edges)
    starts, ends, low, high = (x[..., None] for x in (t[:, :-1], t[:, 1:], edges[:, :-1], edges[:, 1:]))
    return rays, rays.get_ray_samples(starts, ends, low, high, even.spacing_to_euclidean_fn)


def random_edges(rays: int, samples: int) -> torch.Tensor:
    """Sorted, from 0 to 1."""
    inner = torch.sort(torch.rand(rays, samples - 1), -1).values
    return torch.cat([torch.zeros(rays, 1), inner, torch.ones(rays, 1)], -1)


def gradients(out: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Random weights of out's entries, and the gradients of out's weighted sum."""
    cotangent = torch.rand(out.shape)
    return cotangent, *torch.autograd.grad((out * cotangent).sum(), inputs)


def hashes() -> dict:
    full = HashEncoding(16, 16, 2048, 19, 2, implementation="torch")
    corners = torch.randint(0, 2048, (64, 3), dtype=torch.int32)
    corners[:4] = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 1], [2047, 2047, 2047]], dtype=torch.int32)
    out = {"corners": corners, "indices": full.hash_fn(corners[:, None].expand(-1, 16, -1)).int()}
    for levels, low, high in RESOLUTIONS:
        scalings = HashEncoding(levels, low, high, 4, 2, implementation="torch").scalings
        out[f"resolutions_{levels}_{low}_{high}"] = scalings.int()
    small = HashEncoding(4, 16, 128, 9, 2, implementation="torch")
    small.hash_table.data.uniform_(-1, 1)
    points = torch.rand(200, 3)
    points[:4] = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.25, 0.75], [3 / 16, 5 / 32, 0.3]])
    features = small(points.requires_grad_())
    cotangent, d_table, d_points = gradients(features, small.hash_table, points)
    small_out = dict(resolutions=small.scalings.int(), table=small.hash_table, points=points, features=features)
    small_out.update(cotangent=cotangent, d_table=d_table, d_points=d_points)
    return named("hash", out) | named("small", small_out)


def spaces() -> dict:
    """Contraction and spherical harmonics."""
    points = unit(200) * torch.logspace(-1, 3, 200)[:, None]
    points.requires_grad_()
    contracted = SceneContraction(order=float("inf"))(points)
    cotangent, d_points = gradients(contracted, points)
    out = named("contraction", dict(points=points, out=contracted, cotangent=cotangent, d_points=d_points))
    directions = unit(100)
    encoding = small_model().field.direction_encoding
    harmonics = dict(directions=directions, field=encoding(get_normalized_directions(directions)))
    return out | named("sh", harmonics | {"at_direction": encoding(directions)})


def samplers() -> dict:
    out, rays = {}, lambda *planes: bundle(torch.zeros(1, 3), unit(1), *planes)
    for name, sampler, planes in (
        ("piecewise", ray_samplers.UniformLinDispPiecewiseSampler(16), (NEAR, FAR)),
        ("piecewise_near_0", ray_samplers.UniformLinDispPiecewiseSampler(16), (0.0, FAR)),
        ("uniform", ray_samplers.UniformSampler(16), (2.0, 6.0)),
    ):
        s, t = edges_of(sampler.eval()(rays(*planes)))
        out |= named(name, dict(planes=torch.tensor(planes), s=s[0], t=t[0]))
    piecewise = ray_samplers.UniformLinDispPiecewiseSampler(16)
    t, s = torch.cat([torch.zeros(1), torch.logspace(-3, 3, 60), torch.ones(1)]), torch.linspace(0, 0.9995, 61)
    out |= named("spacing", dict(t=t, s_of_t=piecewise.spacing_fn(t), s=s, t_of_s=piecewise.spacing_fn_inv(s)))

    edges, weights = random_edges(20, 32), torch.rand(20, 32) ** 4
    weights[:3], weights[3:6], weights[6] = 0, torch.eye(32)[[0, 13, 31]], 1e-7
    weights[7:] /= weights[7:].sum(-1, keepdim=True)
    rays, samples = samples_at(edges)
    sampler = ray_samplers.PDFSampler(include_original=False, single_jitter=True).eval()
    s, t = edges_of(sampler(rays, samples, weights[..., None], num_samples=17))
    return out | named("pdf", dict(edges=edges, weights=weights, s=s, t=t, planes=torch.tensor((NEAR, FAR))))


def schedules() -> dict:
    """The anneal value, and the steps in which proposals learn, as the model's own callbacks have it."""
    model = small_model()
    anneal, after = (callback.func for callback in model.get_training_callbacks(None))
    steps, values = np.array([0, 1, 2, 10, 50, 100, 250, 500, 900, 999, 1000, 1001, 20000]), []
    for step in steps:
        anneal(int(step))
        values.append(model.proposal_sampler._anneal)
    sampler, rays, grads = model.proposal_sampler, bundle(torch.zeros(1, 3), unit(1)), []
    sampler.num_proposal_samples_per_ray, sampler.num_nerf_samples_per_ray = (2, 2), 2

    def density(positions):
        grads.append(torch.is_grad_enabled())
        return positions[..., :1] * 0

    def run(first: int, count: int) -> np.ndarray:
        sampler._step, sampler._steps_since_update = max(first - 1, 0), 0
        grads.clear()
        for step in range(first, first + count):
            sampler(rays, density_fns=[density, density])
            after(step)
        assert grads[::2] == grads[1::2]
        return np.array(grads[::2])

    out = dict(from_0=run(0, 6300), from_6000=run(6000, 300))
    return {"anneal_steps": steps, "anneal_values": np.array(values)} | named("updated", out)


def training_losses() -> dict:
    counts, out = (24, 16, 12), {}
    edges = [random_edges(8, n) for n in counts]
    edges[0][0], edges[1][0], edges[2][0] = (torch.linspace(0, 1, n + 1) for n in counts)  # where edges coincide
    weights = [torch.nn.functional.normalize(torch.rand(8, n) ** 3, p=1, dim=-1).requires_grad_() for n in counts]
    weights[0].data[1], weights[1].data[2], weights[2].data[3] = 0, 0, 0
    listed, samples = [w[..., None] for w in weights], [samples_at(e)[1] for e in edges]
    interlevel = losses.interlevel_loss(listed, samples)
    distortion = losses.distortion_loss(listed, samples)
    for i, (e, w) in enumerate(zip(edges, weights, strict=True)):
        out |= {f"edges_{i}": e, f"weights_{i}": w}
    d_0, d_1 = torch.autograd.grad(interlevel, weights[:2])
    out |= dict(interlevel=interlevel, interlevel_d_0=d_0, interlevel_d_1=d_1, distortion=distortion)
    return named("losses", out | {"distortion_d_2": torch.autograd.grad(distortion, weights[2])[0]})


def small_functions() -> dict:
    """exp of a density, exponential maps, the camera optimiser."""
    x = torch.linspace(-25, 25, 101, requires_grad=True)
    y = trunc_exp(x)
    out = named("trunc_exp", dict(x=x, y=y, d_x=torch.autograd.grad(y.sum(), x)[0]))
    scale = torch.tensor([0.0, 1e-6, 1e-3, 9e-3, 1.1e-2, 0.1, 3.0] + 13 * [1.0])[:, None]
    tangents = (torch.cat([unit(20), unit(20)], -1) * scale).requires_grad_()
    for name, function in (("so3xr3", exp_map_SO3xR3), ("se3", exp_map_SE3)):
        matrices = function(tangents)
        cotangent, d_tangents = gradients(matrices, tangents)
        parts = dict(tangents=tangents, matrices=matrices, cotangent=cotangent, d_tangents=d_tangents)
        out |= named(name, parts)
    deltas = torch.randn(7, 6) * 0.1
    deltas[2], deltas[3, 3:] = 0, 0
    origins, directions, cameras = torch.rand(30, 3) * 2 - 1, unit(30), torch.randint(0, 7, (30,))
    moved = dict(deltas=deltas, origins=origins, directions=directions, cameras=cameras.int())
    for name, mode in (("so3xr3", "SO3xR3"), ("se3", "SE3")):
        optimiser = CameraOptimizerConfig(mode=mode).setup(num_cameras=7, device="cpu")
        optimiser.pose_adjustment.data = deltas.clone()
        optimiser.get_loss_dict(terms := {})
        penalty = terms["camera_opt_regularizer"]
        rays = bundle(origins, directions, cameras=cameras)
        optimiser.apply_to_raybundle(rays)
        moved |= {f"{name}_origins": rays.origins, f"{name}_directions": rays.directions}
        moved |= dict(penalty=penalty, penalty_d=torch.autograd.grad(penalty, optimiser.pose_adjustment)[0])
    return out | named("camera", moved)


def model_of(images: int, **options):
    config = NerfactoModelConfig(implementation="torch", average_init_density=0.01, **options)
    box = SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    return config.setup(scene_box=box, num_train_data=images, metadata={})


def small_model(**options):
    return model_of(5, **SMALL, **options).eval()


def counts() -> dict:
    model = model_of(45)
    number = lambda module: sum(p.numel() for p in module.parameters())
    out = dict(field=number(model.field), appearance=number(model.field.embedding_appearance))
    out |= {f"proposal_{i}": number(network) for i, network in enumerate(model.proposal_networks)}
    return named("count", out)


def rendered(model, origins, directions) -> tuple[dict, dict]:
    """The model's outputs, and on the way: the first 20 rays' edges in s and weights of each level."""
    inside, sampler = {}, model.proposal_sampler

    def keep(module, arguments, outputs):
        final, weights, samples = outputs
        for i, (w, s) in enumerate(zip([*weights, None], [*samples, final], strict=True)):
            inside[f"edges_{i}"] = losses.ray_samples_to_sdist(s)[:20]
            if w is not None:
                inside[f"weights_{i}"] = w[:20, :, 0]

    def keep_weights(module, arguments, keywords, outputs):
        weights = keywords["weights"]
        inside["weights_2"] = weights[:20, :, 0]
        inside["median_margin"] = (torch.cumsum(weights[..., 0], -1) - 0.5).abs().min(-1).values

    handles = sampler.register_forward_hook(keep)
    other = model.renderer_expected_depth.register_forward_hook(keep_weights, with_kwargs=True)
    with torch.no_grad():
        outputs = model(bundle(origins, directions, near=None, far=None))  # the model's own near and far
    handles.remove()
    other.remove()
    return {k: v if v.shape[-1] > 1 else v[..., 0] for k, v in outputs.items()}, inside


def spread(layer, out, row: int, mean: float, deviation: float) -> None:
    """Gives a last layer's row, whose outputs for many points are out[:, row], this mean and standard deviation."""
    factor = deviation / out[:, row].std()
    layer.weight.data[row] *= factor
    layer.bias.data[row] = (layer.bias[row] - out[:, row].mean()) * factor + mean


def network() -> dict:
    """A thousand rays through a small network whose densities and colours vary much from place to place."""
    model = small_model()
    for name, weight in model.named_parameters():
        if "hash_table" in name:
            weight.data.uniform_(-0.5, 0.5)
    points = torch.rand(4000, 3)
    for base in (model.field.mlp_base.model, *(p.mlp_base for p in model.proposal_networks)):
        spread(base[1].layers[-1], base(points), 0, 3.0, 0.7)
    features = torch.cat([torch.rand(4000, 16), model.field.mlp_base(points)[:, 1:], torch.zeros(4000, 32)], -1)
    for channel in range(3):
        before = torch.logit(model.field.mlp_head(features))
        spread(model.field.mlp_head.layers[-1], before, channel, 0.0, 1.5)
    state = {f"network/{k}": v.clone() for k, v in model.state_dict().items() if v.is_floating_point() and v.numel()}
    bounded = small_model(**BOUNDED)
    bounded.load_state_dict(model.state_dict())
    out = with_exact("network", model, torch.rand(1000, 3) * 2 - 1, unit(1000)) | state
    origins = 4 * unit(300)
    towards = torch.nn.functional.normalize(torch.rand(300, 3) * 3 - 1.5 - origins, dim=-1)
    return out | with_exact("bounded", bounded, origins, towards)


def with_exact(name: str, model, origins, directions) -> dict:
    """Inputs and outputs in float32, and the outputs in float64."""
    outputs, inside = rendered(model, origins, directions)
    torch.set_default_dtype(torch.float64)
    exact, _ = rendered(model.double(), origins.double(), directions.double())
    torch.set_default_dtype(torch.float32)
    for key, value in exact.items():
        error = ((value - outputs[key]).abs() / value.abs().clamp(min=1)).double()
        print(f"{name} {key}: median {value.median():.3f}, {value.min():.3f} to {value.max():.3f}; ", end="")
        print("float32's error at", {q: f"{error.quantile(q):.1e}" for q in (0.5, 0.9, 0.99, 1)})
    out = named(name, dict(origins=origins, directions=directions, **outputs, **inside))
    return out | {f"{name}64/{key}": value for key, value in exact.items()}


def named(prefix: str, values: dict) -> dict:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def main() -> None:
    torch.manual_seed(0)
    parts = hashes, spaces, samplers, schedules, training_losses, small_functions, counts, network
    out = {name: np.asarray(torch.as_tensor(v).detach()) for part in parts for name, v in part().items()}
    out = {name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in out.items()}
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, **out)
    print(path.stat().st_size, "bytes")
    for name, value in out.items():
        print(name, value.dtype, value.shape)


if __name__ == "__main__":
    main()
