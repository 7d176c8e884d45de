"""What a training makes small: the paper's mean squared error (section 3.6), and what others take in its place."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SMALLEST_VARIANCE = 1e-8  # added to variances of a batch: an emotion may have one value in all of its clips


def pearson_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - the batch's correlation, mean over targets: it leaves the predictions' scale free.

    Covariance and both variances have one and the same n, so a perfect prediction costs nothing.
    """
    p, y = prediction - prediction.mean(dim=0), target - target.mean(dim=0)
    variances = (p.square().mean(dim=0) + SMALLEST_VARIANCE) * (y.square().mean(dim=0) + SMALLEST_VARIANCE)
    return 1 - ((p * y).mean(dim=0) / variances.sqrt()).mean()


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - the batch's concordance, mean over targets. Source: Lin (1989), Biometrics 45, 255-268."""
    p, y = prediction - prediction.mean(dim=0), target - target.mean(dim=0)
    apart = (prediction.mean(dim=0) - target.mean(dim=0)).square()
    spread = p.square().mean(dim=0) + y.square().mean(dim=0) + apart + SMALLEST_VARIANCE
    return 1 - (2 * (p * y).mean(dim=0) / spread).mean()


LOSSES = {"mse": functional.mse_loss, "mae": functional.l1_loss, "pearson": pearson_loss, "ccc": ccc_loss}
MICROBATCHABLE = ("mse", "mae")  # parts of a batch can be taken one after the other
