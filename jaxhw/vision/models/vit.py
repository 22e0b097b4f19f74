"""Vision transformer (Dosovitskiy et al., 2021) as vit-pytorch builds it, or as timm does.

Shapes: images [b, h, w, c]; tokens x [b, n, d], n of them (patches, and the class token before them) of width d.
q, k and v are queries, keys and values, [b, heads, n, head_dim].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers as init
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxhw.options import at_least, below, one_of, option
from jaxhw.vision.models import layers
from jaxhw.vision.models.heads import CLASSIFICATION_HEADS, classification_head
from jaxhw.vision.models.layers import Linear, torch_linear_init
from jaxhw.vision.models.norms import LayerNorm

Array = jax.Array
Params = dict[str, Array]
PyTree = Any
POOLS = ("cls", "mean")
# timm embeds patches without LayerNorm, projects q, k and v with a bias and has LayerNorms of a smaller epsilon
STYLES = ("vit-pytorch", "timm")
EPSILON = {"vit-pytorch": 1e-5, "timm": 1e-6}
# Rematerialisation: what the backward pass keeps of a block. With "products" LayerNorm, GELU and residual
# sums are computed again, which costs less than writing them to memory and reading them back; with "heads" attention's
# weights as well, and attention takes one head after the other.
PRODUCTS = ("qkv", "attended", "middle", "hidden")
SAVED = {"products": (*PRODUCTS, "weights"), "heads": PRODUCTS, "full": ()}
_PLATFORM_REMAT = {"cpu": "none", "tpu": "heads"}  # other processors: products
_PROBABILITY = at_least(0), below(1)


class Block(nn.Module):
    """Pre-norm multi-head self-attention and pre-norm MLP with exact GELU, each with a residual connection.

    Tokens [b, n, d] -> the first `queries` of them [b, queries, d]: a model that reads only the class token need not
    compute the others in its last block. drop_path is the rate of stochastic depth (Huang et al., 2016), the
    probability that an image skips a branch; key is a PRNG key, or None in evaluation.
    """

    heads: int
    head_dim: int
    mlp: int
    dropout: float
    style: str
    dtype: jnp.dtype
    by_head: bool = False

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float, key: Array | None, queries: int) -> Array:
        keys = [None] * 6 if key is None else jax.random.split(key, 6)
        width, epsilon = x.shape[-1], EPSILON[self.style]

        # The attention branch: its output, projected back to the width, is added to the tokens that are asked for.
        y = self.attend(LayerNorm(epsilon, name="norm1")(x), queries, keys[5])
        y = drop(Linear(width, dtype=self.dtype, out=x.dtype, name="to_out")(y), self.dropout, keys[0])
        x = x[:, :queries] + drop(y, drop_path, keys[1], per_image=True)
        x = checkpoint_name(x, "middle")

        # The MLP branch.
        y = Linear(self.mlp, dtype=self.dtype, name="fc1")(LayerNorm(epsilon, name="norm2")(x))
        y = checkpoint_name(y, "hidden")
        y = drop(gelu(y), self.dropout, keys[2])
        y = drop(Linear(width, dtype=self.dtype, name="fc2")(y), self.dropout, keys[3])
        return x + drop(y, drop_path, keys[4], per_image=True)

    def attend(self, x: Array, queries: int, key: Array | None) -> Array:
        """Multi-head self-attention of the first `queries` tokens to all: [b, n, d] -> [b, queries, heads head_dim]."""
        b, n, d = x.shape
        inner = self.heads * self.head_dim
        w = self.param("to_qkv", torch_linear_init, (d, 3, inner))
        bias = self.param("to_qkv_bias", init.zeros, (3, inner)) if self.style == "timm" else None

        def project(x: Array, first: int, count: int) -> list[Array]:
            """Some of queries (number 0), keys and values by one product: [b, heads, tokens, head_dim] each."""
            y = layers.matmul(x, w[:, first : first + count].reshape(d, -1), self.dtype)
            if bias is not None:
                y = layers.add_bias(y, bias[first : first + count].reshape(-1))
            # `split`, because the gradient of slices pads each of them with zeros
            parts = (p.reshape(b, -1, self.heads, self.head_dim) for p in lax.split(y, (inner,) * count, axis=2))
            return [checkpoint_name(p.transpose(0, 2, 1, 3).astype(self.dtype), "qkv") for p in parts]

        q, k, v = project(x, 0, 3) if queries == n else (*project(x[:, :queries], 0, 1), *project(x, 1, 2))
        # Dropout draws its numbers for all heads at once.
        if self.by_head and (key is None or not self.dropout):
            y = layers.attention_by_head(q, k, v)
        else:
            y = layers.attention(q, k, v, lambda weights: drop(weights, self.dropout, key))
        return checkpoint_name(y.transpose(0, 2, 1, 3).reshape(b, queries, inner), "attended")


@jax.checkpoint  # its derivative is computed again, not kept
def gelu(x: Array) -> Array:
    """Exact GELU, x Phi(x)."""
    return nn.gelu(x, approximate=False)


def drop(x: Array, rate: Array | float, key: Array | None, per_image: bool = False) -> Array:
    """Dropout: each value is 0 with probability `rate`, the others grow to keep the mean; the identity without a key.

    With `per_image` an image's values are dropped all together, which is stochastic depth where x is a residual
    branch. The rate may be traced.
    """
    if key is None or (isinstance(rate, float) and rate == 0):
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1) if per_image else x.shape
    kept = (x / (1 - rate)).astype(x.dtype)  # a traced rate is float32, the tokens may be bfloat16
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), kept, 0.0)


class ViT(nn.Module):
    """Images [b, h, w, c] -> logits [b, num_classes], or features [b, width] without a head.

    The rate of stochastic depth grows linearly with depth from 0 to drop_path. Training with any dropout needs the PRNG
    key "dropout". Parameters of the blocks are stacked on a leading axis [depth, ...] and scanned over, except where
    gradients keep all of a block, on CPUs: there the stacking costs a quarter of the speed.
    """

    image_size: int
    num_classes: int | None = None
    depth: int = option(25, "number of blocks", at_least(1))
    width: int = option(192, "of a token", at_least(1))
    heads: int = option(6, "of the attention", at_least(1))
    head_dim: int = option(64, "width of a query, key and value of one head", at_least(1))
    mlp: int = option(384, "hidden width of a block's MLP", at_least(1))
    patch: int = option(4, "pixels along a patch's side; divides the image's", at_least(1))
    dropout: float = option(0.0, "in the blocks", *_PROBABILITY)
    emb_dropout: float = option(0.0, "of the embedded patches", *_PROBABILITY)
    drop_path: float = option(0.0, "stochastic depth: probability to skip the last block's branches", *_PROBABILITY)
    pool: str = option("cls", "features: the class token, or the mean over patches", one_of(*POOLS))
    head: str = option("linear", "classification head", one_of(*CLASSIFICATION_HEADS))
    style: str = option("vit-pytorch", "whose architecture, in detail", one_of(*STYLES))
    layered = ("blocks",)  # of the parameters, what `gather` is called for layer by layer
    gather: Callable[[Params], Params] = lambda params: params
    dtype: jnp.dtype = jnp.float32
    activations: str = option("auto", "their type; auto: dtype, but float32 on CPUs", one_of(*layers.ACTIVATIONS))
    remat: str = option(
        "auto",
        "what gradients keep of a block: all (none), products, those but for attention's weights (heads), its input "
        "(full); auto: none on CPUs, heads on TPUs, else products",
        one_of("auto", "none", *SAVED),
    )

    def setup(self) -> None:
        tokens = (self.image_size // self.patch) ** 2
        if self.pool == "cls":
            tokens += 1
            self.cls_token = self.param("cls_token", init.normal(1.0), (1, self.width))
        self.pos_embedding = self.param("pos_embedding", init.normal(1.0), (tokens, self.width))
        if self.style == "vit-pytorch":
            self.patch_norm = LayerNorm()
            self.embed_norm = LayerNorm()
        self.patch_proj = Linear(self.width, dtype=self.dtype)
        # One block without a parent is applied to the parameters of each: see `transform`.
        details = {"style": self.style, "dtype": self.dtype, "by_head": self.kept == "heads"}
        self.block = Block(self.heads, self.head_dim, self.mlp, self.dropout, **details, parent=None)
        self.blocks = self.param("blocks", self.init_blocks)
        self.norm = LayerNorm(EPSILON[self.style])

    @property
    def kept(self) -> str:
        """What gradients keep of a block, here."""
        return _PLATFORM_REMAT.get(jax.default_backend(), "products") if self.remat == "auto" else self.remat

    def init_blocks(self, key: Array) -> Params:
        """The parameters of all blocks, each from a key of its own, stacked: [depth, ...]."""
        token = jnp.zeros((1, 1, self.width))
        return jax.vmap(lambda k: self.block.init(k, token, 0.0, None, 1)["params"])(jax.random.split(key, self.depth))

    def features(self, x: Array, train: bool) -> Array:
        """Images [b, h, w, c] -> the normalised class token, or the mean over tokens: float32 [b, width]."""
        # Patch embedding: a linear map of each patch's pixels.
        kind = layers.activation_type(self.activations, self.dtype)
        x = patches(x.astype(kind), self.patch)
        x = self.patch_proj(x) if self.style == "timm" else self.embed_norm(self.patch_proj(self.patch_norm(x)))
        # The class token, learnt and the same for every image, gathers from the patches what the head needs.
        if self.pool == "cls":
            first = jnp.broadcast_to(self.cls_token.astype(kind), (x.shape[0], 1, self.width))
            x = jnp.concatenate([first, x], 1)
        random = train and max(self.dropout, self.emb_dropout, self.drop_path) > 0
        key = self.make_rng("dropout") if random else None
        # Position embedding: attention itself does not know where a token lies.
        x = drop(x + self.pos_embedding.astype(kind), self.emb_dropout, key)
        x = self.norm(layers.wide(self.transform(x, key, train)))
        return x[:, 0] if self.pool == "cls" else jnp.mean(x, 1)

    def transform(self, x: Array, key: Array | None, train: bool) -> Array:
        """All blocks; the last one computes only the tokens that the pooling reads."""
        rates = jnp.linspace(0.0, self.drop_path, self.depth) if self.drop_path else jnp.zeros(self.depth)
        keys = None if key is None else jax.random.split(jax.random.fold_in(key, 1), self.depth)
        stacked = (self.blocks, rates, keys)

        def body(x: Array, layer: tuple[Params, Array, Array | None], queries: int = x.shape[1]) -> tuple[Array, None]:
            params, rate, key = layer
            rate = rate if self.drop_path else 0.0
            return self.block.apply({"params": self.gather(params)}, x, rate, key, queries), None

        if train and self.kept == "none":
            *layers_before, last = unstacked(stacked, self.depth)
            traced = jax.jit(body)  # once, not for each of them
            for layer in layers_before:
                x, _ = traced(x, layer)
        else:
            layers_before, last = jax.tree.map(lambda a: a[:-1], stacked), jax.tree.map(lambda a: a[-1], stacked)
            x, _ = lax.scan(rematerialised(body, self.kept), x, layers_before)
        return body(x, last, 1 if self.pool == "cls" else x.shape[1])[0]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = self.features(x, train)
        return classification_head(self.head, self.num_classes, self.dtype)(x) if self.num_classes else x


def rematerialised(block: Callable, kept: str) -> Callable:
    """A block of which the backward pass keeps what a name of SAVED says, and computes the rest again; none: all."""
    if kept == "none":
        return block
    return jax.checkpoint(block, policy=jax.checkpoint_policies.save_only_these_names(*SAVED[kept]))


def patches(x: Array, p: int) -> Array:
    """Images [b, h, w, c] -> tokens [b, (h/p w/p), (p p c)] in vit-pytorch's order (p1 p2 c)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // p, p, w // p, p, c).swapaxes(2, 3).reshape(b, -1, p * p * c)


def unstacked(tree: PyTree, count: int) -> list[PyTree]:
    """Arrays [count, ...] -> count trees of arrays [...]; by `split`, whose gradient is one concatenation."""
    one = lambda a: [jnp.squeeze(part, 0) for part in lax.split(a, (1,) * count, axis=0)]
    leaves, structure = jax.tree.flatten(tree)
    return [jax.tree.unflatten(structure, parts) for parts in zip(*map(one, leaves), strict=True)]
