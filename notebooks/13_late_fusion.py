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
# # Two branches and late fusion

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
from emibook.audit.fusion_bounds import implied
from emibook.book.page import TABLE_FEATURES, banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.experiments import paper_tables
from emibook.experiments.paper_rows import TABLE2, TABLE3
from emibook.experiments.runs import Run
from emibook.features import EXTRACTORS, extract
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson, pearson
from emibook.preprocess import preprocess
from emibook.puppet.corpus import make_corpus
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
# **When is the average of two opinions better than the better one of them?**
#
# Two people judge how amused somebody is. One watches with the sound off, the other listens with closed eyes. Each
# is right a little more often than chance. If they err in the same clips, asking both is no better than asking one.
# If each is fooled where the other is not, their average is worth more than either. The paper's last step is this
# average, and nothing else: no weights, nothing learned.
#
# You will
#
# - draw the two branches and count what is in them;
# - read both tables of the paper, made on this corpus, with an interval on every row;
# - work out what an average of two predictors correlates with, before you measure it;
# - measure how much two trained branches agree, and predict from it what their average scores;
# - solve the paper's own rows for the agreement that it does not report;
# - break the average with nothing but a change of scale, and mend it.
#
# ## What the paper says
#
# > "Our late fusion approach involves training the visual and acoustic models separately to make individual
# > predictions, and then averaging the audiovisual results to obtain a final prediction from both modalities."
# > (section 3.5)
#
# In its equation (5), $F_{va} = \mathrm{average}(F_v, F_a)$, where $F_v$ and $F_a$ hold a value an emotion each.
#
# ## Two branches
#
# ```{figure} ../static/branches.svg
# :name: fusion-branches
# :width: 400px
# :alt: A flow chart of two columns. On the left ResNet-18 and action units are joined and go through a temporal convolution, a Transformer encoder, a mean over time and two dense layers. On the right sound features go the same way without the Transformer. Both end in six values, which are averaged.
#
# The paper's Figure 2, drawn anew. The branches share nothing, and are trained apart.
# ```
#
# What {numref}`fusion-branches` shows is one class of the library. A temporal convolution {cite:p}`bai2018` looks
# back over the steps, attention {cite:p}`vaswani2017` looks over the whole clip; the acoustic branch has no attention.
# Here are both at the paper's size, and how many weights each has to learn.

# %%
emotions = len(corpus.targets)
branches = {
    "visual": emibook.IntensityRegressor(512 + 34, emotions, transformer_layers=2),
    "acoustic": emibook.IntensityRegressor(
        EXTRACTORS["mfcc"].width, emotions, transformer_layers=0),
}
sizes = {name: sum(each.numel() for each in branch.parameters())
         for name, branch in branches.items()}
sizes

# %% tags=["remove-cell"]
glue("size_visual", f"{sizes['visual']:,}", display=False)
glue("size_acoustic", f"{sizes['acoustic']:,}", display=False)
glue("training_clips", len(corpus.partition("train")), display=False)

# %% [markdown]
# {glue:text}`size_visual` numbers to learn on one side and {glue:text}`size_acoustic` on the other, from
# {glue:text}`training_clips` training clips. Keep that in mind when the intervals come.
#
# ## Both tables
#
# Table 2 asks what one modality can do, Table 3 what the average of two can. The same call makes every run that is
# missing: each row, each seed, trained on `train` and scored on `valid`. (`vit & mfcc` is the average of a branch on
# `vit` and one on `mfcc`; `resnet18+aus` is one branch on both.)

# %%
preprocess(corpus, work, resources=Resources(progress=False))
extract(corpus, work, TABLE_FEATURES, weights=weights, resources=Resources(progress=False))
table2, table3 = paper_tables.tables(
    corpus, work, seeds=seeds, reference_rows=people_rows(corpus),
    resources=Resources(progress=False))
shown = ["mean", "low", "high", "weights"]
table2.set_index("features")[shown].round(3)

# %% mystnb={"image": {"alt": "Rows of Table 2, one under another: a dot for the mean correlation of each feature set and a line for its interval. Untrained controls are hollow and grey, and lie nearer to zero than the filled ones."}, "figure": {"caption": "Table 2 on this corpus: one modality a row, mean over seeds, interval over participants and seeds. Small dots: seed by seed.", "name": "fusion-table-2"}}
figures.show_rows(table2, paper=profile == "paper")
plt.show()

# %%
table3.set_index("features")[shown].round(3)

# %% mystnb={"image": {"alt": "Rows of Table 3, one under another: a dot for the mean correlation of each fused pair and a line for its interval. Pairs that hold an untrained control are hollow and grey."}, "figure": {"caption": "Table 3 on this corpus: the average of two branches a row, drawn in the same way.", "name": "fusion-table-3"}}
figures.show_rows(table3, paper=profile == "paper")
plt.show()

# %% tags=["remove-cell"]
rows = pd.concat([table2, table3]).set_index("features")
eyes, ears = "resnet18+aus", "mfcc"
pair = f"{eyes} & {ears}"
better = rows.loc[[eyes, ears], "mean"].idxmax()
gain = rows.loc[pair, "mean"] - rows.loc[better, "mean"]
glue("mean_eyes", f"{rows.loc[eyes, 'mean']:.3f}", display=False)
glue("mean_ears", f"{rows.loc[ears, 'mean']:.3f}", display=False)
glue("mean_pair", f"{rows.loc[pair, 'mean']:.3f}", display=False)
glue("pair_low", f"{rows.loc[pair, 'low']:.3f}", display=False)
glue("pair_high", f"{rows.loc[pair, 'high']:.3f}", display=False)
glue("better", better, display=False)
glue("gain", f"{gain:+.3f}", display=False)

# %% [markdown]
# The row to look at is the one that joins everything that has learnt something: `resnet18+aus` scores
# {glue:text}`mean_eyes`, `mfcc` {glue:text}`mean_ears`, their average {glue:text}`mean_pair`, with an interval from
# {glue:text}`pair_low` to {glue:text}`pair_high` ({numref}`fusion-table-2` and {numref}`fusion-table-3`). Against the
# better branch alone, {glue:text}`better`, the average changes the score by {glue:text}`gain`. The row is the paper's
# last one, with the sound that we have, and was named beforehand; another may score higher, but to take that one now
# would be choosing on what one reports (chapter 3). Rows marked "untrained control" run the right architecture with
# weights that have learnt nothing; what they score is what chance, and whatever random features let through, can score
# here.
#
# ## What an average correlates with
#
# Correlation asks how much of one thing's ups and downs is found in another's. Add two predictions, and their shares
# of the truth add up. Their own ups and downs add up too, but less so where they contradict each other. With
# correlations $r_1$ and $r_2$ with the truth, $r_{12}$ with each other, and standard deviations $s_1$ and $s_2$, the
# average has
#
# $$r = \frac{s_1 r_1 + s_2 r_2}{\sqrt{s_1^2 + s_2^2 + 2 s_1 s_2 r_{12}}}$$
#
# For two of equal spread that is $(r_1 + r_2) / \sqrt{2 + 2 r_{12}}$. The question of this chapter is answered by
# it: what the average gains depends as much on $r_{12}$ as on the branches' own merit {cite:p}`bates1969`. To try it,
# draw a truth and two predictions at random with correlations that we choose, average the two, and correlate.

# %%
def correlation_of_average(r1, r2, r12, s1=1.0, s2=1.0):
    """What the average of two predictions correlates with the truth."""
    return (s1 * r1 + s2 * r2) / np.sqrt(s1**2 + s2**2 + 2 * s1 * s2 * r12)


rng = np.random.default_rng(seed)
r1, r2, r12 = 0.3, 0.2, 0.1
spread = [[1, r1, r2], [r1, 1, r12], [r2, r12, 1]]
draws = rng.multivariate_normal(np.zeros(3), spread, size=200_000)
truth, first, second = draws.T[..., None]
measured = pearson(truth, late_fusion(first, second))[0]
round(float(measured), 3), round(float(correlation_of_average(r1, r2, r12)), 3)

# %% [markdown]
# First by random draws, then by the formula: the two agree. So the picture can be drawn without any data.

# %% mystnb={"image": {"alt": "Three falling curves of the average's correlation against the correlation between the branches, for a second branch as good as the first, half as good and a quarter as good. A dashed level marks the first branch alone. The weaker the second branch, the sooner its curve drops below the level."}, "figure": {"caption": "The average against the first branch alone, by how alike the branches are. Equal spread; the second branch as good, half as good, a quarter as good.", "name": "fusion-curves"}}
alike = np.linspace(-0.5, 0.95, 100)
fig, ax = plt.subplots()
for share, label in ((1, "as good"), (0.5, "half as good"), (0.25, "a quarter as good")):
    ax.plot(alike, correlation_of_average(1, share, alike), label=label)
ax.axhline(1, color=figures.GREY, linestyle="--", linewidth=1)
ax.set(xlabel="correlation between the branches", ylabel="average / first branch alone")
ax.set_ylim(0.5, 2.1)
ax.legend()
plt.show()

# %% [markdown]
# In {numref}`fusion-curves` an equally good second opinion never hurts. One that is half as good helps while the two
# have little to do with each other. One that is a quarter as good hurts unless they contradict each other.
#
# ## Measured between our branches
#
# Now the real ones. Each emotion has its own $r_1$, $r_2$, $r_{12}$ and spreads, measured on the validation clips with
# one run a branch; `r1` is the visual one. (The two stars hand the table's columns to the function by their names.)

# %%
valid = corpus.partition("valid")
people = list(valid["participant"])
truth = valid[list(corpus.targets)].to_numpy()
quiet = Resources(progress=False)
runs = [paper_tables.train(corpus, work, name, resources=quiet) for name in (eyes, ears)]
seen, heard = (Run.open(run).predictions("valid", valid["clip"])[0] for run in runs)
by_emotion = pd.DataFrame(index=corpus.targets)
by_emotion["r1"], by_emotion["r2"] = pearson(truth, seen), pearson(truth, heard)
by_emotion["r12"] = pearson(seen, heard)
by_emotion["s1"], by_emotion["s2"] = seen.std(axis=0), heard.std(axis=0)
by_emotion["formula"] = correlation_of_average(**by_emotion)
by_emotion["measured"] = pearson(truth, late_fusion(seen, heard))
by_emotion.round(3)

# %% tags=["remove-cell"]
alone = by_emotion[["r1", "r2"]].max(axis=1)
glue("r12", f"{by_emotion['r12'].mean():.2f}", display=False)
glue("helped", int((by_emotion["measured"] > alone).sum()), display=False)
glue("emotions", emotions, display=False)
largest = float((by_emotion["formula"] - by_emotion["measured"]).abs().max())
glue("largest", f"{largest:.0e}", display=False)
glue("spread_ratio", f"{(by_emotion['s1'] / by_emotion['s2']).mean():.2f}", display=False)

# %% mystnb={"image": {"alt": "For each emotion three marks on one line: the visual branch, the acoustic branch and their average. Where the average stands to the right of both, averaging helps."}, "figure": {"caption": "Each emotion's correlation by the visual branch, the acoustic branch and their average, on the validation clips.", "name": "fusion-emotions"}}
fig, ax = plt.subplots()
marks = {"r1": ("o", "visual"), "r2": ("s", "acoustic"), "measured": ("D", "average")}
for column, (mark, label) in marks.items():
    ax.plot(by_emotion[column], corpus.targets, mark, label=label, markersize=8)
ax.axvline(0, color=figures.GREY, linestyle=":", linewidth=1)
ax.invert_yaxis()
ax.set_xlabel("Pearson correlation with the raters")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# The branches correlate with each other by {glue:text}`r12` on average over the emotions. The average beats the
# better branch in {glue:text}`helped` of {glue:text}`emotions` emotions ({numref}`fusion-emotions`). Formula and
# measurement differ by {glue:text}`largest` at most: this is no theory about networks but arithmetic, and whoever
# reports the two branches, their spreads and their average has reported $r_{12}$ as well.
#
# ## What the paper's rows imply
#
# The paper reports both branches and the average, and no spreads. Take the branches to be *calibrated*: they spread as
# much as they know, $s_1 = r_1$ and $s_2 = r_2$, as a squared error would have it. Then the formula can be solved for
# the one number that is missing, row by row:

# %%
theirs = {row.features: row.paper for row in TABLE2}
solved = {
    row.features: implied(*(theirs[branch] for branch in row.branches), row.paper)
    for row in TABLE3 if row.paper is not None
}
solved = pd.DataFrame(solved).loc["calibrated"].rename("implied correlation")
solved.round(2).to_frame()

# %% tags=["remove-cell"]
glue("implied_last", f"{solved.iloc[-1]:+.2f}", display=False)
glue("implied_most", f"{solved.max():+.2f}", display=False)

# %% [markdown]
# This is arithmetic on what the paper prints, and nothing on this page was measured for it. Calibrated branches would
# have correlated by {glue:text}`implied_most` at most, and in the last row, the one that won, by
# {glue:text}`implied_last`. Face and voice that both know something of the truth should agree a little. Chapter 14 asks
# how the last row can be.
#
# ## What goes wrong otherwise
#
# The average has no weights, but it is not neutral: the prediction that spreads more speaks louder. Correlation does
# not care for scale, so nobody who looks at one branch at a time will notice. Here the visual branch spreads
# {glue:text}`spread_ratio` times as much as the acoustic one. Stretch the acoustic branch, and change nothing else:

# %%
stretches = np.geomspace(1 / 30, 30, 41)
scores = [mean_pearson(truth, late_fusion(seen, heard * each)) for each in stretches]
equal = mean_pearson(truth, late_fusion(seen / seen.std(axis=0), heard / heard.std(axis=0)))

# %% mystnb={"image": {"alt": "One curve of the average's score against the factor by which the acoustic branch is stretched, on a logarithmic axis. It runs from the level of the visual branch on the left to the level of the acoustic branch on the right. A dashed level marks both on one scale."}, "figure": {"caption": "Mean correlation of the average when the acoustic branch is stretched. Far left only the visual branch is heard, far right only the acoustic one; dashed: both brought to one spread.", "name": "fusion-stretch"}}
fig, ax = plt.subplots()
ax.semilogx(stretches, scores)
ax.axhline(equal, color=figures.GREY, linestyle="--", label="both at one spread")
ax.axvline(1, color=figures.GREY, linestyle=":", label="as trained")
ax.set(xlabel="acoustic branch stretched by", ylabel="mean correlation of the average")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
glue("score_best", f"{max(scores):.3f}", display=False)
glue("score_worst", f"{min(scores):.3f}", display=False)
glue("score_equal", f"{equal:.3f}", display=False)

# %% [markdown]
# The same two branches score anything from {glue:text}`score_worst` to {glue:text}`score_best`. A squared error as
# the loss, as in the paper, ties each branch to the scale of the labels; a loss that is itself a correlation leaves
# the scale free, and then the average is an accident. The mend is one line: divide each by its spread, which gives
# {glue:text}`score_equal` here.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Where averaging stops to pay
# :label: fusion-exercise-threshold
# ```
# Take two branches of equal spread, of which the second correlates with the truth $q$ times as well as the first. Up to
# which $r_{12}$ does their average beat the first alone? Which emotions of ours lie beyond that?
#
# Give the limit of $r_{12}$ for each emotion, taking the better branch for the first one, and have it checked:
# `emibook.check_exercise("13.1", limit, by_emotion=by_emotion)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} fusion-exercise-threshold
# :class: dropdown
# ```
# From $(1 + q) / \sqrt{2 + 2 r_{12}} > 1$ follows $r_{12} < (1 + q)^2 / 2 - 1$. It holds where both correlations are
# positive.

# %%
weaker = by_emotion[["r1", "r2"]].min(axis=1) / alone
limit = (1 + weaker) ** 2 / 2 - 1
pays = by_emotion["r12"] < limit
emibook.check_exercise("13.1", limit, by_emotion=by_emotion)
pd.DataFrame({"r12": by_emotion["r12"], "limit": limit, "pays": pays}).round(3)

# %% [markdown]
# Where the spreads differ this is a rule of thumb only: the louder branch counts for more.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A weight of one's own
# :label: fusion-exercise-weight
# ```
# Why a half? Choose the visual branch's weight that scores best on one half of the validation participants, and
# score it on the other half, then the other way round. Is it worth it?
#
# Give the split, true for the clips of one half, with the weight chosen there and the one chosen on the others:
# `emibook.check_exercise("13.2", (half, first, second), truth=truth, seen=seen, heard=heard, people=people)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} fusion-exercise-weight
# :class: dropdown
# ```
# Whoever chooses and scores on the same clips reports a hope. So participants are split, and each half judges the
# other's choice.

# %%
number = valid["participant"].rank(method="dense").to_numpy()
half = (number if len(set(number)) > 1 else np.arange(len(seen))) % 2 == 0
choices = np.linspace(0, 1, 21)
blends = [weight * seen + (1 - weight) * heard for weight in choices]
found = []
for part in (half, ~half):
    scores = [np.nanmean(pearson(truth[part], blend[part])) for blend in blends]
    chosen = int(np.argmax(np.nan_to_num(scores, nan=-1)))
    with_it = np.nanmean(pearson(truth[~part], blends[chosen][~part]))
    with_a_half = np.nanmean(pearson(truth[~part], blends[10][~part]))
    found.append([choices[chosen], with_it, with_a_half])
pd.DataFrame(found, columns=["chosen weight", "score with it", "score with a half"]).round(3)

# %%
first, second = (chosen for chosen, *_ in found)
emibook.check_exercise("13.2", (half, first, second),
                       truth=truth, seen=seen, heard=heard, people=people)

# %% [markdown]
# Compare the two chosen weights with each other before you compare the scores: if the halves do not agree on a
# weight, there is little to be chosen. An emotion that does not vary within a half has no correlation there and is
# left out.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - drawn both branches and counted their parameters;
# - made both tables with intervals, and told trained rows from untrained controls;
# - worked out what an average correlates with, and checked it against random draws;
# - measured $r_{12}$ between two trained branches, and found the formula and the measurement to be the same number;
# - found what the paper's rows imply, and one row that is odd;
# - turned an average into either of its parts by scale alone, and brought both to one spread.
#
# ## Sources
#
# The paper, sections 3.3 to 3.5 and 4.3 {cite:p}`yu2024`; the combination of two forecasts {cite:p}`bates1969`;
# causal dilated convolutions {cite:p}`bai2018`; attention {cite:p}`vaswani2017`.
#
# ## How long it takes

# %% tags=["hide-input"]
ledger = work / "timings.csv"
nothing = pd.DataFrame({"stage": [], "seconds": []})
spent = pd.read_csv(ledger) if ledger.exists() else nothing
glue("page_seconds", round(time.perf_counter() - started), display=False)
stages = spent[~spent["stage"].astype(str).str.startswith("chapter ")]
stages.groupby("stage", sort=False)["seconds"].max().to_frame()

# %% [markdown]
# Seconds of each stage, by its longest call in this work folder; the page itself took {glue:text}`page_seconds`.
