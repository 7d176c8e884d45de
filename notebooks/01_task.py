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
# # The task

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.metrics import mean_pearson, pearson
from emibook.preprocess import preprocess, read_faces
from emibook.puppet.corpus import make_corpus

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **Six numbers for one clip: who says what they should be, and when is a guess a good one?**
#
# Sit down before a webcam. A stranger appears on the screen, bites a lip, shakes a fist, beams: the *seed video*. You
# are asked to do the same. For a few seconds you mimic the stranger, and your face, your voice and your living room are
# recorded. Then somebody ticks what is in the recording: amusement, perhaps, and joy. (Who does, is the first question
# of this chapter.) The ticks become six numbers. A program that has never met you is to guess them from the recording.
#
# Mimicry is old, quick and mostly unnoticed: people who look at a smiling face begin to smile
# {cite:p}`dimberg1982`, and what they copy depends on whom they look at and how they stand to them
# {cite:p}`hess2013`. Here it is asked for, which makes it theatre; the task is to read the theatre.
#
# You will
#
# - say what is predicted, and find three answers in the paper to whose emotion it is;
# - look at one clip, its six labels, and the labels of the whole corpus, most of which are nought;
# - compute a correlation by hand, see it as a sum of rectangles, and turn it into something a person can feel;
# - step into four traps of the metric, each once.
#
# ## What the paper says
#
# > "For this challenge, participants are tasked with employing a multi-output regression approach to predict the
# > intensities of six self-reported emotions: Admiration, Amusement, Determination, Empathic Pain, Excitement and
# > Joy." (section 1)
#
# Whose emotions? Here they are *self-reported*. The abstract speaks of "the emotional intensity of seed videos", and
# in section 4.1 the participants themselves assess "the emotional intensity of the resulting video". These are three
# different things: what I feel, what the stranger showed, and what can be seen in my copy. The files do not settle it.
# They hold fractions, a half or two fifths, which look like the votes of a few people: so many of the *raters* ticked
# this emotion. That is how this book reads them; nobody has written down who the raters were. A label is what was
# ticked; it is not what was felt.
#
# ## What is in the data
#
# The paper's data set, Hume-Vidmimic2 {cite:p}`kollias2024`, comes as videos, their sound, and two tables with one
# row a clip, for training and for validation; the test clips come without labels. Nobody appears in two partitions.
# That matters more than anything else on this page: a program that has met you in training may recognise you
# instead of your expression. The corpus of this page has the same parts, counted in the table. (The two lines of code
# below the table are the lengths and numbers of clips in the paper's Table 1.)

# %%
emotions = list(corpus.targets)
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
table = corpus.clips.assign(seconds=corpus.clips["clip"].map(done["seconds"]))
groups = table.groupby("partition", sort=False)
sizes = pd.DataFrame({"clips": groups.size(), "minutes": groups["seconds"].sum() / 60})
sizes["participants"] = groups["participant"].nunique()
sizes.round(1)

# %%
there = pd.to_timedelta(["15:07:03", "9:12:02", "9:04:05"]).total_seconds().to_numpy()
samples = np.array([8072, 4588, 4586])

# %% tags=["remove-cell"]
partitions = [set(part["participant"]) - {""} for _, part in table.groupby("partition")]
shared = sum(len(one & other) for place, one in enumerate(partitions) for other in partitions[:place])
glue("task_shared", shared, display=False)
glue("task_mean_there", f"{there.sum() / samples.sum():.2f}", display=False)
glue("task_mean_here", f"{table['seconds'].mean():.2f}", display=False)
glue("task_participants", f"{samples.sum() / 557:.0f}", display=False)

# %% [markdown]
# Participants in more than one partition here: {glue:text}`task_shared`. A clip lasts {glue:text}`task_mean_here`
# seconds on average. The clips of the paper's Table 1 last {glue:text}`task_mean_there` seconds on average, and each
# of its 557 participants made about {glue:text}`task_participants` of them. That is short, and it is many clips of
# each face; chapter 3 is about what the second means.
#
# ## One clip and its labels
#
# Here is the clip whose raters were least of one mind: it has the most labels that are neither nought nor one.

# %%
labelled = corpus.clips.dropna(subset=emotions).set_index("clip")
seen = labelled[labelled.index.map(done["faces"]) > 30]
divided = ((seen[emotions] > 0) & (seen[emotions] < 1)).sum(axis=1)
clip = divided.idxmax()
images = read_faces(work, clip)[0]

# %% mystnb={"image": {"alt": "Six small aligned pictures of one face in a row, from the beginning of the clip to its end; the expression comes and goes."}, "figure": {"caption": "Six moments of one clip, from its beginning to its end.", "name": "task-clip"}}
moments = np.linspace(0, len(images) - 1, 6).round().astype(int)
figures.show_strips([images[moments]], [f"clip {clip}"])
plt.show()

# %% mystnb={"image": {"alt": "Six horizontal bars, one an emotion, for the labels of the clip; several are at nought, the others at different fractions."}, "figure": {"caption": "The six labels of that clip: the share of raters who ticked each emotion.", "name": "task-labels"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.barh(emotions, seen.loc[clip, emotions].astype(float))
ax.set(xlim=(0, 1), xlabel="share of raters")
ax.invert_yaxis()
plt.show()

# %% [markdown]
# The emotions do not exclude each other, so this is no classification: a clip can be amused *and* joyful, or neither.
# And the labels come in steps. Multiply all six by some number: if they all come out whole, that number may be how
# many people were asked.
#
# ## Mostly nothing
#
# Over all clips, most labels are exactly nought. That need not mean that nothing was shown: a seed video mostly shows
# one or two of the six emotions, and of a few raters it easily happens that none ticks the one that is hardly there.

# %%
labels = labelled[emotions].astype(float)
edges = [-0.01, 0, 0.25, 0.5, 0.75, 1]
names = ["0", "to 1/4", "to 1/2", "to 3/4", "to 1"]
binned = labels.apply(lambda column: pd.cut(column, edges, labels=names))
shares = pd.DataFrame({name: (binned == name).mean() for name in names})

# %% mystnb={"image": {"alt": "Six stacked horizontal bars, one an emotion. In each the first and palest part, the share of clips labelled nought, is by far the longest; the darkest part, labels above three quarters, is a sliver at the right."}, "figure": {"caption": "How the labels of each emotion are spread: the share of clips with a label of nought, up to a quarter, a half, three quarters, and above.", "name": "task-sparse"}}
shades = plt.get_cmap("Blues")(np.linspace(0.15, 0.95, len(names)))
fig, ax = plt.subplots()
shares.plot.barh(stacked=True, ax=ax, color=shades, edgecolor="white", legend=False)
ax.set(xlabel="share of clips", xlim=(0, 1))
ax.invert_yaxis()
fig.legend(names, loc="outside lower center", ncols=5, handlelength=1, columnspacing=1)
plt.show()

# %% tags=["remove-cell"]
glue("task_zero", f"{(labels == 0).to_numpy().mean():.0%}", display=False)
glue("task_nothing", f"{(labels == 0).all(axis=1).mean():.0%}", display=False)

# %% [markdown]
# {glue:text}`task_zero` of all labels here are nought, and {glue:text}`task_nothing` of the clips have six noughts. A
# program that always answers nought is therefore right most of the time, and useless. The metric has to notice.
#
# ## A correlation, by hand
#
# The challenge scores a guess by Pearson's correlation {cite:p}`pearson1895`. In words: take each clip's label and say
# how far above or below the average label it is. Do the same with the guesses. Where both are above, or both below,
# the guess went the right way: multiply the two distances and count it for you. Where one is above and the other
# below, count it against you. Average: that is the *covariance*. Then divide by how far labels and guesses stray at
# all, their two standard deviations (roots of the *variance*, the average squared distance), so that the answer does
# not depend on the units. The paper writes
#
# > $\rho_i = \frac{\mathrm{cov}(y_i, \hat y_i)}{\sqrt{\mathrm{var}(y_i)\,\mathrm{var}(\hat y_i)}}$ (equation 9)
#
# for emotion $i$, with $y_i$ for its labels and $\hat y_i$ for the guesses, and takes the plain mean over the six
# (equation 8). The result lies between minus one and one. Five clips are enough to do it by hand.

# %%
truth = np.array([0.0, 0.2, 0.0, 0.6, 0.4])
guess = np.array([0.1, 0.1, 0.3, 0.4, 0.1])
above, guess_above = truth - truth.mean(), guess - guess.mean()
covariance = (above * guess_above).mean()
by_hand = covariance / np.sqrt((above**2).mean() * (guess_above**2).mean())
by_library = pearson(truth[:, None], guess[:, None])[0]
round(float(by_hand), 6), round(float(by_library), 6)

# %% mystnb={"image": {"alt": "Five points on a plane of label against guess, with a cross at the two averages. A rectangle spans from the cross to each point; three are blue, to the upper right or lower left, two are orange."}, "figure": {"caption": "Five clips. Each rectangle reaches from the averages to a clip; its area counts for the guess (blue) or against it (orange).", "name": "task-rectangles"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
for across, up in zip(above, guess_above, strict=True):
    color = figures.BLUE if across * up > 0 else figures.ORANGE
    corner = truth.mean(), guess.mean()
    ax.add_patch(plt.Rectangle(corner, across, up, color=color, alpha=0.3, linewidth=0))
ax.plot(truth, guess, "o", color="black")
ax.axvline(truth.mean(), color=figures.GREY, linewidth=1)
ax.axhline(guess.mean(), color=figures.GREY, linewidth=1)
ax.set(xlabel="label", ylabel="guess")
plt.show()

# %% tags=["remove-cell"]
glue("task_by_hand", f"{by_hand:.3f}", display=False)

# %% [markdown]
# Both ways give {glue:text}`task_by_hand`. {numref}`task-rectangles` shows where it comes from: one large blue
# rectangle, made by the clip that stands out; the rest nearly cancels. Remember that for the third trap.
#
# ## What three tenths look like
#
# Published results on this task are correlations of a few tenths. How good is that? Draw clouds with known
# correlations and look; then ask something that has nothing to do with statistics. Two clips are laid before you, and
# you are to say in which one there is more joy. How often does a guess with that correlation put them in the right
# order? For labels and guesses that are normally distributed the answer is known {cite:p}`sheppard1899`: half, plus
# $\arcsin(r) / \pi$.

# %%
rng = np.random.default_rng(seed)
wanted = np.array([0.0, 0.3, 0.6, 0.9])
latent, noise = rng.standard_normal((2, 600, 1))
clouds = wanted * latent + np.sqrt(1 - wanted**2) * noise  # (clip, cloud)
one, two = rng.integers(600, size=(2, 20_000))
ordered = (latent[one] > latent[two]) == (clouds[one] > clouds[two])
right = ordered[one != two].mean(axis=0)

# %% mystnb={"image": {"alt": "Four square clouds of dots, from a round one on the left, where nothing can be seen, through two ever narrower ones to a slim diagonal band on the right."}, "figure": {"caption": "Guesses against labels for four correlations, drawn at random.", "name": "task-clouds"}}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 1.6), sharey=True)
for ax, r, cloud in zip(axes, wanted, clouds.T, strict=True):
    ax.plot(latent, cloud, ".", markersize=2)
    ax.set(xticks=[], yticks=[], title=f"r = {r}")
plt.show()

# %% mystnb={"image": {"alt": "A rising curve of the share of pairs in the right order against the correlation, from one half at nought to all at one, flat at first and steep at the end. Four dots, measured on the clouds, lie on it."}, "figure": {"caption": "How often two clips are put in the right order, by the correlation of the guess. Curve: the formula; dots: measured on the four clouds.", "name": "task-order"}}
r = np.linspace(0, 1, 200)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
ax.plot(r, 0.5 + np.arcsin(r) / np.pi)
ax.plot(wanted, right, "o", color=figures.ORANGE)
ax.set(xlabel="correlation", ylabel="pairs in the right order", ylim=(0.45, 1.02))
plt.show()

# %% tags=["remove-cell"]
glue("task_order_third", f"{0.5 + np.arcsin(0.3) / np.pi:.0%}", display=False)
glue("task_explained", f"{0.3**2:.0%}", display=False)

# %% [markdown]
# A correlation of three tenths puts {glue:text}`task_order_third` of the pairs in the right order, where a coin gets
# half. Squared, it is the share of the labels' variance that the guess accounts for: {glue:text}`task_explained`.
# So a few tenths are a real signal and a poor witness, both at once. It is enough to rank a thousand clips and
# not enough to tell one person what that person felt; chapter 17 returns to this. How much there is to be had at all,
# when a label is the vote of a few people, is the subject of chapter 2.
#
# ## What goes wrong otherwise: four traps
#
# **One: a guess that never varies.** It has no ups and downs, so the division is by nought. There is no right number
# to print. The library says so, and names the emotion; a silent 0 would look like a bad model, a silent 1 like a
# perfect one.

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    answer = pearson(truth[:, None], np.full((5, 1), 0.2), names=["Joy"])
answer, str(said[0].message)

# %% [markdown]
# **Two: batch by batch.** Programs read data in batches, and it is tempting to compute the metric in each and to
# average. But within a batch there may be nothing to be found. Sort six hundred clips by their label, cut them into
# batches, and the same guesses get another score.

# %%
y, p = latent[:, 0], clouds[:, 2]
order = np.argsort(y)
batches = np.array_split(order, 6)
whole = pearson(y[:, None], p[:, None])[0]
by_batch = np.mean([pearson(y[batch, None], p[batch, None])[0] for batch in batches])

# %% mystnb={"image": {"alt": "A rising cloud of dots cut into six upright stripes of different colours; within each stripe the dots rise hardly at all."}, "figure": {"caption": "One cloud, cut into six batches in the order of the labels. Each batch alone knows little of the rise of the whole.", "name": "task-batches"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
for number, batch in enumerate(batches):
    color = (figures.BLUE, figures.ORANGE, figures.GREEN)[number % 3]
    ax.plot(y[batch], p[batch], ".", color=color)
ax.set(xlabel="label", ylabel="guess")
plt.show()

# %% tags=["remove-cell"]
glue("task_whole", f"{whole:.2f}", display=False)
glue("task_by_batch", f"{by_batch:.2f}", display=False)

# %% [markdown]
# All at once the correlation is {glue:text}`task_whole`; averaged over the batches, {glue:text}`task_by_batch`.
# Everything in this book is scored over a whole partition at once, every clip exactly once.
#
# **Three: a few clips decide.** Where most labels are nought, the few that are not carry nearly all of the variance,
# and with it nearly all of the score.

# %%
spread = ((labels - labels.mean()) ** 2).to_numpy()
carried = np.sort(spread, axis=0)[::-1].cumsum(axis=0) / spread.sum(axis=0)
half = (carried < 0.5).sum(axis=0) + 1

# %% mystnb={"image": {"alt": "Six curves, one an emotion, of the share of the variance against the share of clips, most influential first. All rise steeply at the left: a small share of the clips carries half of the variance."}, "figure": {"caption": "How much of an emotion's variance the clips with the most of it carry.", "name": "task-few"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3))
lines = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
for emotion, column in enumerate(carried.T):
    label, line = emotions[emotion], lines[emotion % 6]
    ax.plot(np.arange(1, len(column) + 1) / len(column), column, linestyle=line, label=label)
ax.axhline(0.5, color=figures.GREY, linewidth=1)
ax.set(xlabel="share of clips, most influential first", ylabel="share of variance")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("task_few_clips", f"{half.min() / len(labels):.0%}", display=False)
glue("task_few_most", f"{half.max() / len(labels):.0%}", display=False)

# %% [markdown]
# Half of the variance is carried by {glue:text}`task_few_clips` to {glue:text}`task_few_most` of the clips, depending
# on the emotion. Drop a handful of clips, by a broken decoder say, and the score is about something else. So no
# clip is ever dropped here: one without a face or without a sound keeps its place.
#
# **Four: all numbers in one pot.** Somebody flattens the table and correlates all six columns at once. Now it pays to
# know that one emotion is commoner than another, which says nothing about any clip.

# %%
always = np.tile(labels.mean(), (len(labels), 1))
pot = pearson(labels.to_numpy().reshape(-1, 1), always.reshape(-1, 1))[0]

# %% tags=["remove-cell"]
glue("task_pot", f"{pot:.2f}", display=False)

# %% [markdown]
# A guess that is the same for every clip scores {glue:text}`task_pot` in one pot. By equations (8) and (9) it has no
# score at all, as it should.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} By hand
# :label: task-exercise-hand
# ```
# Four clips have the labels 0, 0, 1 and 1; the guesses are 1, 2, 2 and 5. What is the correlation? Do it on paper,
# with distances from the averages.
#
# Give the number: `emibook.check_exercise("1.1", rho)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} task-exercise-hand
# :class: dropdown
# ```
# The averages are a half and two and a half. The products of the distances add up to four halves; the squares to one
# and to nine.

# %%
labels_of_four, guesses = np.array([[0], [0], [1], [1]]), np.array([[1], [2], [2], [5]])
rho = pearson(labels_of_four, guesses)[0]
emibook.check_exercise("1.1", rho)
round(float(rho), 4)

# %% [markdown]
# Two, divided by the root of nine.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Two out of three
# :label: task-exercise-order
# ```
# Which correlation puts two pairs out of three in the right order?
#
# Give the number: `emibook.check_exercise("1.2", wanted_rho)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} task-exercise-order
# :class: dropdown
# ```
# Two thirds are a half and a sixth. So the arcsine is a sixth of $\pi$, and the correlation its sine.

# %%
wanted_rho = np.sin(np.pi * (2 / 3 - 1 / 2))
emibook.check_exercise("1.2", wanted_rho)
round(float(wanted_rho), 4)

# %% [markdown]
# It is far above what the paper reports. A later entry to the challenge, which also reads what is said, reports about as
# much on its validation clips {cite:p}`yu2025`.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How many were asked?
# :label: task-exercise-raters
# ```
# If a label is $k/N$, the six labels of a clip times $N$ are whole, or nearly so where labels were rounded. For each
# clip find the smallest $N$ up to ten that does it. What does the smallest one tell, and what not?
#
# Give one number for each clip, in the order of `labels`: `emibook.check_exercise("1.3", fewest, labels=labels)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} task-exercise-raters
# :class: dropdown
# ```
# Multiply by every candidate at once, and look where all six come out whole, within a little room.

# %%
candidates = np.arange(1, 11)
products = labels.to_numpy()[:, :, None] * candidates  # (clip, emotion, candidate)
whole_numbers = (np.abs(products - products.round()) < 0.02).all(axis=1)
fewest = candidates[whole_numbers.argmax(axis=1)]
emibook.check_exercise("1.3", fewest, labels=labels)
pd.Series(fewest, name="clips").value_counts().sort_index().to_frame().T

# %% [markdown]
# It is a lower bound. Where four people were asked and all or two of them ticked, the labels look like those of one or
# two. And a clip with six noughts may have been seen by any number.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What it does not notice
# :label: task-exercise-units
# ```
# What can be done to a table of guesses that the mean correlation does not notice, and the squared error does? Which
# of the two would you rather train with, and which be scored by? Come back to this after chapters 12 and 13.
#
# Give a function that takes a table of guesses (clip, emotion) and returns the changed one, of the same shape:
# `emibook.check_exercise("1.4", change)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} task-exercise-units
# :class: dropdown
# ```
# Other units and another zero, for one; each emotion may even have its own. Here for a noisy guess at the labels.

# %%
def change(guess):
    return 100 * guess - 3


emibook.check_exercise("1.4", change)

# %%
y = labels.to_numpy()
noisy = y + rng.normal(0, 0.3, y.shape)
rows = {"as it is": noisy, "in other units": change(noisy)}
scores = [[mean_pearson(y, guess), np.square(y - guess).mean()] for guess in rows.values()]
pd.DataFrame(scores, rows, ["mean correlation", "squared error"]).round(3)

# %% [markdown]
# The correlation does not notice; the squared error explodes. The challenge scores what does not notice, and the
# paper trains with what does. That is a choice, and it will matter when two guesses are averaged.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - read three descriptions of the labels in one paper, and settled on what the files look like: votes;
# - seen a clip with its labels, and that {glue:text}`task_zero` of all labels here are nought;
# - added up rectangles to a correlation, and turned three tenths into {glue:text}`task_order_third` of pairs;
# - met the constant, the batch, the few clips and the one pot.
#
# ## Sources
#
# The paper, its abstract and sections 4.1, 4.2 and 1 {cite:p}`yu2024`; the challenge {cite:p}`kollias2024`; the
# correlation {cite:p}`pearson1895` and the order of pairs {cite:p}`sheppard1899`; mimicry
# {cite:p}`dimberg1982,hess2013`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with its corpus there already.
