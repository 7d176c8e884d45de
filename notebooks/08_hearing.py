# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sound and hearing

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
weights = {"vit": "small", "wav2vec2": "small"}

# %% tags=["hide-input"]
import time
from importlib.util import find_spec
from tempfile import TemporaryDirectory

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue
from scipy.fft import dct, idct
from scipy.signal import butter, sosfilt

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.features import copy_encoders, extract, feature_table, load_encoder, store
from emibook.features.mfcc import MFCC
from emibook.models.ridge import time_averages
from emibook.preprocess import SAMPLE_RATE, preprocess, read_audio
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **What is left of a voice when it has become a table of numbers?**
#
# You are on the telephone with somebody you know well. After two words you know that something is wrong. What did you
# hear? Not the words. The voice was a little lower than usual, slower, there was more breath in it. The line was bad, and
# she held the telephone far from her mouth, and you subtracted both without noticing.
#
# A microphone gives 16,000 numbers a second. Whatever tells the mood is in there, together with the room, the
# telephone, and how far off the mouth was. Every way to turn sound into features is a decision about what to subtract.
#
# You will
#
# - read a level, and find out what the paper's -3 dB do;
# - turn a waveform into a spectrogram, mel bands and MFCC, by hand, and get the library's numbers;
# - look at what others measure: pitch, loudness, pictures of sound, hidden states;
# - lay all of them over one clip on one time axis;
# - test which of the paper's steps reach the features at all, and what a bad line does to them.
#
# ## What the paper says
#
# > "Before extracting the audio features, we normalized all audio files to -3 dB and converted them to a format of 16 kHz,
# > 16-bit mono." (section 3.2.2)
#
# > "We derive audio signal features by averaging the representations from the final layer of the model, resulting in a
# > 768-dimensional embedding." (section 3.2.2)
#
# > "MFCC features capture the spectral characteristics of audio signals by transforming the power spectrum of the signal
# > into the mel frequency domain and applying the discrete cosine transform." (section 2.2)
#
# ## Level
#
# Sound is pressure against time. Its *level* is told in decibels (dB), twenty times the logarithm of the amplitude to
# the base of ten, and nought is the largest number that the file can hold. Preprocessing has multiplied every clip so
# that its highest peak lies at -3.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
names = ["mfcc", "wav2vec2"]
given = {name: weights[name] for name in names if name in weights}
extract(corpus, work, names, weights=given, resources=Resources(progress=False))
usable = done[(done["faces"] > 60) & (done["audio_seconds"] > 1)].sort_values("faces")
clip = usable.index[len(usable) * 3 // 4]
samples = read_audio(work, clip)
sound = samples / 2**15
seconds = np.arange(len(sound)) / SAMPLE_RATE
peak = 20 * np.log10(np.abs(sound).max())

# %%
levels = {}
for each in usable.index[:: max(1, len(usable) // 150)]:
    heard = read_audio(work, each) / 2**15
    levels[each] = 10 * np.log10(np.square(heard).mean() + 1e-12)
levels = pd.Series(levels)

# %% mystnb={"image": {"alt": "Two panels. Above, a waveform over seconds, bursts of syllables between quieter stretches. Below, a histogram of the mean levels of all clips in decibels, spread over several decibels although all have the same peak."}, "figure": {"caption": "The waveform of one clip (above), and the mean level of all clips (below). All of them have the same peak.", "name": "hear-level"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.8))
axes[0].plot(seconds, sound, linewidth=0.4)
axes[0].set(xlabel="seconds", ylabel="amplitude")
axes[1].hist(levels[levels > -60], bins=30)
axes[1].set(xlabel="mean level, dB", ylabel="clips")
plt.show()

# %% tags=["remove-cell"]
glue("hear_clip", clip, display=False)
glue("hear_peak", f"{peak:.1f}", display=False)
glue("hear_spread", f"{levels[levels > -60].std():.1f}", display=False)

# %% [markdown]
# The peak of clip {glue:text}`hear_clip` is at {glue:text}`hear_peak` dB. The mean levels still differ, with a standard
# deviation of {glue:text}`hear_spread` decibels: one cough sets the peak, and the voice beneath it is turned down. What
# the step throws away for good is how loud the person was, compared with other clips. Hold on to the question of whether
# it matters.
#
# ## From a wave to coefficients
#
# The ear takes sound apart into frequencies. So does a Fourier transform, over a window of 25 thousandths of a second,
# a hundred times a second. What comes out is a *spectrogram*. In a voice it shows two things at once: narrow lines, the
# multiples of the pitch, made by the vocal folds; and broad bands over them, made by the shape of the mouth.

# %% mystnb={"image": {"alt": "A spectrogram up to four thousand hertz: bright bands on a dark ground, in syllables, with a blue line for the pitch low in the picture."}, "figure": {"caption": "The spectrogram of the clip up to 4 kHz, and the measured pitch.", "name": "hear-spectrogram"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
pitch = figures.show_voice(sound, SAMPLE_RATE, ax)
ax.set_xlabel("seconds")
plt.show()

# %% [markdown]
# We hear low frequencies finely and high ones coarsely, and loudness as a logarithm. *Mel bands* imitate the first: forty
# of them, narrow below and wide above. Decibels imitate the second. The last step {cite:p}`davis1980` is a cosine transform
# over the bands: how much of the spectrum is a level, how much a slope, a bow, two bows, and so on. The first
# coefficients hold the broad shape, the mouth; the fine lines of the pitch are in those that are dropped. Twenty are
# kept here. They are the *mel-frequency cepstral coefficients*, MFCC.

# %%
window = {key: MFCC.settings[key] for key in ("n_fft", "win_length", "hop_length")}
power = np.abs(librosa.stft(sound.astype(np.float32), **window)) ** 2
bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=window["n_fft"], n_mels=40) @ power
decibels = librosa.power_to_db(bands)
by_hand = dct(decibels, axis=0, norm="ortho")[:20].T

# %%
places = {name: store.clip_path(store.feature_folder(work, name), clip) for name in names}
stored = {name: store.load(path) for name, path in places.items()}
difference = np.abs(stored["mfcc"].values[:, :20] - by_hand).max()

# %% mystnb={"image": {"alt": "One jagged curve of decibels over forty mel bands, and two smooth curves through it: one with five coefficients that only follows its broad slope, one with twenty that follows most bends."}, "figure": {"caption": "One moment of the clip: forty mel bands (dots), and what five and twenty coefficients keep of them.", "name": "hear-envelope"}}
loudest = int(bands.sum(axis=0).argmax())
column = dct(decibels[:, loudest], norm="ortho")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
ax.plot(decibels[:, loudest], ".-", color=figures.GREY, linewidth=0.6, label="bands")
for count, line in ((5, "--"), (20, "-")):
    kept = np.where(np.arange(40) < count, column, 0)
    ax.plot(idct(kept, norm="ortho"), line, label=f"{count} coefficients")
ax.set(xlabel="mel band", ylabel="dB")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("hear_difference", f"{difference:.1g}", display=False)
glue("hear_largest", f"{np.abs(by_hand).max():.0f}", display=False)

# %% [markdown]
# By hand and by the library the coefficients differ by {glue:text}`hear_difference` at most, where the largest are about
# {glue:text}`hear_largest`. The library adds their slopes over time, twenty more columns. {numref}`hear-envelope` shows
# why few are enough: turned back into bands, five follow the broad course of a moment's spectrum, twenty most of its
# bends.
#
# ## What others measure
#
# **eGeMAPS** {cite:p}`eyben2016` is a list on which voice researchers agreed: pitch, loudness, the slope of the spectrum,
# how regularly the folds swing. The paper mentions it and does not use it. The library has it by way of opensmile, whose
# licence allows research only, so it is not installed unless asked for. Two of its curves, or ours in their place:

# %%
if find_spec("opensmile"):
    import opensmile

    measure = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02,
                              opensmile.FeatureLevel.LowLevelDescriptors)
    table = measure.process_signal(sound, SAMPLE_RATE)
    columns = {"pitch": "F0semitoneFrom27.5Hz_sma3nz", "loudness": "Loudness_sma3"}
    curves = {name: table[column].to_numpy() for name, column in columns.items()}
    made_by = "opensmile"
else:
    semitones = 12 * np.log2(np.nan_to_num(pitch, nan=27.5) / 27.5)
    loudness = librosa.feature.rms(y=sound, hop_length=160)[0]
    curves = {"pitch": semitones, "loudness": loudness}
    made_by = "librosa, because opensmile is not installed here"

# %% mystnb={"image": {"alt": "Two curves over seconds. The pitch in semitones stands high during syllables and at nought between them; the loudness rises and falls with the syllables."}, "figure": {"caption": "Pitch in semitones above the lowest key of a piano, nought where there is no voice, and loudness.", "name": "hear-egemaps"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.2), sharex=True)
for ax, (name, curve) in zip(axes, curves.items(), strict=True):
    ax.plot(np.arange(len(curve)) / 100, curve)
    ax.set(ylabel=name)
axes[-1].set_xlabel("seconds")
plt.show()

# %% tags=["remove-cell"]
glue("hear_made_by", made_by, display=False)

# %% [markdown]
# (Measured by {glue:text}`hear_made_by`.)
#
# **DeepSpectrum** {cite:p}`amiriparian2017` paints the spectrogram in the colours of a map, shows it to a network that
# was trained on photographs, and reads what one of its last layers answers. It sounds like a joke and works better than
# it should. This is what the network is shown:

# %% mystnb={"image": {"alt": "A square picture in blue, green and yellow: a spectrogram without axes, low frequencies at the bottom, syllables as bright blotches."}, "figure": {"caption": "A second of the clip as a picture for a network that knows photographs.", "name": "hear-picture"}}
second = decibels[:, max(0, loudest - 50) : loudest + 50]
picture = (second - second.min()) / np.ptp(second)
fig, ax = plt.subplots(figsize=(2.2, 2.2))
ax.imshow(plt.get_cmap("viridis")(picture[::-1]), aspect="auto")
ax.set_axis_off()
plt.show()

# %% [markdown]
# **wav2vec 2.0** {cite:p}`baevski2020` does none of this. Seven convolutions learn what to listen for, straight from the
# wave; a Transformer above them learns, from speech with gaps in it, what fits into a gap. What its last layer gives
# out, its *hidden states*, 50 rows a second, is the paper's sound. A row of the public large model, which the paper's words
# describe, has 1,024 numbers and not the 768 of the quotation; chapter 15 comes back to that. The states of this page
# are an untrained control unless the profile says otherwise; they have the shape and none of the knowledge.
#
# ## One clip, one axis

# %%
panels = {"mel bands": decibels}
for name, each in stored.items():
    scaled = (each.values - each.values.mean(axis=0)) / (each.values.std(axis=0) + 1e-6)
    order = np.argsort(np.linalg.svd(scaled, full_matrices=False)[2][0])
    panels[name] = scaled[:, order].T

# %% mystnb={"image": {"alt": "Three panels over the same seconds. Mel bands in dark and bright colours with syllables; forty rows of MFCC and about a thousand rows of hidden states in red and blue, which change where the syllables change."}, "figure": {"caption": "One clip on one time axis: forty mel bands, forty MFCC and slopes, and the hidden states of wav2vec. In the lower two a row is a feature, red above and blue below its own mean.", "name": "hear-panels"}}
fig, axes = plt.subplots(3, 1, figsize=(figures.WIDTH, 5.2), sharex=True)
for ax, (name, panel) in zip(axes, panels.items(), strict=True):
    extent = (0, seconds[-1], 0, len(panel))
    signed = {"cmap": "RdBu_r", "vmin": -2.5, "vmax": 2.5}
    look = signed if name in stored else {"cmap": "magma"}
    ax.imshow(panel, aspect="auto", origin="lower", extent=extent, **look)
    ax.set(ylabel=name, yticks=[])
axes[-1].set_xlabel("seconds")
plt.show()

# %% [markdown]
# ## What reaches the features?
#
# Back to the -3 dB. Play the clip at a quarter of its amplitude, and extract everything anew.

# %%
with TemporaryDirectory() as folder:  # the encoders that made the features of this page
    copy_encoders(work, names, folder)
    encoders = {name: load_encoder(name, f"{folder}/encoders") for name in names}
quiet = np.rint(samples * 0.25).astype(np.int16)
before = {name: encoder(samples).values for name, encoder in encoders.items()}
after = {name: encoder(quiet).values for name, encoder in encoders.items()}
moved = after["mfcc"][:, :20] - before["mfcc"][:, :20]

# %%
by_column = {name: np.abs(after[name] - before[name]).mean(axis=0) / before[name].std(axis=0)
             for name in names}
changes = {
    "mfcc, first": by_column["mfcc"][0],
    "mfcc, others": by_column["mfcc"][1:20].mean(),
    "mfcc, slopes": by_column["mfcc"][20:].mean(),
    "wav2vec2": by_column["wav2vec2"].mean(),
}

# %% mystnb={"image": {"alt": "Four horizontal bars on a logarithmic axis. The bar of the first coefficient is by far the longest; those of the other coefficients, the slopes and wav2vec are shorter by far."}, "figure": {"caption": "How far a quarter of the amplitude moves each kind of feature, as a share of what it moves by itself over the clip.", "name": "hear-gain"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.2))
ax.barh(list(changes), list(changes.values()))
ax.set(xscale="log", xlabel="change, in standard deviations over the clip")
ax.invert_yaxis()
plt.show()

# %% tags=["remove-cell"]
glue("hear_first", f"{np.median(moved[:, 0]):.1f}", display=False)
glue("hear_others", f"{changes['mfcc, others']:.3f}", display=False)
glue("hear_wav2vec", f"{changes['wav2vec2']:.3f}", display=False)

# %% [markdown]
# The first coefficient is the level, and moves by {glue:text}`hear_first`, in nearly every row alike. The other nineteen
# move by {glue:text}`hear_others` of their own standard deviation; that is left by the quietest moments, where rounding
# begins. And wav2vec 2.0 moves by {glue:text}`hear_wav2vec`, which is the rounding of the quiet copy: its own first step
# subtracts the mean of the wave and divides by its spread. So *the paper's -3 dB never reach its sound features*. They
# do no harm. But whoever repeats the work can save the step, and nobody can claim that it helped.
#
# ## What goes wrong otherwise: the line, not the voice
#
# A gain is the least that a microphone does. A telephone passes only the middle frequencies. Send some clips over
# such a line, and ask how far their MFCC, averaged over time and clips, move. As a measure take how much clips differ
# anyway: the standard deviation from clip to clip.

# %%
line = butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos")
some = usable.index[:: max(1, len(usable) // 15)]
direct, called = [], []
for each in some:
    heard = read_audio(work, each)
    through = np.clip(sosfilt(line, heard), -(2**15), 2**15 - 1).astype(np.int16)
    direct.append(encoders["mfcc"](heard).values[:, :20].mean(axis=0))
    called.append(encoders["mfcc"](through).values[:, :20].mean(axis=0))
everyday = np.nanstd(time_averages(load(corpus, work, "mfcc", "train"))[:, :20], axis=0)
harm = np.abs(np.mean(called, axis=0) - np.mean(direct, axis=0)) / everyday

# %% mystnb={"image": {"alt": "Twenty bars, one a coefficient, of how far a telephone line moves it. Many of them stand above a dashed level at one, some far above."}, "figure": {"caption": "How far a telephone line moves the average of each coefficient, in standard deviations between clips. Dashed: as far as clips differ anyway.", "name": "hear-line"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.bar(range(20), harm)
ax.axhline(1, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="coefficient", ylabel="standard deviations")
ax.set_xticks(range(0, 20, 5))
plt.show()

# %% tags=["remove-cell"]
glue("hear_harm", f"{np.median(harm):.1f}", display=False)
glue("hear_harmed", int((harm > 1).sum()), display=False)

# %% [markdown]
# {glue:text}`hear_harmed` of the twenty move further than clips differ anyway; the median coefficient moves by
# {glue:text}`hear_harm` standard deviations. A model that learnt from good microphones hears another world over a bad
# one. If the people with the bad microphones also feel something else, or come from another place, it will learn the
# microphone. The puppets all have the same one, so this page shows the shift and not what it costs.
#
# ## Every feature set there is
#
# This chapter and the last showed the sets that need nothing fetched. The library knows more, from the paper's
# related work and from the data set itself. This table is made from its registry; any name in it can be a row of the
# tables: `emibook tables ROOT --work WORK --rows facenet egemaps`.

# %% tags=["hide-input"]
pd.options.display.max_colwidth = None
every = pd.DataFrame(feature_table()).set_index("features")
every[["from", "dimension", "rate", "model"]]

# %% [markdown]
# Where their numbers come from, and who may use them. *Untrained* and *small* are random numbers, for trying things
# out; *builtin* is fitted on drawings.

# %% tags=["hide-input"]
sources = every["source"].str.removeprefix("https://").str.replace("/", "/\u200b")
every[["weights", "licence"]].assign(source=sources)  # lines may break behind a slash

# %% [markdown]
# ## Exercises

# %% [markdown]
# ```{exercise-start} Half
# :label: hear-exercise-half
# ```
# By how many decibels does the level change when the amplitude is halved?
#
# Give the change, with its sign: `emibook.check_exercise("8.1", change)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} hear-exercise-half
# :class: dropdown
# ```
# Twenty times the logarithm to the base of ten.

# %%
change = 20 * np.log10(0.5)
emibook.check_exercise("8.1", change)
round(float(change), 2)

# %% [markdown]
# Half the *power* would be half as many: power is the square of the amplitude.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The first coefficient
# :label: hear-exercise-first
# ```
# A quarter of the amplitude lowers every one of the forty bands by the same number of decibels. The cosine transform
# here is orthonormal, so the first coefficient is the sum of the bands, divided by the root of forty. By how much does
# it move? Compare with the page.
#
# Give the shift, with its sign: `emibook.check_exercise("8.2", shift)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} hear-exercise-first
# :class: dropdown
# ```
# Forty times the same, over the root of forty.

# %%
shift = 20 * np.log10(0.25) * np.sqrt(40)
emibook.check_exercise("8.2", shift)
round(float(shift), 1), round(float(np.median(moved[:, 0])), 1)

# %% [markdown]
# All other cosines add up to nought over the bands, which is why the other coefficients do not feel a gain.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Three seconds
# :label: hear-exercise-rows
# ```
# The convolutions of wav2vec 2.0 make a row of 400 samples, and the next row begins 320 samples later. How many whole
# rows are there in three seconds of sound at 16 kHz? Why is it not three times fifty?
#
# Give their number: `emibook.check_exercise("8.3", rows)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} hear-exercise-rows
# :class: dropdown
# ```
# After the first 400 samples, a row for every 320 more.

# %%
rows = 1 + (3 * SAMPLE_RATE - 400) // 320
emibook.check_exercise("8.3", rows)
rows

# %% [markdown]
# The last one would look beyond the end. A page that says "50 a second" rounds.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - seen clips of one peak differ in level, and asked what -3 dB are for;
# - computed MFCC by hand, and found the library's numbers;
# - met pitch and loudness, a picture of sound, and hidden states;
# - laid three of them over one clip;
# - shown that a gain never reaches wav2vec 2.0, and that a telephone line reaches MFCC very well.
#
# ## Sources
#
# The paper, sections 2.2 and 3.2.2 {cite:p}`yu2024`; MFCC {cite:p}`davis1980`; eGeMAPS {cite:p}`eyben2016`; DeepSpectrum
# {cite:p}`amiriparian2017`; wav2vec 2.0 {cite:p}`baevski2020`; pitch by the YIN method {cite:p}`decheveigne2002`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus and features there already.
