"""Loss functions: the paper's mean squared error (section 3.6), and three alternatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SMALLEST_VARIANCE = 1e-8  # added to a batch's variances: all clips of a batch may have one value of an emotion


def pearson_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - the Pearson correlation over the batch, mean over targets; it does not constrain the predictions' scale.

    Covariance and both variances divide by the same n, so a perfect prediction has a loss of zero.

    Args:
        prediction: (clip, target).
        target: (clip, target).
    """
    p, y = prediction - prediction.mean(dim=0), target - target.mean(dim=0)
    variances = (p.square().mean(dim=0) + SMALLEST_VARIANCE) * (y.square().mean(dim=0) + SMALLEST_VARIANCE)
    return 1 - ((p * y).mean(dim=0) / variances.sqrt()).mean()


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - the concordance correlation over the batch, mean over targets.

    Source: Lin (1989), Biometrics 45, 255-268.

    Args:
        prediction: (clip, target).
        target: (clip, target).
    """
    p, y = prediction - prediction.mean(dim=0), target - target.mean(dim=0)
    bias = (prediction.mean(dim=0) - target.mean(dim=0)).square()
    variances = p.square().mean(dim=0) + y.square().mean(dim=0) + bias + SMALLEST_VARIANCE
    return 1 - (2 * (p * y).mean(dim=0) / variances).mean()


LOSSES = {"mse": functional.mse_loss, "mae": functional.l1_loss, "pearson": pearson_loss, "ccc": ccc_loss}
MICROBATCHABLE = ("mse", "mae")  # means over clips, so that a batch's loss is the sum of its microbatches'
