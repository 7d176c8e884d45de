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
# # The baseline that must be beaten

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
seeds = 2
weights = {"vit": "small", "wav2vec2": "small"}

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import TABLE_FEATURES, banner, listing, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.evaluation import bootstrap_interval
from emibook.experiments import paper_tables
from emibook.features import extract
from emibook.metrics import mean_pearson, pearson
from emibook.models.ridge import RidgeOnAverages, time_averages
from emibook.preprocess import preprocess
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load
from emibook.studies.human.people import rows as people_rows

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **How far does one get with no network at all?**
#
# Somebody sells you a machine that tells ripe melons from unripe ones. It has a camera, a microphone and close to a
# million parts. Before you pay, you ask the man who has sold melons all his life. He weighs one in his hand and knocks
# on it. He is right nearly as often. The machine may still be worth its price; but now you know what you would be
# paying for.
#
# The paper's branch for the face, as it is rebuilt here, has convolutions, attention and more than eight hundred
# thousand weights (chapters 10 and 11 take it apart and count them). Against it we set this: average each feature over
# the clip, and draw a straight line. It takes hardly any time, has nothing random in it, and knows nothing of what came
# first in the clip. When somebody tuned such simple things for recommender systems, most of the new networks that could
# be repeated at all lost to them {cite:p}`dacrema2019`.
#
# You will
#
# - fit a line on a leash, watch the leash shorten, and let people who are left out choose its length;
# - read from the slopes which movement of the face speaks for which emotion;
# - set this baseline beside the networks of the paper, row by row, with intervals;
# - shuffle the labels and see what is left, which had better be nothing.
#
# ## What the paper says
#
# > "The experimental results are presented in Table 2. It is evident from Table 2 that combining our extracted features
# > with the official ones led to performance improvements over the baseline on the validation set." (section 4.3)
#
# *The baseline* there is the organisers' {cite:p}`kollias2024`: for sound a linear layer on averages over time, trained
# by gradient descent, for faces a recurrent network. The first is nearly the thing of this chapter.
#
# ## A line on a leash
#
# A clip becomes one row: the mean of each feature over its steps. Take action units (chapter 7): 34 columns, the
# intensity of 17 movements of the face and whether each is there at all. The prediction is a sum, each column times a
# number of its own, its *slope*. On few clips ordinary least squares finds slopes that fit the training clips very
# well, because with so many slopes one can fit luck. *Ridge regression* {cite:p}`hoerl1970` puts every slope on a
# leash. It makes the squared error small, plus a penalty $\lambda$ times the squared slopes:
#
# $$\min_w \; \sum_i (y_i - x_i^{\top} w)^2 + \lambda \sum_j w_j^2$$
#
# The slopes that do so are
#
# $$w = (X^{\top} X + \lambda I)^{-1} X^{\top} y$$
#
# Here $x_i$ is the row of clip $i$ and $y_i$ its label for one emotion; $w$ are the slopes, one for each feature $j$;
# and $X$ has all rows under one another. The larger the penalty, the shorter the leash. Features must be on one scale
# first, or the leash would be tighter for some than for others, only because of their units.

# %%
preprocess(corpus, work, resources=Resources(progress=False))
extract(corpus, work, TABLE_FEATURES, weights=weights, resources=Resources(progress=False))
train, valid = (load(corpus, work, "aus", partition) for partition in ("train", "valid"))

# %%
truth, people = valid.targets, list(valid.participants)
inputs = time_averages(train)[train.present]
labels = train.targets[train.present].astype(float)
centre, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
X, y = (inputs - centre) / scale, labels - labels.mean(axis=0)
fresh = np.nan_to_num((time_averages(valid) - centre) / scale)

# %%
penalties = np.geomspace(1e-2, 1e5, 29)
unit = np.eye(X.shape[1])
paths = np.stack([np.linalg.solve(X.T @ X + each * unit, X.T @ y) for each in penalties])
on_train = [mean_pearson(labels, X @ slopes) for slopes in paths]
on_valid = [mean_pearson(truth, fresh @ slopes) for slopes in paths]

# %% mystnb={"image": {"alt": "Two panels over the penalty on a logarithmic axis. Above, thirty-four lines, the slopes, which are spread wide at the left and run together to nought at the right. Below, the score on training clips falls steadily from left to right while that on validation clips rises first, stays, and falls last."}, "figure": {"caption": "The last emotion's slopes (above), and the mean score on training and on validation clips (below), as the leash gets shorter from left to right.", "name": "base-leash"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 4.6), sharex=True)
axes[0].semilogx(penalties, paths[:, :, -1], linewidth=0.8, color=figures.GREY)
axes[0].set(ylabel="slopes")
axes[1].semilogx(penalties, on_train, "--", label="train")
axes[1].semilogx(penalties, on_valid, label="valid")
axes[1].set(ylabel="mean correlation", xlabel="penalty")
axes[1].legend()
plt.show()

# %% [markdown]
# The longer the leash, the better it fits what it was fitted on. On new people there is a best length in between. It
# must not be read off the curve of `valid`, which would be choosing on what one reports (chapter 3). The library leaves
# out a fifth of the *training people* at a time, tries every penalty on them, and takes the best for each emotion. That
# is *cross-validation*; `person % FOLDS` says in which turn somebody is left out:

# %%
listing(RidgeOnAverages.fit)

# %%
model = RidgeOnAverages.fit(train)
baseline = model.predict(valid)
interval = bootstrap_interval(truth, [baseline], people, names=corpus.targets)
round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)

# %% tags=["remove-cell"]
glue("base_score", f"{interval.mean:.3f}", display=False)
glue("base_low", f"{interval.low:.2f}", display=False)
glue("base_high", f"{interval.high:.2f}", display=False)
glue("base_best", f"{max(on_valid):.3f}", display=False)
glue("base_free", f"{on_valid[0]:.3f}", display=False)
glue("base_clips", len(X), display=False)

# %% [markdown]
# From {glue:text}`base_clips` training clips it scores {glue:text}`base_score`, with an interval from
# {glue:text}`base_low` to {glue:text}`base_high`. With the smallest penalty of the curves it would have been
# {glue:text}`base_free`; with the one penalty for all emotions that does best on the validation clips, which nobody may
# use, {glue:text}`base_best`. (The library chooses one for each emotion, so it can even be above that.)
#
# ## It can be read
#
# A slope says: if this movement is one standard deviation stronger on average over the clip, and all others are as they
# were, the prediction is so much higher. No picture of a network's attention (chapter 11) says as much.

# %%
units = [name for name in train.names if name.endswith("_r")]
columns = [train.names.index(name) for name in units]
slopes = pd.DataFrame(model.slopes[columns], units, corpus.targets)
strongest = slopes.idxmax()

# %% mystnb={"image": {"alt": "A table of coloured squares, seventeen rows of action units by six columns of emotions, red for positive slopes and blue for negative ones. Most squares are pale; in each column a few stand out."}, "figure": {"caption": "Slopes of the seventeen intensities for each emotion, red where a stronger movement raises the label.", "name": "base-slopes"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 5))
limit = np.abs(slopes.to_numpy()).max()
ax.imshow(slopes, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
words = [f"{unit[:4]} {figures.UNIT_WORDS[unit[:4]]}" for unit in units]
ax.set_yticks(range(len(units)), words)
ax.set_xticks(range(len(corpus.targets)), corpus.targets, rotation=45, ha="right")
plt.show()

# %% tags=["remove-cell"]
told = [f"{emotion}: {figures.UNIT_WORDS[unit[:4]]}" for emotion, unit in strongest.items()]
glue("base_strongest", "; ".join(told), display=False)

# %% [markdown]
# The strongest movement for each: {glue:text}`base_strongest`. On drawings these can be held against how the faces were
# drawn (chapter 5). On people nobody knows the right table, and a slope is no cause: movements come together, and
# ridge shares what they explain among them.
#
# ## Beside the networks
#
# Now the rows of Table 2, as this corpus gives them, each beside the line on a leash with the same features, the same
# clips and an interval over the same people. Each row is one feature set (chapters 7 and 8) through the paper's
# network; chapter 12 trains it, here it is enough that it is done.

# %%
table2, _ = paper_tables.tables(
    corpus, work, seeds=seeds, reference_rows=people_rows(corpus),
    resources=Resources(progress=False))
networks = table2[~table2["features"].str.contains("baseline")].set_index("features")
lines = {}
for name in networks.index:
    parts = [load(corpus, work, name, partition) for partition in ("train", "valid")]
    guess = RidgeOnAverages.fit(parts[0]).predict(parts[1])
    lines[name] = bootstrap_interval(truth, [guess], people)

# %% mystnb={"image": {"alt": "A row for each feature set, with two dots and their intervals: the network of the paper as a filled dot, the ridge regression on averages as a square. In several rows the two intervals overlap."}, "figure": {"caption": "The same features through the paper's branch (dots, mean of the seeds) and through ridge regression on averages (squares). Lines are intervals over participants.", "name": "base-beside"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
for place, (name, line) in enumerate(lines.items()):
    row = networks.loc[name]
    ax.plot([row["low"], row["high"]], [place - 0.12] * 2, color=figures.BLUE)
    ax.plot(row["mean"], place - 0.12, "o", color=figures.BLUE)
    ax.plot([line.low, line.high], [place + 0.12] * 2, color=figures.ORANGE)
    ax.plot(line.mean, place + 0.12, "s", color=figures.ORANGE)
ax.plot([], [], "o", color=figures.BLUE, label="network")
ax.plot([], [], "s", color=figures.ORANGE, label="ridge on averages")
ax.set_yticks(range(len(lines)), list(lines))
ax.set(xlabel="mean Pearson correlation, validation")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
wins = [name for name, line in lines.items() if line.mean > networks.loc[name, "mean"]]
glue("base_wins", len(wins), display=False)
glue("base_rows", len(lines), display=False)
glue("base_which", ", ".join(wins) or "none", display=False)

# %% [markdown]
# In {glue:text}`base_wins` of {glue:text}`base_rows` rows the line scores higher than the network
# ({glue:text}`base_which`). Before you conclude anything, read the small print of both. The network's epoch was chosen
# on these validation clips, which flatters it; its weights started at random. From {glue:text}`base_clips` clips there
# is little for it to learn, and in a drawn corpus the height of an expression says nearly everything. With the paper's
# eight thousand clips the order may be another one. And whether one of the two is really ahead, only the interval of
# their difference would tell (chapter 3). What does not change is the question: *what did all those weights add?*
#
# ## What goes wrong otherwise
#
# A score above nought is not yet a method that works. Perhaps it is luck, perhaps the metric gives something for
# nothing, perhaps the validation labels came in by a back door. One test asks for all of these at once: shuffle the
# labels among the training clips, fit again, and score as before. Whatever is left did not come from the training
# labels. (It does not find everything. If people were in both partitions, shuffling would destroy what that is worth,
# too; so the names are compared, as in chapter 1.) One penalty for all, the number of clips, spares the five hundred
# fits the search; `inverse` is the part of the formula that stays the same when labels are shuffled.

# %%
rng = np.random.default_rng(seed)
penalty = len(X)
inverse = np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T)
shuffled = [mean_pearson(truth, fresh @ inverse @ rng.permutation(y)) for _ in range(500)]

# %% mystnb={"image": {"alt": "Histogram of the scores of five hundred shuffled fits, spread around nought, with an upright line far to the right for the fit to the real labels."}, "figure": {"caption": "Scores with shuffled training labels (bars), and with the real ones (line).", "name": "base-shuffled"}}
real = mean_pearson(truth, fresh @ inverse @ y)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.hist(shuffled, bins=30, color=figures.GREY, alpha=0.6)
ax.axvline(real, color=figures.BLUE)
ax.set(xlabel="mean correlation", ylabel="shuffles")
plt.show()

# %% tags=["remove-cell"]
glue("base_shuffled_mean", f"{np.mean(shuffled):+.3f}", display=False)
glue("base_shuffled_top", f"{np.quantile(shuffled, 0.975):.2f}", display=False)
glue("base_beyond", int(np.sum(np.array(shuffled) >= real)), display=False)

# %% [markdown]
# With shuffled labels the mean score is {glue:text}`base_shuffled_mean`, and 975 of a thousand lie below
# {glue:text}`base_shuffled_top`. Of five hundred shuffles, {glue:text}`base_beyond` reach the score of the real labels.
# Note how wide nothing is: on a corpus of this size a score below {glue:text}`base_shuffled_top` may be luck.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} A short leash, by hand
# :label: base-exercise-leash
# ```
# Three clips, one feature: $x$ is -1, 0 and 1, $y$ is -1, 0 and 2. Without an offset, what slope does ridge regression
# find with the penalty 1? And without a penalty?
#
# Give the slope with the penalty: `emibook.check_exercise("9.1", slope)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} base-exercise-leash
# :class: dropdown
# ```
# The sum of the products, over the sum of the squares and the penalty.

# %%
across, up = np.array([-1, 0, 1]), np.array([-1, 0, 2])
slope, unleashed = (across @ up / (across @ across + penalty) for penalty in (1, 0))
emibook.check_exercise("9.1", slope)
float(slope), float(unleashed)

# %% [markdown]
# The leash costs a third of the slope here. With a hundred such clips instead of three the same penalty would cost
# little.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A leash without end
# :label: base-exercise-endless
# ```
# What is every clip predicted as when the penalty grows without end? Which correlation does that have?
#
# Give the predicted intensities of a clip, one an emotion: `emibook.check_exercise("9.2", predicted, train=train)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} base-exercise-endless
# :class: dropdown
# ```
# Let the library try, with one huge penalty to choose from.

# %%
endless = RidgeOnAverages.fit(train, penalties=(1e12,))
predicted = endless.predict(valid)[0]
emibook.check_exercise("9.2", predicted, train=train)
pd.Series(predicted, corpus.targets, name="every clip").round(3).to_frame()

# %% [markdown]
# The training mean, for everybody: the very answer that a clip without a face gets. It has no correlation, because it
# does not vary. In {numref}`base-leash` the slopes are nearly nought at the right, but never quite, and a correlation
# does not care how small they are.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Beat it
# :label: base-exercise-beat
# ```
# Without a network, and without a look at the validation labels: make predictions that score higher than `baseline`,
# the averages of action units. There are many ways.
#
# Give a table (clip, emotion): `emibook.check_exercise("9.3", better, truth=truth, baseline=baseline)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} base-exercise-beat
# :class: dropdown
# ```
# One way: let the voice have a say. Fit the same line on the averages of MFCC, and give it a quarter of the vote. (Not
# half: with equal votes the weaker witness can spoil more than it adds, see chapter 13.)

# %%
parts = [load(corpus, work, "mfcc", partition) for partition in ("train", "valid")]
heard = RidgeOnAverages.fit(parts[0]).predict(parts[1])
better = 0.75 * baseline + 0.25 * heard
emibook.check_exercise("9.3", better, truth=truth, baseline=baseline)
gained = {"face": pearson(truth, baseline), "with voice": pearson(truth, better)}
pd.DataFrame(gained, corpus.targets).round(3)

# %% [markdown]
# That is late fusion, chapter 13, without anything that learns for longer than a blink. Other ways: the spread of each
# feature over the clip beside its mean, or its highest value, since an expression that comes and goes is not its mean.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - put slopes on a leash, and let people who were left out choose its length;
# - read which movement raises which label, with a warning about what that means;
# - compared a line with every network of Table 2 on this corpus, and it won {glue:text}`base_wins` rows;
# - shuffled the labels five hundred times, and learnt how wide nothing is.
#
# ## Sources
#
# The paper, section 4.3 {cite:p}`yu2024`; the organisers' baseline {cite:p}`kollias2024`; ridge regression
# {cite:p}`hoerl1970`; baselines that were not tuned {cite:p}`dacrema2019`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus, features and tables there already.
