"""The ways to read a clip's features as steps, each against the plain words."""

from __future__ import annotations

import feature_corpus
import numpy as np
import pytest

from emibook import InputError
from emibook.sequences.timeline import SequenceConfig, joined, on_clock

RAMP = np.arange(900.0)[:, None]


def test_uniform_sampling_reaches_from_the_first_step_to_the_last():
    faces = feature_corpus.sequence("aus", RAMP)
    values, _ = joined([faces], "V", SequenceConfig(sampling="uniform"))
    assert len(values) == 300 and values[0, 0] == 0 and values[-1, 0] == 899
    assert set(np.diff(values[:, 0])) <= {3.0, 4.0, 2.0}
    short, _ = joined([feature_corpus.sequence("aus", RAMP[:200])], "V", SequenceConfig(sampling="uniform"))
    np.testing.assert_array_equal(short, RAMP[:200])
    sound = feature_corpus.sequence("wav2vec2", np.arange(2000.0)[:, None])  # forty seconds at fifty a second
    heard, _ = joined([sound], "A", SequenceConfig(sampling="uniform"))
    assert len(heard) == 300 and heard[0, 0] < 2 and heard[-1, 0] > 1997


def test_a_long_clip_on_the_clock_is_its_pieces():
    """As far as a piece reaches, steps are those of the clip cut there."""
    rng = np.random.default_rng(0)
    times = np.arange(4000) / 50
    values = rng.normal(size=(4000, 2)).astype(np.float32)
    whole = on_clock(values, times, 30, np.inf)
    assert len(whole) == pytest.approx(2400, abs=1)
    np.testing.assert_allclose(whole[:300], on_clock(values, times, 30, 300), atol=1e-6)
    for first in (299, 300, 301, 1500):
        edges = np.array([first, first + 1]) / 30
        starts, ends = times - 0.01, times + 0.01
        overlap = (np.minimum(ends, edges[1]) - np.maximum(starts, edges[0])).clip(min=0)
        np.testing.assert_allclose(whole[first], overlap @ values / overlap.sum(), atol=1e-4)


def test_gaps_kept_are_rows_of_nan_at_their_place_on_the_clock():
    frames = np.array([2, 3, 7, 8, 310])
    faces = feature_corpus.sequence("aus", RAMP[frames], frames / 30)
    closed, _ = joined([faces], "V")
    np.testing.assert_array_equal(closed[:, 0], frames)
    kept, _ = joined([faces], "V", SequenceConfig(gaps="kept"))
    assert len(kept) == 9  # what follows the last face within the 300 steps is padding
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(kept[:, 0])), frames[:4])
    np.testing.assert_array_equal(kept[frames[:4], 0], frames[:4])
    late = feature_corpus.sequence("aus", RAMP[:3], np.array([11.0, 12.0, 13.0]))
    assert len(joined([late], "V", SequenceConfig(gaps="kept"))[0]) == 0 and len(joined([late], "V")[0]) == 3
    nothing = feature_corpus.sequence("aus", RAMP[:0])
    assert joined([nothing], "V", SequenceConfig(gaps="kept"))[0].shape == (0, 1)


def test_sound_at_its_own_rate_is_the_rows_as_they_are():
    sound = feature_corpus.sequence("wav2vec2", RAMP)
    values, _ = joined([sound], "A", SequenceConfig(sound="own"))
    np.testing.assert_array_equal(values, RAMP[:300])  # six seconds
    with pytest.raises(InputError, match="different rates .wav2vec2 50, mfcc 100 per second."):
        joined([sound, feature_corpus.sequence("mfcc", RAMP[:50], np.arange(50) / 100)], "A",
               SequenceConfig(sound="own"))


def test_the_mean_of_the_sound_is_over_the_whole_clip():
    sound = feature_corpus.sequence("wav2vec2", RAMP)
    np.testing.assert_allclose(joined([sound], "A", SequenceConfig(sound="mean"))[0], [[449.5]])
    assert len(joined([feature_corpus.sequence("wav2vec2", RAMP[:0])], "A", SequenceConfig(sound="mean"))[0]) == 0


def test_faces_do_not_ask_how_sound_is_read_and_wrong_options_list_the_right_ones():
    assert SequenceConfig(sound="mean").of("V") == SequenceConfig().of("V") != SequenceConfig(gaps="kept").of("V")
    assert SequenceConfig(gaps="kept").of("A") == SequenceConfig().of("A") != SequenceConfig(sound="own").of("A")
    with pytest.raises(InputError, match="sound 'loud': choose one of clock, own, mean"):
        SequenceConfig(sound="loud")
    with pytest.raises(InputError, match="0 steps"):
        SequenceConfig(steps=0)
