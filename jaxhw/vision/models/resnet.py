"""ResNet (He et al., 2016) as torchvision builds it: v1.5 bottlenecks, explicit padding, fan-out initialisation."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers as init

from jaxhw.vision.models import classifier, layers

# torchvision: kaiming_normal_(mode="fan_out", nonlinearity="relu")
conv_init = init.variance_scaling(2.0, "fan_out", "normal")
STEMS = ("torchvision", "cifar")


class Conv(nn.Module):
    """Convolution without bias, padding kernel // 2."""

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        return layers.conv(x, self.param("kernel", conv_init, shape), self.stride, self.dtype)


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm2d over all axes but the last; running statistics move by a tenth of the way each step.

    Like PyTorch, a batch is normalised with its biased variance while the running variance averages the unbiased one.
    With ``groups`` each of so many equal parts of the batch is normalised by itself, and running statistics move
    towards the mean of the parts' own.
    """

    groups: int = 1
    scale_init: Callable = init.ones
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True

    @nn.compact
    def __call__(self, x, train: bool):
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", init.zeros, shape) if self.use_bias else jnp.zeros(shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            return (x - mean.value) * (jax.lax.rsqrt(var.value + self.epsilon) * scale) + bias
        y, batch_mean, batch_var = self._normalise(x, scale, bias)
        if not self.is_initializing():
            count = x.size // x.shape[-1] // self.groups
            unbiased = batch_var * (count / max(count - 1, 1))
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        return y

    def _normalise(self, x, scale, bias):
        if self.groups == 1:
            return layers.batch_norm(x, scale, bias, self.epsilon)
        parts = x.reshape(self.groups, -1, *x.shape[1:])
        y, mean, var = jax.vmap(lambda part: layers.batch_norm(part, scale, bias, self.epsilon))(parts)
        return y.reshape(x.shape), mean.mean(0), var.mean(0)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    width: int
    stride: int
    zero_init: bool
    norm_groups: int
    dtype: jnp.dtype
    expansion = 1

    @nn.compact
    def __call__(self, x, train: bool):
        last = init.zeros if self.zero_init else init.ones
        y = Conv(self.width, 3, self.stride, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="bn1")(y, train))
        y = Conv(self.width, 3, 1, self.dtype, name="conv2")(y)
        y = BatchNorm(self.norm_groups, last, name="bn2")(y, train)
        return nn.relu(y + shortcut(x, y, self.stride, self.dtype, self.norm_groups, train))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride: v1.5), 1x1 to four times the width, and a shortcut."""

    width: int
    stride: int
    zero_init: bool
    norm_groups: int
    dtype: jnp.dtype
    expansion = 4

    @nn.compact
    def __call__(self, x, train: bool):
        last = init.zeros if self.zero_init else init.ones
        y = Conv(self.width, 1, 1, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="bn1")(y, train))
        y = nn.relu(
            BatchNorm(self.norm_groups, name="bn2")(
                Conv(self.width, 3, self.stride, self.dtype, name="conv2")(y), train
            )
        )
        y = Conv(4 * self.width, 1, 1, self.dtype, name="conv3")(y)
        y = BatchNorm(self.norm_groups, last, name="bn3")(y, train)
        return nn.relu(y + shortcut(x, y, self.stride, self.dtype, self.norm_groups, train))


def shortcut(x, y, stride: int, dtype, norm_groups: int, train: bool):
    """x itself, or its 1x1 projection when the block changes the shape. Called inside a block's compact method."""
    if x.shape == y.shape:
        return x
    x = Conv(y.shape[-1], 1, stride, dtype, name="downsample_conv")(x)
    return BatchNorm(norm_groups, name="downsample_bn")(x, train)


class ResNet(nn.Module):
    """Images [b, h, w, c] -> logits [b, num_classes], or pooled features [b, d] without a head.

    stem "torchvision" is 7x7 stride 2 and a max-pool; "cifar" is 3x3 stride 1 without pooling (SimCLR's choice for
    images of at most 32 pixels). zero_init_residual starts each block's last BatchNorm at 0 (Goyal et al., 2017).
    norm_groups > 1 normalises each of so many parts of the batch by itself (ghost batches; Hoffer et al., 2017).
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    image_size: int = 32
    num_classes: int | None = None
    head: str = "linear"
    stem: str = "torchvision"
    width: int = 64
    zero_init_residual: bool = False
    norm_groups: int = 1
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        stem = (7, 2) if self.stem == "torchvision" else (3, 1)
        self.conv1 = Conv(self.width, *stem, self.dtype)
        self.bn1 = BatchNorm(self.norm_groups)
        block = Bottleneck if self.bottleneck else BasicBlock
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                module = block(self.width << stage, stride, self.zero_init_residual, self.norm_groups, self.dtype)
                setattr(self, f"layer{stage + 1}_{i}", module)

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [b, h, w, c] -> pooled features [b, d], d = 512 (BasicBlock) or 2048 (Bottleneck) at width 64."""
        x = nn.relu(self.bn1(self.conv1(x), train))
        if self.stem == "torchvision":
            x = layers.max_pool(x)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                x = getattr(self, f"layer{stage + 1}_{i}")(x, train)
        return jnp.mean(x, (1, 2))

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.features(x, train)
        return classifier.head(self.head, self.num_classes, self.dtype)(x) if self.num_classes else x


ResNet18 = partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False)
ResNet34 = partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=False)
ResNet50 = partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True)
