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
# # How sure are we?

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import evaluation, figures
from emibook.book.page import banner, listing, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.evaluation import Bootstrap, clusters, paired_difference, resampled
from emibook.features import extract
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson
from emibook.models.ridge import RidgeOnAverages
from emibook.preprocess import preprocess
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
# **One team scores a hundredth more than another. Is its method better?**
#
# Two cooks serve soup to the same twelve guests, and the guests give points. One cook gets a little more. Would it
# be so with other guests? If you ask each guest ten times, do you have a hundred and twenty opinions? And if one of
# the cooks tried thirty recipes on these guests, and told you of the best one only?
#
# The paper has two tables of correlations, most of them to four digits, and calls some of its gains *significant*. It
# names no interval. This chapter makes one, in the way in which the tables of this book have theirs.
#
# You will
#
# - draw participants as names out of a hat, and get an interval out of nothing but the data;
# - see what happens where clips are drawn instead, and count how often such an interval is wrong;
# - compare two methods on the same draws, where overlapping intervals say nothing;
# - choose the best of many guesses that know nothing, and watch it look good.
#
# ## What the paper says
#
# > "Furthermore, our experiments with ResNet18 and AUs for visual feature extraction yielded significant
# > improvements of [...]" (section 4.3)
#
# > "Experimental validation demonstrated the effectiveness of our proposed approach" (section 5)
#
# *Significant* has a meaning: so large that chance alone would rarely do it. To say so, one must know what chance does.
#
# ## Something to be unsure of
#
# Two guesses are enough, one by the face and one by the voice, and their average. The face is read as action units
# (`aus`: movements such as a raised brow, chapter 7), the voice as MFCC (`mfcc`: coefficients of its sound, chapter 8).
# The guesses are made by the simplest method of this book, a ridge regression on averages over the clip, which is the
# subject of chapter 9; here it only matters that they were fitted on the training partition, `train`, and are scored
# on the validation partition, `valid`.

# %%
preprocess(corpus, work, resources=Resources(progress=False))
extract(corpus, work, ["aus", "mfcc"], resources=Resources(progress=False))
guesses = []
for name in ("aus", "mfcc"):
    model = RidgeOnAverages.fit(load(corpus, work, name, "train"))
    valid = load(corpus, work, name, "valid")
    guesses.append(model.predict(valid))
seen, heard = guesses
both = late_fusion(seen, heard)
truth, people = valid.targets, list(valid.participants)

# %%
scores = {"face": mean_pearson(truth, seen), "voice": mean_pearson(truth, heard)}
scores["average"] = mean_pearson(truth, both)
pd.Series(scores, name="mean correlation").round(3).to_frame()

# %% tags=["remove-cell"]
groups, over = clusters(people)
glue("sure_clips", len(truth), display=False)
glue("sure_people", int(groups.max()) + 1, display=False)
glue("sure_over", over, display=False)

# %% [markdown]
# Three numbers, from {glue:text}`sure_clips` clips of {glue:text}`sure_people` people (where a corpus does not name its
# people, every clip counts as one).
#
# ## An interval from the data alone
#
# We would like to know what the score would have been with other people of the same kind. There are no others. So let
# the ones we have stand for all: put their names into a hat, draw as many as there are, *putting each back*, and score
# the clips of those drawn. Some people count twice or more, some not at all. Do it two thousand times. How the scores
# scatter is about how they would scatter with new people {cite:p}`efron1993`. This is the *bootstrap*; the *interval*
# reaches from the score below which two and a half of a hundred draws lie to the one above which as many lie.

# %%
rng = np.random.default_rng(seed)
count = groups.max() + 1
drawn = rng.choice(count, size=count)
rows = np.concatenate([np.flatnonzero(groups == each) for each in drawn])
len(rows), round(mean_pearson(truth[rows], both[rows]), 3)

# %% [markdown]
# That was one draw: how many clips were in it, and their score. The library does all draws at once, because a
# correlation needs only a few sums. In its code `groups` says whose each clip is, and `weights` how often each person
# was drawn. `seeds` counts predictions by the same method with other random numbers; here there is one.

# %%
listing(resampled)

# %%
draws, single = 2000, np.arange(len(truth))
by_people = resampled(truth, both[None], groups, draws, np.random.default_rng(seed))
by_clips = resampled(truth, both[None], single, draws, np.random.default_rng(seed))
ends = {"people": np.nanquantile(by_people, [0.025, 0.975])}
ends["clips"] = np.nanquantile(by_clips, [0.025, 0.975])

# %% mystnb={"image": {"alt": "Two histograms of scores over one another, one for draws of people and one for draws of clips, both around the same middle. Below each a bar marks where the middle ninety-five of a hundred draws lie."}, "figure": {"caption": "The average's score in two thousand draws of people, and of clips. Bars: the middle 95 of 100 draws.", "name": "sure-draws"}}
fig, ax = plt.subplots()
rows = (by_people, "people", figures.BLUE, -8), (by_clips, "clips", figures.ORANGE, -18)
for scored, name, color, place in rows:
    bins = np.linspace(*np.nanquantile(by_clips, [0.001, 0.999]), 40)
    ax.hist(scored, bins=bins, histtype="step", color=color, label=name)
    ax.plot(ends[name], [place, place], color=color, linewidth=4)
ax.set(xlabel="mean correlation", ylabel="draws", ylim=(-28, None), yticks=[0, 50, 100, 150])
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
width = {name: float(np.ptp(pair)) for name, pair in ends.items()}
glue("sure_low", f"{ends['people'][0]:.2f}", display=False)
glue("sure_high", f"{ends['people'][1]:.2f}", display=False)
glue("sure_width_ratio", f"{width['people'] / width['clips']:.2f}", display=False)

# %% [markdown]
# The average's score lies between {glue:text}`sure_low` and {glue:text}`sure_high`: with so few clips, the second
# digit is a guess. With people out of the hat the interval is {glue:text}`sure_width_ratio` times as wide as with clips
# out of the hat. On this page that tells little: {glue:text}`sure_people` people are few, and where the clips show the
# puppet of chapter 5, what is in them is mostly the doing of the seed video. In chapter 2, with real actors, the two
# differ far more. Which is right? (This page's intervals are over {glue:text}`sure_over`.)
#
# ## What goes wrong otherwise: asking each guest ten times
#
# Ten clips of one person are not ten people. If that person smiles at everything, all ten are wrong together. To see
# what drawing clips does then, we need to know the truth, so make it: thirty people with ten clips each, labels and
# guesses both partly a person's own, and a correlation that we choose. Two hundred times over, make such data, put an
# interval around the score in both ways, and look whether the chosen correlation is within.

# %%
chosen, persons, each = 0.4, 30, 10
who = np.repeat(np.arange(persons), each)
found = {"people": [], "clips": []}
for _ in range(200):
    habit, bias = rng.normal(size=(2, persons))[:, who]
    mood, noise = rng.normal(size=(2, len(who)))
    label = np.sqrt(0.4) * habit + np.sqrt(0.6) * mood
    error = np.sqrt(0.6) * bias + np.sqrt(0.4) * noise
    guess = chosen * label + np.sqrt(1 - chosen**2) * error
    for way, units in (("people", who), ("clips", np.arange(len(who)))):
        drawn = resampled(label[:, None], guess[None, :, None], units, 400, rng)
        found[way].append(np.quantile(drawn, [0.025, 0.975]))
held = {way: [low < chosen < high for low, high in pairs] for way, pairs in found.items()}

# %% mystnb={"image": {"alt": "Two panels of forty upright bars each around a level line. In the left panel, drawn by people, nearly all bars cross the line; in the right one, drawn by clips, the bars are shorter and many, coloured orange, miss it."}, "figure": {"caption": "Forty of the two hundred intervals, drawn by people and by clips. Line: the correlation that was put in. Orange: intervals that miss it.", "name": "sure-coverage"}}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.6), sharey=True)
for ax, (way, pairs) in zip(axes, found.items(), strict=True):
    for place, (low, high) in enumerate(pairs[:40]):
        color = figures.BLUE if low < chosen < high else figures.ORANGE
        ax.plot([place] * 2, [low, high], color=color, linewidth=1.5)
    ax.axhline(chosen, color="black", linewidth=1)
    ax.set(title=f"drawn by {way}", xticks=[])
axes[0].set_ylabel("correlation")
plt.show()

# %% tags=["remove-cell"]
glue("sure_held_people", f"{np.mean(held['people']):.0%}", display=False)
glue("sure_held_clips", f"{np.mean(held['clips']):.0%}", display=False)

# %% [markdown]
# Of intervals that promise 95 in 100, those drawn by people hold {glue:text}`sure_held_people`, those drawn by clips
# {glue:text}`sure_held_clips`. Where what is sampled comes in clusters, the clusters are what must be drawn
# {cite:p}`field2007`. The paper's data set names no participants. There the library can only draw clips, and writes
# "too narrow" beside the interval.
#
# ## Two on the same draws
#
# Is the average better than the face alone? Whether their intervals overlap settles nothing: both go up with easy
# people and down with hard ones. What counts is the *difference*, on the same draw each time. The library has it as
# `paired_difference`; the last line sets its two ends beside ours.

# %%
alone = resampled(truth, seen[None], groups, draws, np.random.default_rng(seed))
gain = by_people - alone
low, high = np.nanquantile(gain, [0.025, 0.975])
library = paired_difference(
    truth, [both], [seen], people, bootstrap=Bootstrap(draws, seed=seed))
[round(float(each), 3) for each in (low, high, library.low, library.high)]

# %% mystnb={"image": {"alt": "Left, two histograms of scores that overlap for the most part, for the face alone and for the average. Right, the histogram of their difference, far narrower, with a dashed line at nought."}, "figure": {"caption": "Left: scores of the face alone and of the average, over the same draws of people. Right: their difference, draw by draw.", "name": "sure-paired"}}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.8))
look = {"bins": 30, "histtype": "step"}
for drawn, label in ((alone, "face"), (by_people, "average")):
    axes[0].hist(drawn[np.isfinite(drawn)], label=label, **look)
axes[1].hist(gain[np.isfinite(gain)], color=figures.GREEN, **look)
axes[1].axvline(0, color="black", linestyle="--", linewidth=1)
axes[0].set(xlabel="mean correlation", yticks=[])
axes[1].set(xlabel="difference", yticks=[])
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
glue("sure_gain", f"{library.mean:+.3f}", display=False)
glue("sure_gain_low", f"{low:+.3f}", display=False)
glue("sure_gain_high", f"{high:+.3f}", display=False)
glue("sure_tied", f"{np.ma.corrcoef(np.ma.masked_invalid(alone), np.ma.masked_invalid(by_people))[0, 1]:.2f}", display=False)
verdict = "does not hold nought" if low > 0 or high < 0 else "holds nought"
glue("sure_verdict", verdict, display=False)

# %% [markdown]
# From draw to draw, the two scores go together with a correlation of {glue:text}`sure_tied`. The average gains
# {glue:text}`sure_gain`, with an interval from {glue:text}`sure_gain_low` to {glue:text}`sure_gain_high`, which
# {glue:text}`sure_verdict`. An interval of the difference that does not hold nought is what *significant* means, at the
# level of five in a hundred; one that does leaves open which of the two is better. Whoever publishes only two scores,
# each with its interval, has thrown this away; whoever publishes the predictions has not.
#
# ## The best of many
#
# Now the cook with the thirty recipes. Take guesses that know nothing, random numbers, and score each on the validation
# clips of half of the people. Report the best. The more you try, the better it looks; and nothing of it is left on the
# other half, who were not used for choosing {cite:p}`dwork2015`.

# %%
tries = 300
blind = np.random.default_rng(seed).normal(size=(tries, *truth.shape))
half = groups % 2 == 0


def scored(part):
    """(try,) the mean correlation of every blind guess on some of the clips."""
    once = np.ones((1, part.sum()))
    own = np.arange(part.sum())
    rho = evaluation.weighted_pearson(truth[part], blind[:, part], once, own)
    return np.nanmean(rho[0], axis=1)


chosen_on, fresh = scored(half), scored(~half)
best = [chosen_on[:count].argmax() for count in range(1, tries + 1)]

# %% mystnb={"image": {"alt": "Two step curves against the number of tries on a logarithmic axis. The score of the best try on the half that it was chosen on climbs steadily; its score on the other half jumps around nought."}, "figure": {"caption": "Guesses that know nothing. The best of so many, on the half of the people that it was chosen on, and on the other half.", "name": "sure-best"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
counts = np.arange(1, tries + 1)
steps = {"drawstyle": "steps-post"}
ax.semilogx(counts, chosen_on[best], label="where it was chosen", **steps)
ax.semilogx(counts, fresh[best], linestyle="--", label="on other people", **steps)
ax.axhline(0, color=figures.GREY, linewidth=1)
ax.set(xlabel="tries", ylabel="score of the best")
ax.legend()
plt.show()

# %% tags=["remove-cell"]
glue("sure_best", f"{chosen_on[best[-1]]:.2f}", display=False)
glue("sure_best_fresh", f"{fresh[best[-1]]:.2f}", display=False)
glue("sure_thirty", f"{chosen_on[best[29]]:.2f}", display=False)

# %% [markdown]
# After thirty tries the best of nothing scores {glue:text}`sure_thirty`, after three hundred {glue:text}`sure_best`; on
# the other half that one scores {glue:text}`sure_best_fresh`, which is luck as well. Half of our people are few; with
# more clips what is won by choosing shrinks, and never vanishes. In the paper the learning rate (the length of a step
# in training, chapter 12) is halved when the *validation* score stops rising, the best epoch (round of training) is
# presumably chosen by it, features are compared by it, and it is what is reported. Every one of these is a try.
#
# ## How many digits?
#
# For a rough idea no computer is needed. A correlation $r$ from $n$ independent clips strays by about
# $(1 - r^2) / \sqrt{n}$, one standard error {cite:p}`fisher1915`.

# %%
n, r = 4588, np.array([0.1, 0.2, 0.3])
stray = (1 - r**2) / np.sqrt(n)

# %% tags=["remove-cell"]
glue("sure_stray", f"{stray.max():.3f}", display=False)
glue("sure_interval", f"{1.96 * stray.max():.3f}", display=False)

# %% [markdown]
# For the paper's 4,588 validation clips and a small correlation that is {glue:text}`sure_stray` for one emotion, so an
# interval of {glue:text}`sure_interval` to either side, *if* the clips were independent, which they are not. A mean over
# six emotions strays less, clusters of clips make it stray more. Four digits are two too many.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} A hundredth
# :label: sure-exercise-clips
# ```
# How many independent clips would it take for the 95-in-100 interval of a single, small correlation to reach one
# hundredth to either side?
#
# Give their number: `emibook.check_exercise("3.1", needed)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} sure-exercise-clips
# :class: dropdown
# ```
# Nearly two standard errors to either side, and one of them is one over the root of the number.

# %%
needed = (1.96 / 0.01) ** 2
emibook.check_exercise("3.1", needed)
round(needed)

# %% [markdown]
# More than all clips of the paper's data set together.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} With its interval
# :label: sure-exercise-paired
# ```
# What does the average gain over the face alone, with an interval over people, in two thousand draws that you make
# yourself? (Without looking at the cells above, if you can.)
#
# Give both ends:
# `emibook.check_exercise("3.2", (low, high), truth=truth, seen=seen, both=both, people=people)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} sure-exercise-paired
# :class: dropdown
# ```
# By hand, one draw at a time, with the same clips for both. An emotion that does not vary in a draw would have no
# correlation; with whole people that is rare.

# %%
members = [np.flatnonzero(groups == person) for person in range(groups.max() + 1)]
gains = []
for _ in range(2000):
    rows = np.concatenate([members[who] for who in rng.integers(count, size=count)])
    y, one, two = (table[rows] - table[rows].mean(axis=0) for table in (truth, seen, both))
    y, one, two = (table / np.linalg.norm(table, axis=0) for table in (y, one, two))
    gains.append(np.mean((y * two).sum(axis=0) - (y * one).sum(axis=0)))
ends_of_gain = tuple(np.nanquantile(gains, [0.025, 0.975]))
emibook.check_exercise("3.2", ends_of_gain, truth=truth, seen=seen, both=both, people=people)
tuple(round(float(each), 3) for each in ends_of_gain)

# %% [markdown]
# Up to the luck of the draw the library's ends come out.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How often does the better one lose?
# :label: sure-exercise-loses
# ```
# In every draw of people either the face alone or the average scores higher, and one of the two does so more often.
# In what share of the draws does it lose to the other? What does that say about a ranking of teams?
#
# Give the share: `emibook.check_exercise("3.3", share, truth=truth, seen=seen, both=both, people=people)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} sure-exercise-loses
# :class: dropdown
# ```
# The same draws for both, so the same seed. Whichever loses less often is the one that is asked about.

# %%
face, fused = (resampled(truth, each[None], groups, draws, np.random.default_rng(seed))
               for each in (seen, both))
lost = float(np.mean(fused < face))
share = min(lost, 1 - lost)
emibook.check_exercise("3.3", share, truth=truth, seen=seen, both=both, people=people)
round(share, 3)

# %% [markdown]
# In so many rankings of these two the order would come out the other way around, had other people been asked. And a
# leaderboard has many neighbours.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - drawn people from a hat and read an interval off the draws;
# - counted that drawing clips, where people are what differs, held only {glue:text}`sure_held_clips` of the time;
# - compared the average with the face alone on the same draws;
# - seen the best of three hundred guesses that know nothing score {glue:text}`sure_best`.
#
# ## Sources
#
# The paper, sections 4.3 and 5 {cite:p}`yu2024`; the bootstrap {cite:p}`efron1993`, over clusters {cite:p}`field2007`;
# how a correlation strays {cite:p}`fisher1915`; choosing on what one reports {cite:p}`dwork2015`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus and features there already.
