"""ResNet (He et al., 2016) as torchvision builds it: v1.5 bottlenecks, explicit padding, fan-out initialisation.

Shapes: images and maps [b, h, w, c]; y is what a block's convolutions add to its shortcut.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers as init

from jaxhw.options import at_least, one_of, option
from jaxhw.vision.models import convolution, layers
from jaxhw.vision.models.heads import CLASSIFICATION_HEADS, classification_head
from jaxhw.vision.models.norms import BatchNorm

Array = jax.Array
# Kaiming initialisation (He et al. 2015) as torchvision has it: kaiming_normal_(mode="fan_out", nonlinearity="relu").
conv_init = init.variance_scaling(2.0, "fan_out", "normal")
STEMS = ("torchvision", "cifar")


class Conv(nn.Module):
    """Convolution without bias, padding kernel // 2."""

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        return convolution.conv(x, self.param("kernel", conv_init, shape), self.stride, self.dtype)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection: relu(shortcut(x) + y)."""

    width: int
    stride: int
    zero_init: bool
    norm_groups: int
    dtype: jnp.dtype
    expansion = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        # The last batch norm has no ReLU before the addition.
        last = init.zeros if self.zero_init else init.ones
        y = Conv(self.width, 3, self.stride, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="bn1")(y, train))
        y = Conv(self.width, 3, 1, self.dtype, name="conv2")(y)
        y = BatchNorm(self.norm_groups, last, name="bn2")(y, train)
        return nn.relu(y + shortcut(self, x, y, train))


class Bottleneck(nn.Module):
    """The bottleneck block: 1x1, 3x3 (which carries the stride: v1.5), 1x1 to four times the width.

    The 3x3 convolution, the costly one, works on a quarter of the channels. The residual connection is that of
    :class:`BasicBlock`.
    """

    width: int
    stride: int
    zero_init: bool
    norm_groups: int
    dtype: jnp.dtype
    expansion = 4

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        # Reduce the channels, convolve, and expand them again. The last batch norm has no ReLU before the addition.
        last = init.zeros if self.zero_init else init.ones
        y = Conv(self.width, 1, 1, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="bn1")(y, train))
        y = Conv(self.width, 3, self.stride, self.dtype, name="conv2")(y)
        y = nn.relu(BatchNorm(self.norm_groups, name="bn2")(y, train))
        y = Conv(4 * self.width, 1, 1, self.dtype, name="conv3")(y)
        y = BatchNorm(self.norm_groups, last, name="bn3")(y, train)
        return nn.relu(y + shortcut(self, x, y, train))


def shortcut(block: BasicBlock | Bottleneck, x: Array, y: Array, train: bool) -> Array:
    """The block's input x itself, or, where the block changes the shape, its projection shortcut: a 1x1 convolution.

    Called inside the block's compact method, whose module owns the projection's parameters.
    """
    if x.shape == y.shape:
        return x
    x = Conv(y.shape[-1], 1, block.stride, block.dtype, name="downsample_conv")(x)
    return BatchNorm(block.norm_groups, name="downsample_bn")(x, train)


class ResNet(nn.Module):
    """Images [b, h, w, c] -> logits [b, num_classes], or pooled features [b, d] without a head.

    Stem "torchvision" is 7x7 stride 2 and a max-pool; "cifar" is 3x3 stride 1 without pooling (SimCLR's choice for
    images of at most 32 pixels). zero_init_residual makes every block the identity at the start (Goyal et al., 2017).
    norm_groups > 1 is ghost batch normalisation, see :class:`~jaxhw.vision.models.norms.BatchNorm`.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    image_size: int = 32
    num_classes: int | None = None
    head: str = option("linear", "classification head", one_of(*CLASSIFICATION_HEADS))
    stem: str = option("torchvision", "first layers", one_of(*STEMS))
    width: int = option(64, "channels of the first stage", at_least(1))
    zero_init_residual: bool = option(False, "each block's last batch norm starts with the scale 0")
    norm_groups: int = option(1, "parts of the batch that are normalised by themselves", at_least(1))
    dtype: jnp.dtype = jnp.float32
    activations: str = option("auto", "their type; auto: dtype, but float32 on CPUs", one_of(*layers.ACTIVATIONS))

    def setup(self) -> None:
        stem = (7, 2) if self.stem == "torchvision" else (3, 1)
        self.conv1 = Conv(self.width, *stem, self.dtype)
        self.bn1 = BatchNorm(self.norm_groups)
        block = Bottleneck if self.bottleneck else BasicBlock
        # Each stage doubles the channels, and all but the first halve the map in their first block.
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                module = block(self.width << stage, stride, self.zero_init_residual, self.norm_groups, self.dtype)
                setattr(self, f"layer{stage + 1}_{i}", module)

    def features(self, x: Array, train: bool) -> Array:
        """Images [b, h, w, c] -> float32 features [b, d], d = 512 (BasicBlock) or 2048 (Bottleneck) at width 64."""
        # The stem, the stages, and global average pooling.
        x = x.astype(layers.activation_type(self.activations, self.dtype))
        x = nn.relu(self.bn1(self.conv1(x), train))
        if self.stem == "torchvision":
            x = convolution.max_pool(x)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                x = getattr(self, f"layer{stage + 1}_{i}")(x, train)
        return jnp.mean(layers.wide(x), (1, 2))

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = self.features(x, train)
        return classification_head(self.head, self.num_classes, self.dtype)(x) if self.num_classes else x


ResNet18 = partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False)
ResNet34 = partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=False)
ResNet50 = partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True)
