"""How close a rendered picture is to the truth: PSNR, SSIM, LPIPS, as NerfBaselines and scikit-image define them.

Pictures are [h, w, 3] floats and are clipped to [0, 1]; nothing is rounded to 8 bits.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from skimage.metrics import structural_similarity

from jaxhw.errors import UserError
from jaxhw.nerf.results import lpips

WINDOW = 11  # pixels: 3.5 standard deviations of 1.5 pixels on either side of the middle


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """-10 log10 of the mean squared error over all pixels and channels, in dB; infinite for equal pictures."""
    error = np.mean((_clipped(picture) - _clipped(truth)) ** 2)
    return float(-10 * np.log10(error)) if error else float("inf")


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) with a Gaussian window, meaned over channels and where the window fits.

    scikit-image's with gaussian_weights=True, sigma=1.5, use_sample_covariance=False and data_range=1.
    """
    check_size(truth.shape[:2])
    score = structural_similarity(
        _clipped(picture),
        _clipped(truth),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    return float(score)


def check_size(size: tuple[int, int]) -> None:
    """Raises a UserError if pictures of a height and width are too small to be scored."""
    height, width = size
    if min(size) < WINDOW:
        raise UserError(
            f"images of {width} x {height} pixels are too small to be scored: SSIM takes at least {WINDOW} x {WINDOW}"
        )


class Judge:
    """Scores pictures; looks for LPIPS's weights once.

    Args:
      weights: the folder or file of LPIPS's weights; see `jaxhw.nerf.results.lpips.find`.
      nets: which of `lpips.NETS` to use.
    """

    def __init__(self, weights: str = "", nets: Sequence[str] = lpips.NETS):
        self._lpips = {net: lpips.load(net, weights) for net in nets}
        self.names = ("psnr", "ssim", *(f"lpips_{net}" for net in nets))

    def __call__(
        self, picture: np.ndarray, truth: np.ndarray, counts: np.ndarray | None = None
    ) -> dict[str, float | str]:
        """ "psnr", "ssim", "lpips_alex" and "lpips_vgg" of one picture; "not run: why" where LPIPS cannot be.

        Args:
          counts: [h, w] bool, the pixels that no mask leaves out; None for all. PSNR is over them. SSIM and LPIPS
            compare neighbourhoods, so for them the other pixels are those of the truth.
        """
        if counts is None or counts.all():
            scores = {"psnr": psnr(picture, truth)}
        elif counts.any():
            scores = {"psnr": psnr(picture[counts], truth[counts])}
            picture = np.where(counts[..., None], picture, truth)
        else:
            return dict.fromkeys(self.names, "not run: its mask leaves out every pixel")
        scores["ssim"] = ssim(picture, truth)
        for net, params in self._lpips.items():
            smallest = lpips.SMALLEST[net]
            if isinstance(params, str):
                score = params
            elif min(truth.shape[:2]) < smallest:
                score = f"not run: it takes images of at least {smallest} x {smallest} pixels"
            else:
                score = lpips.distance(net, params, picture, truth)
            scores[f"lpips_{net}"] = score
        return scores


def mean(scores: Sequence[Mapping[str, float | str]]) -> dict[str, float | str]:
    """Means over pictures (of PSNR in dB, not of errors); reasons for what was not run are kept."""
    numbers = {name: [score[name] for score in scores if not isinstance(score[name], str)] for name in scores[0]}
    return {name: float(np.mean(found)) if found else scores[0][name] for name, found in numbers.items()}


def _clipped(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(picture, np.float64), 0, 1)
