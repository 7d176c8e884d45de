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
# # At full size, without the data

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import json
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import bounds, figures
from emibook.corpus import attainable, numbers, patterns, simulated
from emibook.experiments import TABLE2, TABLE3
from emibook.publish import banner, project_path
from emibook.recovery import MENDED, NARROW

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
simulation = simulated.Simulation((), seed=seed)
corpus = numbers.in_memory(simulation)
banner(profile, corpus)

# %% [markdown]
# **How do you find out whether a recipe is any good when nobody may give you what it cooks?**
#
# An orchestra plays a piece that nobody knows, on the radio, through a thunderstorm. Was it played well? You cannot
# tell what was the orchestra and what was the storm. So you ask the players to rehearse something whose every note
# you know, in a hall where you make the storm yourself. If they miss notes there, they will have missed them on the
# radio too.
#
# The paper's data may not be passed on, and even with them one thing could never be known: how good the best
# possible program would have been. A correlation of a few tenths may be all that can be had, or half of it. This
# chapter makes numbers of which that *is* known: as many clips as the real set has, of as many people, with labels
# of the same kind, and in them a signal of a strength that we choose. No profile changes this page, and nothing on
# it is about faces: it is about recipes.
#
# You will
#
# - plant a signal in three ways, and see which of them an average over time can find;
# - compute how well the best predictor there is can do, before anything is trained;
# - read how much of that the paper's recipe reaches, where it falls short, and what mends it;
# - find out what the paper's two tables say about each other;
# - see how far a value may be off by chance, and which of the paper's differences are larger;
# - turn every choice that the paper leaves open, alone and in company, and watch the order of the rows.
#
# ## What the paper says
#
# > "All experiments were conducted on an NVIDIA RTX 3090 GPU with PyTorch, using an initial learning rate of
# > $3e^{-5}$ and a batch size of 128. Additionally, if the validation set metric does not improve for 10 epochs, the
# > learning rate is halved." (section 4.2)
#
# Is that rate a good one? How many epochs are enough? The paper does not say how it was chosen, and its own results
# cannot tell: they mix what the recipe can do with what the faces hold.
#
# ## A set whose truth is known
#
# Each simulated clip has six *latent strengths*, one an emotion: numbers that nobody sees. A few raters make the label
# of each, by the lottery of chapter 5: the stronger it is, the more of them are likely to tick. In each feature set
# there is, for each emotion, one *score*: the strength plus noise that belongs to the clip and that nothing can remove.
# The score is then planted in a sequence, and the sequence is mixed with as many others as the feature set is wide,
# some strong and most weak, as pretrained features are. Here are the three ways to plant it.

# %%
clock = patterns.Clock(rate=30)
rng = np.random.default_rng(seed)
planted = {
    name: patterns.plant(name, 1.5, 150, clock, rng) for name in patterns.PATTERNS
}
noisy = {name: shape + clock.noise(150, 1, rng)[:, 0] for name, shape in planted.items()}

# %% mystnb={"image": {"alt": "Three panels under one another, each a jagged grey line of noise with a smooth blue line in it. In the first the blue line is raised all along, in the second for one second only, in the third it swings up and down around nought, fast and slow at once."}, "figure": {"caption": "One channel of one clip: what is planted (blue) and what is to be seen (grey), as a mean, an onset and a rhythm.", "name": "full-patterns"}}
fig, axes = plt.subplots(3, 1, figsize=(figures.WIDTH, 4.2), sharex=True)
for ax, name in zip(axes, planted, strict=True):
    seconds = np.arange(150) / 30
    ax.plot(seconds, noisy[name], color=figures.GREY, linewidth=0.8)
    ax.plot(seconds, planted[name], color=figures.BLUE)
    ax.set_ylabel(name)
axes[-1].set_xlabel("seconds")
plt.show()

# %% [markdown]
# In {numref}`full-patterns` the *mean* is found by averaging over the clip. Of the *onset* an average sees a little,
# because it lasts a second and the clip several. Of the *rhythm* it sees nothing at all: the score decides how much
# swings fast and how much slowly, while both together swing as widely in every clip. Only what looks at the order of
# the steps can tell. Since the real set's lengths, partitions and people are documented, the simulated ones follow.

# %%
table = corpus.clips
sizes = table.groupby("partition", sort=False)["participant"].agg(["size", "nunique"])
sizes.columns = ["clips", "people"]
sizes

# %% [markdown]
# ## The best predictor there is
#
# Suppose somebody knew all of the above, except what any one clip's strength is. What is the best that this somebody
# could do? For a score that lies in the mean there is a formula. It has two parts. One is noise: from the score, the
# strength can only be guessed. The other is raters: even one who knew the strength itself would not know which of a few
# raters ticked. The formula is a power series in the correlation between guess and strength, one line of code a
# step; tests hold it against draws.

# %%
guessed = np.linspace(0, 1, 101)
curves = pd.DataFrame({"best": attainable.attainable(guessed)}, index=guessed)
curves["best line"] = attainable.best_linear(guessed)
top = attainable.ceiling()

# %% mystnb={"image": {"alt": "Two rising curves of the correlation with the label against the correlation of the guess with the latent strength. They run together at first; the upper one, of the best predictor, bends up to a dashed ceiling well below one, the straight one stays below it."}, "figure": {"caption": "How well the label can be predicted, by how well the latent strength is guessed. Dashed: whoever knows the strength itself.", "name": "full-attainable"}}
fig, ax = plt.subplots()
curves.plot(ax=ax)
ax.axhline(top, color=figures.GREY, linestyle="--", linewidth=1)
ax.set(xlabel="correlation of the guess with the strength")
ax.set_ylabel("correlation with the label")
plt.show()

# %% tags=["remove-cell"]
glue("full_ceiling", f"{top:.2f}", display=False)
line = attainable.best_linear(attainable.needed(0.6)) / 0.6
glue("full_line", f"{line:.0%}", display=False)

# %% [markdown]
# The ceiling of {numref}`full-attainable` is {glue:text}`full_ceiling`. Where six tenths are attainable, the best
# straight line reaches {glue:text}`full_line` of that: labels that are mostly nought reward a bend. For the onset and
# the rhythm there is no formula, but bounds on either side: above, what could be done if the place of the onset, or the
# strength of the swings, were told; below, what one simple rule reads. `emibook.corpus.reachable` computes them.
# Between them lies an *oracle*: a reader who knows how the scores were planted, though not what they are. It stands for
# the best predictor where there is no formula.
#
# ## How much of it does the recipe reach?
#
# Everything from here on was computed once, by `emibook rehearse --out FOLDER`, and its small results are kept beside
# this book. These are its parts.

# %%
kept = project_path("book/results")
made = json.loads((kept / "rehearsal.json").read_text())
results = {name: pd.read_csv(kept / f"rehearsal_{name}.csv") for name in made}
about = pd.DataFrame(made).T[["what", "made", "seconds"]]
about["minutes"] = (about.pop("seconds").astype(float) / 60).round(1)
machine = made["recovery"]["machine"].removesuffix(", no GPU")
about

# %% tags=["remove-cell"]
recovery = results["recovery"]
size = made["recovery"]["size"]
glue("full_machine", machine, display=False)
glue("full_steps", size["steps"], display=False)
glue("full_width", size["width"], display=False)
glue("full_clips", f"{size['clips'][0]:,}", display=False)

# %% [markdown]
# **The size.** All {glue:text}`full_clips` training clips, but at most {glue:text}`full_width` features a set and
# {glue:text}`full_steps` steps a clip: a quarter of the steps and a tenth of the width of the real ones, for a machine
# without a GPU ({glue:text}`full_machine`). `emibook rehearse --out FOLDER --size full` is the same at the paper's size,
# for one that has it. The minutes are those of one thread on a machine that had other work as well.
#
# Each training is held against two others on the same validation clips: the best predictor, and ridge regression on
# time averages (chapter 9) with its penalty tuned on other people. `reached` is what the training scores, `share` that
# over `best`; `fresh` is its score on the clips of the test partition, on which nothing was chosen. `mixed` means that
# two emotions lie in the mean, two in an onset and two in a rhythm. `experiment` is `paper` for the paper's recipe, and
# else names all that is otherwise; `narrow` has {glue:text}`full_narrow_channels` channels, the rate
# {glue:text}`full_narrow_rate`, batches of {glue:text}`full_narrow_batch`, and a third of the epochs.
# The mark to reach is nineteen twentieths of the best.

# %%
shown = recovery.assign(share=recovery["reached"] / recovery["best"])
unlike = shown["inputs"].where(shown["inputs"] != "as drawn", "")
unlike += np.where(shown["drawn"] > 0, "drawn anew", "")
shown["experiment"] = shown["variant"].replace("base", "paper") + " " + unlike
columns = ["features", "width", "patterns", "attainable", "train_clips", "experiment"]
shown = shown[[*columns, "reached", "fresh", "best", "ridge", "share"]]
shown.round(3)

# %% mystnb={"image": {"alt": "Horizontal bars, one a training, of the share of the best predictor's correlation that was reached, with a small cross on each for ridge regression and a dashed line near the right end that marks nineteen twentieths."}, "figure": {"caption": "What each training reached, as a share of what the best predictor reaches on the same clips. Below each name: where the signal lies and how strong it is, features and clips; blue: the paper's recipe, green: another; crosses: ridge regression on time averages; dashed: nineteen twentieths.", "name": "full-recovery"}}
names = [f"{row.experiment.strip()}\n{row.patterns} {row.attainable:g}, "
         f"{row.width} x {row.train_clips:,}" for row in shown.itertuples()]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.8 + 0.5 * len(shown)))
colors = np.where(recovery["variant"] == "base", figures.BLUE, figures.GREEN)
ax.barh(range(len(shown)), shown["share"], color=colors)
ax.plot(shown["ridge"] / shown["best"], range(len(shown)), "x", color="black")
ax.axvline(0.95, color=figures.GREY, linestyle="--", linewidth=1)
ax.set_yticks(range(len(shown)), names)
ax.margins(y=0.01)
ax.invert_yaxis()
ax.set_xlabel("share of the best's correlation")
plt.show()

# %% tags=["remove-cell"]
def gain(row):
    low, high = row["over_ridge_low"], row["over_ridge_high"]
    return f"{row['over_ridge']:+.3f} (from {low:+.3f} to {high:+.3f})"


every, by = size["clips"][0], recovery.set_index("variant")
changed = MENDED.name
means = by[(by["patterns"] == "mean") & (by["train_clips"] == every)]
strong = means[(means["attainable"] == 0.6) & (means["features"] == "wav2vec2")]

# %% tags=["remove-cell"]
papers, mended = strong.loc["base"], strong[strong["drawn"] == 0].loc[changed]
glue("full_paper", f"{papers['share']:.3f}", display=False)
glue("full_paper_epoch", int(papers["best_epoch"]), display=False)
glue("full_mended", f"{mended['share']:.3f}", display=False)
glue("full_mended_epoch", int(mended["best_epoch"]), display=False)
glue("full_mended_gain", gain(mended), display=False)
glue("full_again", f"{strong[strong['drawn'] > 0]['share'].iloc[0]:.3f}", display=False)
visual = means[means["features"] != "wav2vec2"].iloc[0]
glue("full_visual", f"{visual['share']:.3f}", display=False)
glue("full_visual_gain", gain(visual), display=False)

# %% tags=["remove-cell"]
weak = means[means["attainable"] < 0.3]
glue("full_weak", f"{weak['attainable'].iloc[0]:.2f}", display=False)
glue("full_weak_paper_gain", gain(weak.loc["base"]), display=False)
glue("full_weak_gain", gain(weak.loc[changed]), display=False)
glue("full_weak_epoch", int(weak.loc[changed, "best_epoch"]), display=False)
less = by[(by["patterns"] == "mean") & (by["attainable"] == 0.6)].loc["base"]
fewest = less.sort_values("train_clips").iloc[0]
glue("full_fewest_clips", int(fewest["train_clips"]), display=False)
glue("full_fewest", f"{fewest['share']:.2f}", display=False)
glue("full_fewest_ridge", f"{fewest['ridge'] / fewest['best']:.2f}", display=False)

# %% tags=["remove-cell"]
mixed = by[by["patterns"] == "mixed"]
usual = mixed[(mixed["train_clips"] == every) & (mixed["width"] == size["width"])]
usual = usual[usual["inputs"] == "as drawn"]
papers, narrow = usual.loc["base"], usual.loc["narrow"]
glue("full_mixed", f"{papers['share']:.2f}", display=False)
glue("full_mixed_ridge", f"{papers['ridge'] / papers['best']:.2f}", display=False)
glue("full_mixed_mean", f"{papers['share mean']:.2f}", display=False)
glue("full_mixed_onset", f"{papers['share onset']:.2f}", display=False)
glue("full_mixed_rhythm", f"{papers['share rhythm']:.2f}", display=False)

# %% tags=["remove-cell"]
glue("full_narrow", f"{narrow['share']:.3f}", display=False)
glue("full_narrow_onset", f"{narrow['share onset']:.2f}", display=False)
glue("full_narrow_rhythm", f"{narrow['share rhythm']:.2f}", display=False)
glue("full_narrow_channels", NARROW.model["channels"], display=False)
glue("full_narrow_batch", NARROW.recipe["batch"], display=False)
glue("full_narrow_rate", NARROW.recipe["rate"], display=False)
bare = mixed[mixed["width"] < size["width"]].iloc[0]
glue("full_bare", f"{bare['share']:.3f}", display=False)
more = mixed[mixed["train_clips"] > every].iloc[0]
glue("full_more", f"{more['share']:.3f}", display=False)
glue("full_more_onset", f"{more['share onset']:.2f}", display=False)
glue("full_more_rhythm", f"{more['share rhythm']:.2f}", display=False)
glue("full_more_clips", f"{more['train_clips']:,}", display=False)

# %% [markdown]
# Where the signal lies in the mean and is strong, the paper's recipe reaches {glue:text}`full_paper` of the best
# predictor's correlation with all clips, and its best epoch is number {glue:text}`full_paper_epoch`: it had not
# stopped learning when it was stopped. That is about the mark; but it is slow, and that is its trouble. Adam moves each
# weight by about the rate in each step, and so small a rate times so few steps does not go far. With fewer clips an
# epoch has fewer steps, and it goes less far still: with {glue:text}`full_fewest_clips` clips it reaches
# {glue:text}`full_fewest`, and ridge regression, which has no rate, {glue:text}`full_fewest_ridge`. So the
# smallest change that mends it is the rate. Ten times the paper's, for a quarter of the epochs, reaches
# {glue:text}`full_mended` in epoch {glue:text}`full_mended_epoch`; against ridge regression on the same people it gains
# {glue:text}`full_mended_gain`. On other clips of other people, from other first weights, it reaches
# {glue:text}`full_again`. In the visual branch, with its Transformer and two feature sets joined, it reaches
# {glue:text}`full_visual`, and against ridge regression {glue:text}`full_visual_gain`.
#
# That is a strong signal. At {glue:text}`full_weak`, which is what the paper's sound reaches, there is little to bend
# and much to mistake, and against ridge regression both *lose*: the paper's recipe stands at
# {glue:text}`full_weak_paper_gain`; the mended one, which is at its best in epoch {glue:text}`full_weak_epoch` and then
# learns the training clips by heart, at {glue:text}`full_weak_gain`. With a signal as weak as the real one, a network
# has to show that it earns its keep; chapter 9 asks that of every feature set.
#
# Where two emotions of three lie in onsets and rhythms, an average over the raw steps is of little use: the convolution
# of chapter 10 has to be taught to find them before the mean over time is taken. Within its epochs the paper's recipe
# does not learn that: of what the oracle does it reaches {glue:text}`full_mixed_mean` for the emotions in means,
# {glue:text}`full_mixed_onset` for those in onsets and {glue:text}`full_mixed_rhythm` for those in rhythms,
# {glue:text}`full_mixed` in all, where ridge regression reaches {glue:text}`full_mixed_ridge`. Here is what
# was tried instead, with each pattern's share of what the oracle does.

# %%
tries = recovery.assign(experiment=shown["experiment"])
tries = tries[tries["patterns"] == "mixed"]
kinds = [f"share {name}" for name in patterns.PATTERNS]
tries = tries[["experiment", "width", "train_clips", "best_epoch", *kinds, "share"]]
tries.round(3)

# %% [markdown]
# None of these comes to the mark with all the features and the real number of clips. `narrow` comes nearest, at
# {glue:text}`full_narrow`: its emotions in onsets are at {glue:text}`full_narrow_onset`, those in rhythms at
# {glue:text}`full_narrow_rhythm`. It is the rate that does most; pooling by attention, the correlation as the loss, or
# features that no longer resemble each other (`decorrelated`) add nothing to it. Is it the network that cannot say it,
# or the clips that do not teach it? Given six features, which hold the six emotions and nothing else, the same one
# reaches {glue:text}`full_bare`; given all features and {glue:text}`full_more_clips` clips, {glue:text}`full_more`.
# There the rhythms have come to {glue:text}`full_more_rhythm`, the onsets only to {glue:text}`full_more_onset`. So for
# the rhythms what is short is mostly clips: which few directions among so many swing, and how fast, has to be found in
# the labels, and a network learns the training clips by heart before it has found it. Of the onsets some part stays out
# of reach of this network with ever so many clips, it seems. Here a better recipe is still to be had.
#
# ## What the two tables say about each other
#
# The paper reports each branch alone and the average of both. Chapter 13 showed that these three numbers are tied
# together by a fourth, the correlation $r_{12}$ between the branches. It is not reported. It can be worked out for two
# *calibrated* predictions, which spread as much as they know, $s_1 = r_1$ and $s_2 = r_2$; a squared error leads there.
# Put into the formula of chapter 13: $r = (r_1^2 + r_2^2) / \sqrt{r_1^2 + r_2^2 + 2 r_1 r_2 r_{12}}$.
#
# In the table `fused` is what the paper reports, `calibrated` what the average of unrelated branches would score,
# `r12 calibrated` the correlation between them that the paper's three numbers imply, and `expected` what the average
# would score if the branches agreed as much as those of the row above.

# %%
rows = bounds.imply(TABLE2, TABLE3, crossing=simulated.CROSSING)
rows[["visual", "sound", "fused", "calibrated", "r12 calibrated", "expected"]].round(3)

# %% mystnb={"image": {"alt": "Five dots, one a row of the paper's Table 3, of the correlation between the branches that the row implies. The first four lie to the right of a dotted line at nought, the last to its left; hollow marks, where errors would be independent, all lie just to the right of the line."}, "figure": {"caption": "The correlation between the two branches that each row of the paper's Table 3 implies (filled), and the one that independent errors would give (hollow).", "name": "full-implied"}}
independent = rows["visual"] * rows["sound"]
places = range(len(rows))
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3))
ax.plot(rows["r12 calibrated"], places, "o", markersize=8)
ax.plot(independent, places, "o", color=figures.GREY, markerfacecolor="white")
ax.axvline(0, color=figures.GREY, linestyle=":", linewidth=1)
ax.set_yticks(places, [name.replace(" & ", "\n& ") for name in rows.index])
ax.invert_yaxis()
ax.set_xlabel("correlation between the branches")
plt.show()

# %% tags=["remove-cell"]
last = rows.iloc[-1]
ours = rows.iloc[1:]
glue("full_implied", ", ".join(f"{value:+.2f}" for value in ours["r12 calibrated"]), display=False)
glue("full_equal", f"{last['equal']:.3f}", display=False)
glue("full_calibrated", f"{last['calibrated']:.4f}", display=False)
glue("full_crossed", f"{last['crossed']:.3f}", display=False)
glue("full_needed", f"{last['crossing needed']:.2f}", display=False)
glue("full_expected", f"{last['expected'] - ours['fused'].iloc[-2]:.3f}", display=False)
glue("full_gained", f"{last['fused'] - ours['fused'].iloc[-2]:.4f}", display=False)
glue("full_verdict", last["verdict"], display=False)
glue("full_crossing", simulated.CROSSING, display=False)

# %% [markdown]
# The four rows of the paper's own imply {glue:text}`full_implied` ({numref}`full-implied`). The last row is the odd
# one. Were the branches unrelated, an average of equal spread could reach {glue:text}`full_equal` and one of calibrated
# branches {glue:text}`full_calibrated`; the reported value is above both. From the row before it the visual branch
# gains little, and the average should gain {glue:text}`full_expected`; it gains {glue:text}`full_gained`.
#
# There is an innocent way. These are means over six emotions. If the face tells some of them better and the voice the
# others, as teams of this challenge report, the emotions *cross*, and the average gains more than the means let expect:
# where each branch is {glue:text}`full_crossing` better than its mean in one half of the emotions and as much worse in
# the other, up to {glue:text}`full_crossed`. By this arithmetic a crossing of {glue:text}`full_needed` is enough. The
# verdict of the code on this row: "{glue:text}`full_verdict`".
#
# But the arithmetic is too kind, and the simulation shows why. Two branches that see different things, with noises
# that have nothing to do with each other, both aim at the same latent strength, and both miss the same luck of the
# raters. So they agree with each other more than their correlations with the label let expect. In the next table
# branches are made to score what Table 2 says, as best predictors (`attainable`) or as ridge regressions that miss some
# of it (`attained`), and then averaged.

# %%
tried = results["table3"]
tried = tried.set_index(["calibration", "crossing", "features"])
tried[["visual", "sound", "r12", "fused", "paper"]].round(3)

# %% mystnb={"image": {"alt": "Four groups of marks, one a row of Table 3 from the vit to the joined visual channels. Circles and squares for simulated averages rise gently from group to group, higher where the emotions cross more; the diamonds of the paper start below them and end at the height of the highest."}, "figure": {"caption": "Table 3 from simulated branches that have the correlations of the paper's Table 2 (circles: best predictors, squares: ridge regressions, paler to darker as emotions cross more), and the paper's own (diamonds).", "name": "full-table-three"}}
fig, ax = plt.subplots()
order = list(dict.fromkeys(results["table3"]["features"]))
crossings = sorted(results["table3"]["crossing"].unique())
for row in results["table3"].itertuples():
    mark, side = {"attainable": ("o", -0.12), "attained": ("s", 0.12)}[row.calibration]
    pale = 0.35 + 0.65 * crossings.index(row.crossing) / max(1, len(crossings) - 1)
    across = order.index(row.features) + side
    ax.plot(across, row.fused, mark, color=figures.BLUE, alpha=pale)
for place, name in enumerate(order):
    ax.plot(place, rows.loc[name, "fused"], "D", color=figures.ORANGE)
seen = [name.split(" & ")[0].replace("+", "\n+ ") for name in order]
ax.set_xticks(range(len(order)), seen)
ax.set_ylabel("mean correlation of the average")
plt.show()

# %% tags=["remove-cell"]
level = results["table3"].set_index(["calibration", "crossing", "features"]).sort_index()
joined = "resnet18+aus & wav2vec2"
glue("full_none", f"{level.loc[('attainable', 0.0, joined), 'fused']:.3f}", display=False)
glue("full_none_r12", f"{level.loc[('attainable', 0.0, joined), 'r12']:.2f}", display=False)
glue("full_most", f"{level.loc[('attainable', crossings[-1], joined), 'fused']:.3f}", display=False)
glue("full_usual", f"{level.loc[('attainable', simulated.CROSSING, joined), 'fused']:.3f}", display=False)
attained = level.loc[("attained", simulated.CROSSING, joined)]
glue("full_attained", f"{attained['fused']:.3f}", display=False)
glue("full_attained_low", f"{attained['low']:.3f}", display=False)
glue("full_attained_high", f"{attained['high']:.3f}", display=False)
glue("full_most_crossing", f"{crossings[-1]:.2f}", display=False)
glue("full_reported", f"{last['fused']:.4f}", display=False)

# %% [markdown]
# Best predictors with Table 2's correlations agree by {glue:text}`full_none_r12` where emotions do not cross, and their
# average scores {glue:text}`full_none`; with crossing by {glue:text}`full_crossing`, {glue:text}`full_usual`; by
# {glue:text}`full_most_crossing`, {glue:text}`full_most`. Ridge regressions that were made to score Table 2's values on
# the very clips that are reported average to {glue:text}`full_attained` at the usual crossing, with an interval over
# participants from {glue:text}`full_attained_low` to {glue:text}`full_attained_high`. The paper reports
# {glue:text}`full_reported`, and {numref}`full-table-three` shows how steeply its rows climb beside ours. So nothing
# here *forbids* that value, but something has to help: luck, emotions that cross further, or branches whose errors
# oppose each other. It is one number from one training, chosen on the clips on which it is reported. Which leads to the
# next question.
#
# ## How far may a value be off?
#
# Here it can be tried: draw other people and other seed videos, as often as you like, and score the same predictors.
# The width that holds nineteen of twenty draws, `anew`, is the truth that a bootstrap has to guess from one sample. It
# is done twice: for people who can all be read equally well (`legible` is nought) and for people who differ in that as
# the actors of CREMA-D do.

# %%
width = results["widths"].set_index(["legible", "features"])
width[["mean", "anew", "clips", "participants"]].round(4)

# %% mystnb={"image": {"alt": "For each row three marks from left to right: the width by a bootstrap over clips, by one over participants, and the width over people and seed videos drawn anew. The last lies furthest to the right in nearly every row."}, "figure": {"caption": "Width of what holds nineteen of twenty: by two bootstraps of one sample, and as it truly is. People differ in how well they can be read, as in CREMA-D.", "name": "full-widths"}}
differing = results["widths"][results["widths"]["legible"] > 0]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4))
for column, mark in (("clips", "o"), ("participants", "s"), ("anew", "D")):
    ax.plot(differing[column], range(len(differing)), mark, label=column)
names = [name.replace(" & ", "\n& ") for name in differing["features"]]
ax.set_yticks(range(len(differing)), names)
ax.invert_yaxis()
ax.set_xlabel("width")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
ratio = differing["participants"] / differing["clips"]
glue("full_width_clips", f"{differing['clips'].mean():.3f}", display=False)
glue("full_width_people", f"{differing['participants'].mean():.3f}", display=False)
glue("full_width_anew", f"{differing['anew'].mean():.3f}", display=False)
glue("full_width_ratio", f"{ratio.mean():.2f}", display=False)
gaps = results["differences"]
own = gaps[~gaps["beside"].str.contains("baseline")]
step = gaps.set_index(["features", "beside"]).loc[(joined, "aus & wav2vec2")]
glue("full_step", f"{step['anew']:.3f}", display=False)
glue("full_larger", int(own["larger"].sum()), display=False)
glue("full_gaps", len(own), display=False)

# %% [markdown]
# The validation partition has as many clips as the paper's, and about one hundred and fifty people. A bootstrap over
# clips says that a mean correlation is known to within a width of {glue:text}`full_width_clips`, one over participants
# {glue:text}`full_width_people`, {glue:text}`full_width_ratio` times as much. The truth is
# {glue:text}`full_width_anew`: seed videos recur as well, and neither bootstrap draws them anew. People count for less
# here than in chapter 2, where they made an interval much wider: there each of them has more clips, and correlations
# are far higher, so that it matters more who can be read well. A difference between two rows that share a branch is
# known better than either row, because luck moves both alike. In the next table `difference` is the paper's, `anew` how
# far chance moves such a difference either way, and `larger` says whether the one exceeds the other.

# %%
gaps.round(4)

# %% [markdown]
# Of the {glue:text}`full_gaps` differences between rows of the paper's own, {glue:text}`full_larger` are larger than
# what chance does to two such rows. To the step into the last row of Table 3, other people and other seed videos would
# do no more than {glue:text}`full_step` either way: so they are not what makes it so large. This counts people and seed
# videos, not the luck of a training, of which the paper reports one each.
#
# ## The epoch that was chosen
#
# The paper keeps the epoch that does best on the clips that it then reports. How much does that flatter? Take one
# training, look at it after every epoch, let some people choose the epoch, and ask others what it is worth. `reported`
# is its score on those who chose, `fresh` on as many others, and `optimism` the difference, with its standard error.

# %%
flattery = results["optimism"].set_index("people")
flattery.round(4)

# %% mystnb={"image": {"alt": "A falling line of how much the reported score exceeds what others find, against the number of people who choose, on a logarithmic axis; it is largest for a handful of people and near nought at the right end."}, "figure": {"caption": "What choosing the epoch adds to the score on the clips it was chosen on, by how many people chose. The band is two standard errors.", "name": "full-optimism"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
value, error = flattery["optimism"], 2 * flattery["error"]
ax.semilogx(flattery.index, value, "o-")
ax.fill_between(flattery.index, value - error, value + error, alpha=0.2)
ax.axhline(0, color=figures.GREY, linestyle=":", linewidth=1)
ax.set(xlabel="people who choose", ylabel="flattery")
plt.show()

# %% tags=["remove-cell"]
glue("full_flatter_few", f"{value.iloc[0]:.4f}", display=False)
glue("full_flatter_many", f"{value.iloc[-1]:.4f}", display=False)
glue("full_people_few", int(flattery.index[0]), display=False)
glue("full_people_many", int(flattery.index[-1]), display=False)

# %% [markdown]
# With {glue:text}`full_people_few` people ({numref}`full-optimism`) it adds {glue:text}`full_flatter_few`; with
# {glue:text}`full_people_many`, as many as the validation partition has, {glue:text}`full_flatter_many`. So this sin is
# a small one at the full size, next to the widths above, and a larger one for whoever has a handful of people. Choosing
# among feature sets, seeds and fusions on the same clips adds to it, and is not counted here.
#
# ## Every choice the paper leaves open
#
# Now a few hundred clips, and every other way to take the paper's words, one at a time and then several at once: a
# *specification curve* {cite:p}`simonsohn2020`. At this size it says which choices matter at all to such a recipe, not
# what they do at the full size. `moved` is how far a choice moves the last fused row, `kept` the share of pairs of rows
# that stand in the paper's order, `same_order` whether all do.

# %%
curve = results["choices"].sort_values("moved").reset_index(drop=True)
single = curve[curve["options"] <= 1].set_index("variant")
single[["moved", "kept", "same_order"]].round(3)

# %% mystnb={"image": {"alt": "Dots in rising order of how far a variant moves the last fused row, some far to the left of a dotted line at nought and few to its right; blue ones are single options, orange ones combinations of several."}, "figure": {"caption": "How far each variant moves the last fused row, in order: single options (blue) and combinations (orange).", "name": "full-curve"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.8 + 0.2 * len(curve)))
several = curve["options"] > 1
ax.scatter(curve["moved"], curve.index, c=np.where(several, figures.ORANGE, figures.BLUE))
ax.axvline(0, color=figures.GREY, linestyle=":", linewidth=1)
labels = [name if count <= 1 else f"{count} together"
          for name, count in zip(curve["variant"], curve["options"], strict=True)]
ax.set_yticks(curve.index, labels)
ax.set_xlabel("last fused row, less the base's")
plt.show()

# %% tags=["remove-cell"]
alone = single.drop(index="base")["moved"].dropna()
glue("full_variants", len(curve), display=False)
glue("full_same_order", f"{curve['same_order'].mean():.0%}", display=False)
glue("full_pairs", f"{curve['kept'].mean():.0%}", display=False)
glue("full_worst", alone.idxmin(), display=False)
glue("full_worst_by", f"{alone.min():+.3f}", display=False)
glue("full_best", alone.idxmax(), display=False)
glue("full_best_by", f"{alone.max():+.3f}", display=False)

# %% [markdown]
# Of {glue:text}`full_variants` variants {glue:text}`full_same_order` keep the paper's order of rows from the lowest to
# the highest; pair by pair, {glue:text}`full_pairs` of the pairs stand as they do in the paper. The option that does
# most harm alone is {glue:text}`full_worst` ({glue:text}`full_worst_by`), the one that helps most
# {glue:text}`full_best` ({glue:text}`full_best_by`). A variant without a dot has no score: its training diverged, and
# it counts as keeping no order. A result that hangs on a choice which nobody wrote down is not yet a result.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} What three numbers give away
# :label: full-exercise-agreement
# ```
# Suppose that both branches had the same spread instead. Then the average scores $(r_1 + r_2) / \sqrt{2 + 2 r_{12}}$.
# Which $r_{12}$ does each row of Table 3 imply?
#
# Give one number a row of `rows`: `emibook.check_exercise("14.1", agreement, rows=rows)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} full-exercise-agreement
# :class: dropdown
# ```
# Square both sides and solve for $r_{12}$.

# %%
agreement = (rows["visual"] + rows["sound"]) ** 2 / (2 * rows["fused"] ** 2) - 1
emibook.check_exercise("14.1", agreement, rows=rows)
agreement.round(3)

# %% [markdown]
# All of them are negative: with one spread for both, the weaker branch speaks too loudly, and only contradiction
# could make up for it. That speaks for calibrated branches.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How many people would it take?
# :label: full-exercise-people
# ```
# In Table 2 the joined channels are a small `difference` ahead of the action units alone. With the validation
# partition's `participants`, chance moves such a difference by `chance` either way (the column `anew` of the table of
# differences). With how many people, of whom each made as many clips as these, would chance be just as large as the
# difference?
#
# Give their number:
# `emibook.check_exercise("14.2", people, difference=difference, chance=chance, participants=participants)`.
# ```{exercise-end}
# ```

# %%
row = gaps.set_index(["features", "beside"]).loc[("resnet18+aus", "aus")]
difference, chance = row["difference"], row["anew"]
participants = int(sizes.loc["valid", "people"])

# %% [markdown]
# ```{solution-start} full-exercise-people
# :class: dropdown
# ```
# Chance shrinks with the root of the number of people.

# %%
people = participants * (chance / difference) ** 2
emibook.check_exercise(
    "14.2", people, difference=difference, chance=chance, participants=participants
)
round(people)

# %% [markdown]
# The number of seed videos would have to change along with that of the people, for they are drawn anew as well.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - planted a mean, an onset and a rhythm, and said which of them an average sees;
# - computed the best there is, with the ceiling that raters put on it;
# - held a recipe against the best predictor and against ridge regression, and found what its rate costs it;
# - worked out the agreement that reported rows imply, and tried whether that can come about;
# - told the width of a correlation over clips, over people and in truth, and compared the paper's differences with it;
# - read a specification curve, and counted in how many variants an order survives.
#
# ## Sources
#
# The paper, sections 3.5, 4.2 and 4.3 {cite:p}`yu2024`; Adam {cite:p}`kingma2015`; the combination of forecasts
# {cite:p}`bates1969`; bootstrap over clusters {cite:p}`field2007`; ridge regression {cite:p}`hoerl1970`; the
# participants' effect from CREMA-D {cite:p}`cao2014`; specification curves {cite:p}`simonsohn2020`; the expansion
# behind the formula {cite:p}`mehler1866`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("full_minutes", f"{about['minutes'].sum():.0f}", display=False)
glue("full_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# The kept results took {glue:text}`full_minutes` minutes altogether, the page itself {glue:text}`full_seconds`
# seconds.
