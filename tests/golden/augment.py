"""Golden values of tests/vision/test_augment_golden.py, from torchvision given the same parameters.

Run by hand with torch and torchvision: python tests/golden/augment.py. Images are stored [h, w, c].
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import RandAugment, TrivialAugmentWide, _apply_op

HEIGHT, WIDTH = 16, 21
OPERATIONS = "Identity ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness "
OPERATIONS = (OPERATIONS + "Posterize Solarize AutoContrast Equalize").split()
BOXES = [(0, 0, 16, 21), (3, 5, 11, 9), (7, 2, 5, 19), (10, 15, 6, 6), (4, 4, 1, 2)]


def photo() -> torch.Tensor:
    """uint8 [3, h, w]: smooth colours with noise, some pure and some grey pixels, where hue has edge cases."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(0.3 * x + 0.2 * y), np.cos(0.25 * y - 0.1 * x), np.sin(0.15 * x)]
    image = np.stack(waves) * 60 + 120 + rng.normal(0, 12, (3, HEIGHT, WIDTH))
    image[:, 0] = np.linspace(0, 255, WIDTH)
    image[:, 1, :7] = [[255, 0, 0, 255, 255, 0, 90], [0, 255, 0, 255, 0, 255, 90], [0, 0, 255, 0, 255, 255, 200]]
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8))


def stack(images: list[torch.Tensor]) -> np.ndarray:
    return torch.stack(images).movedim(-3, -1).numpy()


def jitters(image: torch.Tensor, factors: tuple[float, ...]) -> list[torch.Tensor]:
    adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    results = []
    for order in itertools.permutations(range(4)):
        result = image
        for i in order:
            result = adjust[i](result, factors[i])
        results.append(result)
    return results


def auto_operations(bytes_: torch.Tensor) -> dict[str, np.ndarray]:
    """Each operation at three bins of the wide table, both signs; bytes only where torchvision takes nothing else."""
    space = TrivialAugmentWide()._augmentation_space(31)
    codes, strengths, results = [], [], []
    for code, name in enumerate(OPERATIONS):
        table, signed = space[name]
        for index, sign in itertools.product((4, 13, 30), (1, -1) if signed else (1,)):
            strength = sign * float(table[index]) if table.ndim else 0.0
            on_bytes = name in ("Posterize", "Solarize", "Equalize")
            image = bytes_ if on_bytes else bytes_.float() / 255
            result = _apply_op(image, name, strength, InterpolationMode.NEAREST, None)
            codes.append(code)
            strengths.append(strength)
            results.append(result.float() / 255 if on_bytes else result)
            if table.ndim == 0:
                break
    return {"auto_code": np.array(codes), "auto_strength": np.array(strengths, np.float32), "auto": stack(results)}


def moments(draws: list[tuple[int, ...]]) -> np.ndarray:
    draws = np.array(draws)
    return np.stack([draws.mean(0), draws.std(0)])


def main() -> None:
    torch.manual_seed(0)
    bytes_ = photo()
    image = bytes_.float() / 255
    big = torch.from_numpy(np.random.default_rng(1).beta(2, 5, (3, 36, 30)) * 200 + 20).to(torch.uint8)
    big[1] = 7  # a constant channel
    cubic, linear = InterpolationMode.BICUBIC, InterpolationMode.BILINEAR
    spaces = [RandAugment()._augmentation_space(31, (HEIGHT, WIDTH)), TrivialAugmentWide()._augmentation_space(31)]
    tables = [np.stack([np.broadcast_to(s[name][0].numpy(), 31) for name in OPERATIONS]) for s in spaces]
    eraser = torch.zeros(3, HEIGHT, WIDTH)
    golden = {
        "image": bytes_.movedim(0, -1).numpy(),
        "brightness": stack([F.adjust_brightness(image, f) for f in (0.3, 1.6)]),
        "contrast": stack([F.adjust_contrast(image, f) for f in (0.3, 1.6)]),
        "saturation": stack([F.adjust_saturation(image, f) for f in (0.3, 1.6)]),
        "sharpness": stack([F.adjust_sharpness(image, f) for f in (0.3, 1.6)]),
        "hue": stack([F.adjust_hue(image, f) for f in (-0.5, -0.23, 0.0, 0.1, 0.5)]),
        "jitter": stack([F.resize(x, [5, 6]) for x in jitters(image, (1.3, 0.6, 1.7, 0.2))]),
        "grayscale": stack([F.rgb_to_grayscale(image, 3)]),
        "solarize": stack([F.solarize(image, t) for t in (0.25, 0.5)]),
        "blur": stack([F.gaussian_blur(image, k, s) for k, s in ((3, 0.6), (5, 1.0), (9, 2.0), (15, 1.7))]),
        "boxes": np.array(BOXES),
        "crop_bilinear": stack([F.resized_crop(image, *box, [12, 15], linear) for box in BOXES]),
        "crop_bicubic": stack([F.resized_crop(image, *box, [12, 15], cubic).clamp(0, 1) for box in BOXES]),
        "big": big.movedim(0, -1).numpy(),
        "big_equalize": F.equalize(big).movedim(0, -1).numpy(),
        "big_autocontrast": F.autocontrast(big.float() / 255)[::2].movedim(0, -1).numpy(),
        "rand_table": tables[0].astype(np.float32),
        "trivial_table": tables[1].astype(np.float32),
        # mean and deviation of (top, left, height, width) over many draws
        "crop_boxes": moments([RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(40000)]),
        "erase_boxes": moments(
            [RandomErasing.get_params(eraser, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(40000)]
        ),
        **auto_operations(bytes_),
    }
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)


if __name__ == "__main__":
    main()
