"""Vision transformer (Dosovitskiy et al., 2021) as vit-pytorch builds it, or as timm does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers as init
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxhw.vision.models import classifier, layers
from jaxhw.vision.models.layers import Linear, torch_linear_init

POOLS = ("cls", "mean")
# timm embeds patches without LayerNorm, projects q, k and v with a bias and has LayerNorms of a smaller epsilon
STYLES = ("vit-pytorch", "timm")
EPSILON = {"vit-pytorch": 1e-5, "timm": 1e-6}
# What the backward pass of a block keeps: the matrix products. LayerNorm, softmax's shift and GELU are recomputed,
# which costs less than writing them to memory and reading them back.
SAVED = jax.checkpoint_policies.save_only_these_names("qkv", "weights", "attended", "middle", "hidden")


class LayerNorm(nn.Module):
    """torch.nn.LayerNorm over the last axis."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        shape = x.shape[-1:]
        scale, bias = self.param("scale", init.ones, shape), self.param("bias", init.zeros, shape)
        return layers.layer_norm(x, scale, bias, self.epsilon)


class Block(nn.Module):
    """Pre-norm attention and pre-norm MLP with exact GELU, each added to its input.

    Tokens [b, n, d] -> the first `queries` of them [b, queries, d]: a model that reads only the cls token need not
    compute the others in its last block. drop_path is the probability of skipping a branch for an image (Huang et al.,
    2016); key is a PRNG key, or None in evaluation.
    """

    heads: int
    head_dim: int
    mlp: int
    dropout: float
    style: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: jax.Array | float, key: jax.Array | None, queries: int) -> jax.Array:
        keys = [None] * 6 if key is None else jax.random.split(key, 6)
        width, epsilon = x.shape[-1], EPSILON[self.style]
        y = self.attend(LayerNorm(epsilon, name="norm1")(x), queries, keys[5])
        y = drop(Linear(width, dtype=self.dtype, name="to_out")(y), self.dropout, keys[0])
        x = x[:, :queries] + drop(y, drop_path, keys[1], per_image=True)
        x = checkpoint_name(x, "middle")
        y = Linear(self.mlp, dtype=self.dtype, name="fc1")(LayerNorm(epsilon, name="norm2")(x))
        y = checkpoint_name(y, "hidden")
        y = drop(nn.gelu(y, approximate=False), self.dropout, keys[2])
        y = drop(Linear(width, dtype=self.dtype, name="fc2")(y), self.dropout, keys[3])
        return x + drop(y, drop_path, keys[4], per_image=True)

    def attend(self, x, queries, key):
        b, _, d = x.shape
        inner = self.heads * self.head_dim
        # one parameter like vit-pytorch's, but three products: the gradient of slicing one product pads its parts
        w = self.param("to_qkv", torch_linear_init, (d, 3, inner))
        bias = self.param("to_qkv_bias", init.zeros, (3, inner)) if self.style == "timm" else None

        def project(i, x):
            y = layers.matmul(x, w[:, i], self.dtype)
            y = (y if bias is None else y + bias[i]).reshape(b, -1, self.heads, self.head_dim)
            return checkpoint_name(y.transpose(0, 2, 1, 3), "qkv")

        q, k, v = project(0, x[:, :queries]), project(1, x), project(2, x)
        y = layers.attention(q, k, v, self.dtype, lambda weights: drop(weights, self.dropout, key))
        return checkpoint_name(y.transpose(0, 2, 1, 3).reshape(b, queries, inner), "attended")


def drop(x, rate, key, per_image: bool = False):
    """Dropout of values, or of whole images; the identity without a key. The rate may be traced."""
    if key is None or (isinstance(rate, float) and rate == 0):
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1) if per_image else x.shape
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), x / (1 - rate), 0.0)


class ViT(nn.Module):
    """Images [b, h, w, c] -> logits [b, num_classes], or features [b, width] without a head.

    drop_path grows linearly with depth from 0 to its value. Training with any dropout needs the PRNG key "dropout".
    Parameters of the blocks are stacked on a leading axis [depth, ...] and scanned over: 25 unrolled blocks run no
    faster and compile four times slower.
    """

    image_size: int
    num_classes: int | None = None
    depth: int = 25
    width: int = 192
    heads: int = 6
    head_dim: int = 64
    mlp: int = 384
    patch: int = 4
    dropout: float = 0.0
    emb_dropout: float = 0.0
    drop_path: float = 0.0
    pool: str = "cls"
    head: str = "linear"
    style: str = "vit-pytorch"
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        tokens = (self.image_size // self.patch) ** 2
        if self.pool == "cls":
            tokens += 1
            self.cls_token = self.param("cls_token", init.normal(1.0), (1, self.width))
        self.pos_embedding = self.param("pos_embedding", init.normal(1.0), (tokens, self.width))
        if self.style == "vit-pytorch":
            self.patch_norm = LayerNorm()
            self.embed_norm = LayerNorm()
        self.patch_proj = Linear(self.width, dtype=self.dtype)
        self.block = Block(self.heads, self.head_dim, self.mlp, self.dropout, self.style, self.dtype, parent=None)
        self.blocks = self.param("blocks", self.init_blocks)
        self.norm = LayerNorm(EPSILON[self.style])

    def init_blocks(self, key):
        token = jnp.zeros((1, 1, self.width))
        return jax.vmap(lambda k: self.block.init(k, token, 0.0, None, 1)["params"])(jax.random.split(key, self.depth))

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [b, h, w, c] -> the normalised cls token, or the mean over tokens: [b, width]."""
        x = patches(x, self.patch)
        x = self.patch_proj(x) if self.style == "timm" else self.embed_norm(self.patch_proj(self.patch_norm(x)))
        if self.pool == "cls":
            x = jnp.concatenate([jnp.broadcast_to(self.cls_token, (x.shape[0], 1, self.width)), x], 1)
        random = train and max(self.dropout, self.emb_dropout, self.drop_path) > 0
        key = self.make_rng("dropout") if random else None
        x = drop(x + self.pos_embedding, self.emb_dropout, key)
        x = self.norm(self.transform(x, key))
        return x[:, 0] if self.pool == "cls" else jnp.mean(x, 1)

    def transform(self, x, key):
        """All blocks; the last one computes only the tokens that the pooling reads."""
        rates = jnp.linspace(0.0, self.drop_path, self.depth) if self.drop_path else jnp.zeros(self.depth)
        keys = None if key is None else jax.random.split(jax.random.fold_in(key, 1), self.depth)
        layers_ = (self.blocks, rates, keys)

        def body(x, layer, queries=x.shape[1]):
            params, rate, key = layer
            rate = rate if self.drop_path else 0.0
            return self.block.apply({"params": params}, x, rate, key, queries), None

        x, _ = lax.scan(jax.checkpoint(body, policy=SAVED), x, jax.tree.map(lambda a: a[:-1], layers_))
        last = jax.tree.map(lambda a: a[-1], layers_)
        return body(x, last, 1 if self.pool == "cls" else x.shape[1])[0]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.features(x, train)
        return classifier.head(self.head, self.num_classes, self.dtype)(x) if self.num_classes else x


def patches(x: jax.Array, p: int) -> jax.Array:
    """Images [b, h, w, c] -> tokens [b, (h/p w/p), (p p c)] in vit-pytorch's order (p1 p2 c)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // p, p, w // p, p, c).swapaxes(2, 3).reshape(b, -1, p * p * c)
