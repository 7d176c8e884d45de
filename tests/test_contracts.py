"""The public names that notebooks and checks outside the project call, with the calls that are promised."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature

import emibook


def test_the_names_of_the_package_are_there_and_load_nothing_before_they_are_used():
    names = [name for name in emibook.__all__ if getattr(emibook, name, None) is None]
    assert names == [] and 15 <= len(emibook.__all__) <= 25
    assert set(emibook.__all__) <= set(dir(emibook))
    program = "import emibook, sys; print(len({'torch', 'pandas', 'numpy', 'emibook.corpus'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "0"


def test_the_contracts():
    from emibook.features import EXTRACTORS, extract
    from emibook.fusion import late_fusion
    from emibook.metrics import mean_pearson, pearson
    from emibook.models import TCN, IntensityRegressor
    from emibook.preprocess import audio, frames

    for function in (pearson, mean_pearson):
        assert list(signature(function).parameters)[:2] == ["truth", "prediction"]
    assert {"resnet18", "vit", "aus", "wav2vec2", "facenet", "manet", "mfcc", "egemaps", "deepspectrum", "official_vit",
            "official_wav2vec2"} <= set(EXTRACTORS)
    assert list(signature(extract).parameters)[:3] == ["corpus", "work", "features"]
    assert all(map(callable, (audio, frames, late_fusion)))
    network = TCN(3, channels=8, kernel_size=3, layers=5)
    assert network.receptive_field == 63
    options = signature(IntensityRegressor).parameters
    defaults = {name: options[name].default for name in ("targets", "transformer_layers", "heads", "channels")}
    assert defaults == {"targets": 6, "transformer_layers": 2, "heads": 4, "channels": 128}


def test_what_crosses_between_stages_has_the_shapes_that_are_promised():
    import torch

    from emibook.models import TCN, IntensityRegressor

    values, mask = torch.randn(2, 9, 5), torch.ones(2, 9, dtype=torch.bool)
    assert TCN(5, channels=8)(values).shape == (2, 9, 8)
    for layers in (2, 0):
        model = IntensityRegressor(5, targets=4, transformer_layers=layers, heads=2, channels=8).eval()
        assert model(values, mask).shape == (2, 4)
