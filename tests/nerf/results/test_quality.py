import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.results import quality


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:29, :37] / 37
    truth = np.stack([0.5 + 0.4 * np.sin(9 * x + 3 * y), x, 0.3 + 0.2 * y], -1)
    return truth + 0.1 * rng.normal(size=truth.shape), truth


def ssim_by_definition(a, b):
    """Wang et al. 2004, equation 13, window by window: Gaussian weights, stabilised by 0.01^2 and 0.03^2."""
    offsets = np.arange(11) - 5
    w = np.exp(-0.5 * (offsets / 1.5) ** 2)
    w = np.outer(w, w) / w.sum() ** 2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            for c in range(3):
                p, q = a[i : i + 11, j : j + 11, c], b[i : i + 11, j : j + 11, c]
                mp, mq = (w * p).sum(), (w * q).sum()
                vp, vq, vpq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum(), (w * (p - mp) * (q - mq)).sum()
                score = (2 * mp * mq + 1e-4) * (2 * vpq + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
                values.append(score)
    return np.mean(values)


def test_ssim_is_the_definition(pair):
    picture, truth = pair
    assert quality.ssim(picture, truth) == pytest.approx(ssim_by_definition(np.clip(picture, 0, 1), truth), abs=1e-9)
    assert quality.ssim(truth, truth) == pytest.approx(1)


def test_psnr(pair):
    metrics = pytest.importorskip("skimage.metrics")
    picture, truth = pair
    expected = metrics.peak_signal_noise_ratio(truth, np.clip(picture, 0, 1), data_range=1.0)
    assert quality.psnr(picture, truth) == pytest.approx(expected)
    assert quality.psnr(np.full((2, 2, 3), 0.6), np.full((2, 2, 3), 0.5)) == pytest.approx(20)
    assert quality.psnr(truth, truth) == float("inf")


def test_small_pictures_have_no_ssim():
    with pytest.raises(UserError, match="at least 11 x 11"):
        quality.ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))


def test_a_judge_without_weights_says_why(pair, tmp_path):
    scores = quality.Judge(str(tmp_path))(*pair)
    assert scores["psnr"] == quality.psnr(*pair) and scores["ssim"] == quality.ssim(*pair)
    assert scores["lpips_alex"].startswith("not run: no weights") and scores["lpips_vgg"].startswith("not run")


def test_means():
    scores = [{"psnr": 20.0, "lpips_vgg": "not run: why"}, {"psnr": 30.0, "lpips_vgg": "not run: why"}]
    assert quality.mean(scores) == {"psnr": 25.0, "lpips_vgg": "not run: why"}
