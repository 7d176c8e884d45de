"""MFCC and wav2vec 2.0: what they compute, and when in the clip it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from emibook import InputError
from emibook.features import EXTRACTORS
from emibook.features.mfcc import MFCC
from emibook.features.wav2vec2 import RENAMED, Wav2Vec2, Wav2Vec2Base, Wav2Vec2Outputs, hidden_states
from emibook.features.waveform import batches
from emibook.features.weights import Weights, keep_weights
from emibook.sequences.timeline import on_clock


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """A gliding tone with noise, int16."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * 16000)) / 16000
    wave = 0.4 * np.sin(2 * np.pi * (150 + 200 * time) * time) + 0.05 * rng.standard_normal(len(time))
    return np.round(wave * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {"mfcc": MFCC(Weights("formula"), folder), "wav2vec2": Wav2Vec2(Weights("small", seed=0), folder)}


@pytest.mark.parametrize("name", ["mfcc", "wav2vec2"])
@pytest.mark.parametrize("case", ["none", "no samples", "one sample", "0.02 s", "0.06 s", "silent", "2 s"])
def test_any_sound_and_none(encoders, name, case):
    samples = {
        "none": None, "no samples": np.zeros(0, np.int16), "one sample": np.full(1, 9, np.int16), "0.02 s": sound(0.02),
        "0.06 s": sound(0.06), "silent": np.zeros(32000, np.int16), "2 s": sound(2),
    }[case]
    encoder, declared = encoders[name], EXTRACTORS[name]
    sequence = encoder(samples)  # a FeatureSequence refuses what is not finite, and times that do not rise
    assert sequence.values.shape[1] == declared.width == len(sequence.names)
    assert (len(sequence) == 0) == (case in ("none", "no samples"))
    np.testing.assert_array_equal(encoder(samples).values, sequence.values)
    if case in ("silent", "2 s"):
        assert abs(len(sequence) - 2 * declared.rate) <= 1
        assert np.allclose(np.diff(sequence.times), 1 / declared.rate)
        assert 0 <= sequence.times[0] < 1 / declared.rate
    if len(sequence):
        assert sequence.times[-1] <= len(samples) / 16000 + 0.0125  # nothing is later than the clip and half a window


def test_mfcc_equals_librosa_run_by_hand(encoders):
    samples = sound(1)
    wave = samples / np.float32(32768)
    power = np.abs(librosa.stft(wave, n_fft=512, hop_length=160, win_length=400, window="hann", center=True)) ** 2
    bands = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40) @ power
    from scipy.fftpack import dct

    static = dct(librosa.power_to_db(bands), axis=0, type=2, norm="ortho")[:20]
    slopes = librosa.feature.delta(static, mode="nearest")
    np.testing.assert_allclose(encoders["mfcc"](samples).values, np.concatenate([static, slopes]).T, atol=2e-3)


def test_gain_moves_only_the_level_terms_of_mfcc_and_nothing_of_wav2vec2(encoders):
    loud = sound(1)
    quiet = (loud // 4).astype(np.int16)
    loud = quiet * 4  # exactly, no rounding between them
    changed = np.abs(encoders["mfcc"](loud).values - encoders["mfcc"](quiet).values).max(0)
    assert changed[0] > 10 and (changed[1:20] < 1e-3).all()
    difference = encoders["wav2vec2"](loud).values - encoders["wav2vec2"](quiet).values
    assert np.abs(difference).max() < 1e-3


def test_a_click_at_one_second_lands_there(encoders):
    samples = np.zeros(32000, np.int16)
    samples[16000:16016] = 20000
    mfcc = encoders["mfcc"](samples)
    quiet = encoders["mfcc"](np.zeros(32000, np.int16)).values
    moved = np.abs(mfcc.values[:, 0] - mfcc.values[0, 0])
    assert quiet.std(0).max() < 1e-3
    assert abs(mfcc.times[moved.argmax()] - 1.0) < 1 / 30
    assert (np.abs(mfcc.times[moved > 0.1 * moved.max()] - 1.0) < 1 / 30).all()

    # wav2vec 2.0's Transformer smears time by design, so the click is looked for in what its convolutions see.
    encoder, waves = encoders["wav2vec2"], []
    for each in (samples, np.zeros_like(samples)):
        with torch.no_grad():
            waves.append(encoder.model.feature_extractor(torch.from_numpy(each / np.float32(32768))[None])[0].numpy())
    moved = np.abs(waves[0] - waves[1]).max(0)
    times = encoder(samples).times
    assert len(times) == len(moved)
    seen = times[moved > 1e-6]
    assert len(seen) and (np.abs(seen - 1.0) < 1 / 30).all()
    assert abs(seen.mean() - 1.0) <= 0.02  # centred, and not only near


def test_wav2vec2_equals_transformers_run_by_hand(encoders):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(
        hidden_size=1024, num_hidden_layers=2, num_attention_heads=16, intermediate_size=2048, conv_dim=(64,) * 7,
        num_conv_pos_embeddings=32, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, layerdrop=0.0,
    )).eval()
    samples = sound(1.5)
    wave = samples / np.float32(32768)
    wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
    with torch.no_grad():
        expected = model(torch.from_numpy(wave)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encoders["wav2vec2"](samples).values, expected, atol=1e-4)


def small(norm: str) -> torch.nn.Module:
    """A real wav2vec 2.0 of little width: ``layer`` as the large models, ``group`` as the base models."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(1)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer", conv_bias=norm == "layer",
    )
    return Wav2Vec2Model(config).eval().requires_grad_(False)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_batched_sounds_have_the_states_that_they_have_alone(norm, monkeypatch):
    model = small(norm)
    generator = torch.Generator().manual_seed(2)
    lengths = [16000, 400, 8123, 16000, 719, 12000, 8123]
    waves = [torch.randn(length, generator=generator) for length in lengths]
    alone = hidden_states(model, waves, 0)
    seen, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda values, **more: seen.append(tuple(values.shape))
                        or forward(values, **more))
    together = hidden_states(model, waves, 10**6)
    for state, expected in zip(together, alone, strict=True):
        assert state.shape == expected.shape and expected.std() > 0.1
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=0)
    if norm == "layer":
        assert seen == [(7, 16000)]
    else:
        assert seen == [(1, 400), (1, 719), (2, 8123), (1, 12000), (2, 16000)]
        # Why: a masked batch of unequal lengths gives other states, because its channels are normalised over padding.
        pair = torch.nn.utils.rnn.pad_sequence([waves[0], waves[2]], batch_first=True)
        mask = (torch.arange(16000) < torch.tensor([[16000], [8123]])).long()
        moved = forward(pair, attention_mask=mask).last_hidden_state[1, : len(alone[2])] - alone[2]
        assert moved.abs().max() > 1e-2


def test_batches_hold_every_item_once_and_no_more_than_they_may():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths, most = rng.integers(1, 40, rng.integers(0, 30)).tolist(), int(rng.integers(0, 200))
        for equal in (False, True):
            found = batches(lengths, most, equal=equal)
            assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
            assert [lengths[index] for batch in found for index in batch] == sorted(lengths)
            for batch in found:
                inside = [lengths[index] for index in batch]
                assert len(batch) == 1 or len(batch) * max(inside) <= most
                assert not equal or len(set(inside)) == 1
    assert batches([3, 1, 2], 0) == [[1], [2], [0]]
    assert batches([3, 1, 2], 9) == [[1, 2, 0]]


def test_clips_together_are_the_clips_one_by_one(encoders, monkeypatch):
    encoder = encoders["wav2vec2"]
    clips = [sound(1, seed=1), None, sound(2.5, seed=2), np.zeros(0, np.int16), sound(0.01), sound(1, seed=3)]
    monkeypatch.setattr(Wav2Vec2, "window_rows", 64)  # so that the long one has two windows
    alone = [encoder(samples) for samples in clips]
    monkeypatch.setattr(encoder, "batch", 10**6)
    for found, expected in zip(encoder.encode_batch(clips), alone, strict=True):
        np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
        np.testing.assert_array_equal(found.times, expected.times)
    assert [len(each) for each in alone] == [49, 0, 124, 0, 1, 49]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_processor_gives(encoders, tmp_path):
    clips = [sound(1, seed=1), sound(2.5, seed=2), None]
    for found, samples in zip(Wav2Vec2(Weights("small"), tmp_path, "cuda").encode_batch(clips), clips, strict=True):
        np.testing.assert_allclose(found.values, encoders["wav2vec2"](samples).values, atol=1e-3)


def test_a_long_clip_is_read_window_by_window_on_one_grid(encoders, monkeypatch):
    encoder, samples = encoders["wav2vec2"], sound(3)
    whole = encoder(samples)
    monkeypatch.setattr(Wav2Vec2, "window_rows", 64)
    parts = encoder(samples)
    np.testing.assert_array_equal(parts.times, whole.times)
    # The convolutions agree; the Transformer sees less, so that the hidden states are near and not equal.
    assert np.corrcoef(parts.values.ravel(), whole.values.ravel())[0, 1] > 0.9
    seen, forward = [], encoder.model.forward
    monkeypatch.setattr(encoder.model, "forward", lambda values, **more: seen.append(values.shape[1])
                        or forward(values, **more))
    encoder(samples)
    assert max(seen) == 63 * 320 + 400 and len(seen) == 3


# ---- checkpoints in the layouts in which they are published

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 128, "intermediate_size": 64,
         "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LARGE_KIND = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


class Reference(nn.Module):
    """The emotion model as its authors describe it: the mean over time, a dense layer, tanh, a projection."""

    def __init__(self, **config) -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        super().__init__()
        self.wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**SMALL, **config))
        self.classifier = nn.ModuleDict({"dense": nn.Linear(128, 128), "out_proj": nn.Linear(128, 3)})

    @torch.no_grad()
    def forward(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from transformers import Wav2Vec2FeatureExtractor

        prepare = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, do_normalize=True)
        values = prepare(samples / np.float32(32768), sampling_rate=16000, return_tensors="pt").input_values
        states = self.wav2vec2(values).last_hidden_state
        dense = torch.tanh(self.classifier["dense"](states.mean(dim=1)))
        return states[0].numpy(), self.classifier["out_proj"](dense)[0].numpy()


def reference(seed: int = 0, **config) -> Reference:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Reference(**config).eval()
        # Norms begin as ones and zeros, and a mistake in them would not be seen.
        for value in model.parameters():
            value.data += 0.05 * torch.randn_like(value)
    return model


def published(model: Reference, path: Path, *, old: bool = True, drop: tuple[str, ...] = (), **more) -> Path:
    """The checkpoint of ``model``; ``old`` names the position convolution as older versions of torch did."""
    names = {new: before for before, new in RENAMED.items()} if old else {}
    state = {}
    for key, value in model.state_dict().items():
        inner = key.removeprefix("wav2vec2.")
        key = "wav2vec2." + names[inner] if inner in names else key
        if not key.startswith(drop or ("nothing",)):
            state[key] = value.clone()
    state |= more
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def narrow(monkeypatch):
    """The classes with the width of the small checkpoint."""
    for each, width in ((Wav2Vec2, 128), (Wav2Vec2Outputs, 131), (Wav2Vec2Base, 128)):
        monkeypatch.setattr(each, "hidden", 128)
        monkeypatch.setattr(each, "width", width)


def kept(encoder_class: type[Wav2Vec2], path: Path, folder: Path) -> Wav2Vec2:
    return encoder_class(keep_weights(encoder_class.name, "file", encoder_class.convert(path), folder), folder)


@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin", "new.safetensors", "bare.safetensors"])
def test_a_published_checkpoint_gives_exactly_what_transformers_gives(narrow, tmp_path, layout):
    model, samples = reference(**LARGE_KIND), sound(1.5)
    path = published(model, tmp_path / layout, old=not layout.startswith("new"))
    if layout.startswith("bare"):  # without the outer model's prefix, and with what training leaves behind
        state = {key: value.clone() for key, value in model.wav2vec2.state_dict().items()}
        save_file(state | {"quantizer.codevectors": torch.ones(3)}, path)
    states, outputs = model(samples)
    found = kept(Wav2Vec2, path, tmp_path / "encoders")(samples)
    np.testing.assert_allclose(found.values, states, atol=2e-6)
    assert found.weights.startswith("file:") and states.std() > 0.1
    if not layout.startswith("bare"):
        both = kept(Wav2Vec2Outputs, path, tmp_path / "encoders")(samples)
        np.testing.assert_allclose(both.values[:, :128], states, atol=2e-6)
        np.testing.assert_allclose(both.values[:, 128:], np.tile(outputs, (len(states), 1)), atol=2e-6)
        assert both.names[128:] == ("arousal", "dominance", "valence") and outputs.std() > 0.01
        np.testing.assert_array_equal(both.times, found.times)
        stepped = on_clock(both.values, both.times, 30, 300)
        assert stepped.shape == (44, 131)
        np.testing.assert_allclose(stepped[:, 128:], np.tile(outputs, (44, 1)), atol=2e-6)


def test_the_base_models_kind_and_its_head_of_letters(narrow, tmp_path):
    model, samples = reference(1), sound(1)
    path = published(model, tmp_path / "model.safetensors", drop=("classifier.", "wav2vec2.masked_spec_embed"),
                     **{"lm_head.weight": torch.ones(32, 128), "lm_head.bias": torch.ones(32)})
    encoder = kept(Wav2Vec2Base, path, tmp_path / "encoders")
    assert encoder.model.config.feat_extract_norm == "group" and not encoder.model.config.do_stable_layer_norm
    np.testing.assert_allclose(encoder(samples).values, model(samples)[0], atol=2e-6)


@pytest.mark.parametrize(("change", "words"), [
    ({"drop": ("wav2vec2.encoder.layers.1.final_layer_norm.bias",)}, "no encoder.layers.1.final_layer_norm.bias"),
    ({"drop": ("wav2vec2.encoder.pos_conv_embed",)}, "no encoder.pos_conv_embed"),
    ({"drop": ("wav2vec2.feature_extractor.conv_layers.6",)}, "6 convolutions"),
    ({"drop": ("classifier.out_proj.bias",)}, "no classifier.out_proj.bias"),
    ({"wav2vec2.encoder.more.weight": torch.ones(2)}, "encoder.more.weight is no part"),
    ({"wav2vec2.encoder.layer_norm.weight": torch.ones(7)}, r"has shape \(7,\), expected \(128,\)"),
    ({"classifier.out_proj.weight": torch.ones(8, 128)}, r"has shape \(8, 128\)"),
])
def test_a_checkpoint_that_is_another_is_refused(narrow, tmp_path, change, words):
    drop = change.pop("drop", ())
    path = published(reference(**LARGE_KIND), tmp_path / "model.safetensors", drop=drop, **change)
    with pytest.raises(InputError, match=words) as caught:
        Wav2Vec2Outputs.convert(path)
    assert "\n" not in str(caught.value)


def test_another_width_another_model_and_code_are_refused(tmp_path):
    path = published(reference(**LARGE_KIND), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="a wav2vec 2.0 of 128 features, expected 1024"):
        Wav2Vec2.convert(path)
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "other.bin")
    with pytest.raises(InputError, match="wav2vec 2.0"):
        Wav2Vec2.convert(tmp_path / "other.bin")
    torch.save({"model": Path}, tmp_path / "code.bin")
    with pytest.raises(InputError, match="code.bin"):
        Wav2Vec2.convert(tmp_path / "code.bin")


def test_outputs_are_of_the_whole_window_whatever_is_beside_it(narrow, tmp_path, monkeypatch):
    path = published(reference(**LARGE_KIND), tmp_path / "model.safetensors")
    encoder = kept(Wav2Vec2Outputs, path, tmp_path / "encoders")
    clips = [sound(1, seed=1), None, sound(2.5, seed=2), sound(0.01)]
    alone = [encoder(samples) for samples in clips]
    monkeypatch.setattr(encoder, "batch", 10**6)
    for found, one in zip(encoder.encode_batch(clips), alone, strict=True):
        np.testing.assert_allclose(found.values, one.values, atol=1e-5)
    assert np.ptp(alone[2].values[:, 128:], axis=0).max() == 0
    assert np.abs(alone[0].values[0, 128:] - alone[2].values[0, 128:]).max() > 1e-4


def test_the_papers_minus_three_decibels_reach_no_wav2vec2_and_only_the_level_of_mfcc(encoders, tmp_path, monkeypatch):
    """Section 3.2.2: the peak is brought to -3 dB. What that multiplies the sound by, and what is left of it."""
    import wave as files

    from emibook.preprocess import media

    voice = sound(1) // 16
    heard = {}
    for name, peak in (("as recorded", float(np.abs(voice).max())), ("the paper's", media.PEAK)):
        with files.open(str(tmp_path / "voice.wav"), "wb") as file:
            file.setparams((1, 2, 16000, len(voice), "NONE", ""))
            file.writeframes(voice.astype("<i2").tobytes())
        monkeypatch.setattr(media, "PEAK", peak)
        heard[name] = media.audio(tmp_path / "voice.wav")
    before, after = heard["as recorded"], heard["the paper's"]
    np.testing.assert_array_equal(before, voice)
    gain = 20 * np.log10(np.abs(after.astype(float)).max() / np.abs(before.astype(float)).max())
    assert np.abs(after).max() == round(32767 * 10 ** (-3 / 20)) and gain > 20
    moved = encoders["mfcc"](after).values - encoders["mfcc"](before).values
    # The first coefficient of a cosine transform of 40 bands moves by the gain times the root of 40.
    np.testing.assert_allclose(moved[:, 0], gain * np.sqrt(40), rtol=1e-2)
    assert np.abs(moved[:, 1:20]).max() < 0.02 * moved[:, 0].min()  # rounding to 16 bits
    for encoder in (encoders["wav2vec2"], Wav2Vec2Base(Weights("small"), tmp_path)):
        one, other = encoder(before).values, encoder(after).values
        assert np.abs(one - other).max() < 5e-3 * np.abs(one).max()


@pytest.mark.skipif(not os.environ.get("EMIBOOK_FULL_SIZE"), reason="set EMIBOOK_FULL_SIZE=1: 3 GiB and a minute")
def test_the_published_size():
    """A checkpoint of the real architecture and size: every key is used, and the shapes are the documented ones."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    import wav2vec2 as benchmark

    found = benchmark.measure()
    print(found)
    first, theirs = found["ours, first"], found["transformers"]
    assert first["keys"] == found["make"]["keys"] and (first["rows"], first["columns"]) == (249, 1027)
    assert 164e6 < first["parameters"] < 166e6
    assert first["sum"] == pytest.approx(theirs["sum"], rel=1e-5) == found["ours, again"]["sum"]
