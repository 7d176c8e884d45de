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
# # People as encoders

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
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.corpus import crema_d_votes, open_corpus
from emibook.metrics import pearson
from emibook.puppet.corpus import make_corpus
from emibook.studies.human import people
from emibook.studies.human.label_ceiling import ceiling

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root, media=False)
banner(profile, corpus)

# %% [markdown]
# **Two halves of an answer make a better whole. Because they are different halves, or only because they are two?**
#
# Ten people watch a short clip with the sound off, and each says what the woman in it feels. Ten others hear her
# behind a curtain. Ten more see and hear her. Nobody in the first room knows what was said in the others.
#
# (The note below the title is about the corpus of this page, whose labels are looked at once, in the section on the
# ceiling. Everything else here is thrown with coins or counted from the votes of real people on real people.)
#
# There is no network in this chapter, and nothing is trained. An *encoder* turns a clip into numbers; here the encoders
# are people. What can those in the first two rooms tell of the third? Whoever knows that knows what to hope for from a
# machine, and, as it will turn out, knows a way to fool oneself that lies in wait wherever the answers of several
# networks are averaged (an *ensemble*).
#
# The three rooms are real. In CREMA-D {cite:p}`cao2014` 91 actors speak twelve sentences, in six emotions; crowds
# rated every clip in all three ways, about ten people each. It is a neighbour of this book's task, and not its twin:
# the clips are *acted*, nobody mimics anybody, and a rater ticks *one* of six emotions, so that the fractions of a
# clip add up to one. But the faces, the voices and the raters are real, and the licence is open.
#
# You will
#
# - throw coins to see what it does to a correlation that only ten people were asked;
# - read how well those who heard, and those who saw, predict those who had both;
# - take the unfair part out of what averaging gains, and find what is left when luck is gone;
# - find the emotion that loses by averaging, and the formula that says why;
# - compute the ceiling: what nothing, however good, can pass;
# - compare whom people read well, and see where the data do not say.
#
# ## What the paper says
#
# > "leveraging a late fusion strategy, we averaged the predictions of the visual and acoustic models, resulting in a
# > more accurate estimation of audiovisual emotional mimicry intensity" (section 1)
#
# More accurate than what, and why? The sentence has two possible reasons in it. One is that face and voice tell
# different things. The other is that any two opinions are better than one.
#
# ## Ten people and a coin
#
# Suppose everybody on earth could be asked. Some share of them would say "happy": call it the clip's chance. Ask ten,
# and each answer is the throw of a coin with that chance. Ask ten others, and you throw again.

# %%
rng = np.random.default_rng(seed)
chance = rng.beta(0.4, 1.6, 100_000)  # of clips that never were
one, other = rng.binomial(10, chance, (2, len(chance))) / 10
agreement = pearson(one[:, None], other[:, None])[0]
perfect = pearson(one[:, None], chance[:, None])[0]
round(float(agreement), 3), round(float(perfect), 3), round(float(agreement**0.5), 3)

# %% tags=["remove-cell"]
glue("people_coin_agreement", f"{agreement:.3f}", display=False)
glue("people_coin_perfect", f"{perfect:.3f}", display=False)

# %% [markdown]
# Nothing is wrong with these raters. All of them see the same clip and throw the same coin. Still, the fractions of
# two groups of ten correlate at {glue:text}`people_coin_agreement` only, which is called their *agreement* here, and
# somebody who *knows* every chance, the perfect predictor, reaches {glue:text}`people_coin_perfect`. The third number
# is the square root of the first, and it is the second, but for the luck of so many throws. That is a law
# {cite:p}`spearman1904`: the luck is in both groups when they are compared with each other, and in one when a group is
# compared with the truth.
#
# How many must be asked? If $a$ is the agreement of two groups, the agreement of groups $k$ times as large is
# $ka / (1 + (k - 1)a)$ {cite:p}`spearman1910,brown1910`.

# %% mystnb={"image": {"alt": "Dots on a rising curve that bends over: the agreement of two groups against the number of raters in each, from one to forty. The curve through the dots is the formula, drawn from the dot at ten raters alone. It climbs steeply up to ten raters and slowly after that."}, "figure": {"caption": "Agreement of two groups of coin throwers by how many are in each. Dots: thrown. Line: the formula, from ten raters.", "name": "people-raters"}}
numbers = np.array([1, 2, 3, 5, 10, 20, 40])
thrown = [rng.binomial(n, chance, (2, len(chance))) / n for n in numbers]
agreements = [pearson(pair[0][:, None], pair[1][:, None])[0] for pair in thrown]
k = np.linspace(1, 40, 100) / 10
fig, ax = plt.subplots()
ax.plot(10 * k, k * agreement / (1 + (k - 1) * agreement), label="formula")
ax.plot(numbers, agreements, "o", color=figures.ORANGE, label="thrown")
ax.set(xlabel="raters in each group", ylabel="agreement", ylim=(0, 1))
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# Keep {numref}`people-raters` in mind: going from ten raters to twenty raises a correlation, and no rater has become
# any wiser.
#
# ## The three rooms
#
# Now the real votes. Nobody stood in two rooms before the same clip: by the data set's own page a rater saw thirty
# clips, heard thirty others and had both of thirty more, so the luck of one room is not that of the next. The table of
# votes is 4 MB and anybody may fetch it (chapter 16 says how). It is not a part of this book; the small tables computed
# from it are. Whoever gives the folder of CREMA-D as the profile's root sees them computed anew.

# %%
at_hand = crema_d_votes.find(root, crema_d_votes.VOTES) is not None
kept = project_path("book/results/people.json")
found = people.from_root(root, seed=seed) if at_hand else people.read(kept.parent)
made_by = json.loads(kept.read_text())["command"]
print("computed from the votes under root" if at_hand else "kept results of: " + made_by)

# %%
rows = found["correlations"]
rooms = rows.loc[["voice", "face", "average"]]
emotion_names = list(crema_d_votes.EMOTIONS)
rooms[["mean", "low", "high", "low_by_clip", "high_by_clip"]].round(3)

# %% tags=["remove-cell"]
glue("people_voice", f"{rows.loc['voice', 'mean']:.3f}", display=False)
glue("people_face", f"{rows.loc['face', 'mean']:.3f}", display=False)
glue("people_average", f"{rows.loc['average', 'mean']:.3f}", display=False)
wins = rows.loc["face", emotion_names] > rows.loc["voice", emotion_names]
glue("people_face_wins", int(wins.sum()), display=False)
by_actor = (rooms["high"] - rooms["low"]).mean()
by_clip = (rooms["high_by_clip"] - rooms["low_by_clip"]).mean()
glue("people_wider", f"{by_actor / by_clip:.1f}", display=False)
gain = found["differences"].loc["average - face"]
glue("people_gain", f"{gain['mean']:.3f}", display=False)
glue("people_gain_low", f"{gain['low']:.3f}", display=False)
glue("people_gain_high", f"{gain['high']:.3f}", display=False)

# %% mystnb={"image": {"alt": "Six emotions, one a line, each with three marks: those who heard, those who saw, and the average of both. Those who heard lie far to the left in most lines. In Happy those who saw lie far to the right, to the right of the average too; in the other lines the average is level with them or ahead."}, "figure": {"caption": "Correlation with those who had both, by emotion: people who only heard, people who only saw, and the average of the two.", "name": "people-rooms"}}
fig, ax = plt.subplots()
marks = {"voice": ("s", "heard"), "face": ("o", "saw"), "average": ("D", "average")}
for room, (mark, label) in marks.items():
    ax.plot(rows.loc[room, emotion_names], emotion_names, mark, label=label, markersize=8)
ax.invert_yaxis()
ax.set_xlabel("correlation with those who had both")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# Each room answers with six fractions a clip, and the fractions of one room are read as a prediction of another's.
# Those who only heard a clip predict those who had both at {glue:text}`people_voice`, the mean correlation over the
# emotions, those who only saw it at {glue:text}`people_face`: in {glue:text}`people_face_wins` of six emotions an
# acted face tells more than an acted voice ({numref}`people-rooms`). The average of the two reaches
# {glue:text}`people_average`.
# It gains {glue:text}`people_gain` over the face, with an interval from {glue:text}`people_gain_low` to
# {glue:text}`people_gain_high`: hardly an accident of these actors.
#
# An interval (`low` to `high` in the tables) says how far a number would move with other people of the same kind.
# Chapter 3 shows how it is made: here by drawing *actors* with replacement. Had we drawn clips, as if the clips of one
# actor had nothing to do with each other, the intervals would look {glue:text}`people_wider` times narrower. That is
# what a corpus that does not name its people gives you.
#
# ## The trap
#
# So the paper's sentence holds for people, too? Count the raters. "Face" is the opinion of ten people. "Average" is
# the opinion of ten *and ten*. It has half the luck in it, whether or not the ears add anything to the eyes. To be
# fair, compare equal numbers: leave out raters at random until ten are left, all eyes or some of each. Nobody needs to
# do that a thousand times; the expectation over all ways to leave somebody out has a formula (`emibook.studies.human.rater_panels` has
# it), and the same formula says what twenty would reach, or infinitely many. Infinitely many have no luck left: the
# rows `noise-free`.

# %%
fair = ["face, 10 raters", "5 face + 5 voice", "7 face + 3 voice", "face, 20 raters",
        "10 face + 10 voice", "face, noise-free", "average, noise-free"]
rows.loc[fair, ["mean", "low", "high"]].round(3)

# %% mystnb={"image": {"alt": "A curve that rises from ten listeners on the left, passes its highest point near seven or eight viewers, and ends a little lower with ten viewers on the right. A pale band is its interval. Two dashed levels lie above it: twenty viewers, and a little higher ten viewers with ten listeners."}, "figure": {"caption": "Ten raters in all, by how many of them see the clip while the others hear it. Dashed: twenty raters.", "name": "people-ten"}}
ten = found["ten"]
faces = ten.index.astype(int)
fig, ax = plt.subplots()
ax.fill_between(faces, ten["low"], ten["high"], color=figures.BLUE, alpha=0.2, linewidth=0)
ax.plot(faces, ten["mean"], "o-", label="ten raters")
twenty = {"10 face + 10 voice": figures.ORANGE, "face, 20 raters": figures.GREEN}
for row, color in twenty.items():
    ax.axhline(rows.loc[row, "mean"], color=color, linestyle="--", label=row)
ax.set(xlabel="of ten raters, how many see", ylabel="correlation with those who had both")
fig.legend(loc="outside lower center", ncols=2, columnspacing=1)
plt.show()

# %%
differences = found["differences"][["mean", "low", "high"]]
differences.round(3)

# %% tags=["remove-cell"]
glue("people_five", f"{differences.loc['5 face + 5 voice - face, 10 raters', 'mean']:+.3f}", display=False)
glue("people_seven", f"{differences.loc['7 face + 3 voice - face, 10 raters', 'mean']:+.3f}", display=False)
fairly = differences.loc["10 face + 10 voice - face, 20 raters"]
glue("people_twenty", f"{fairly['mean']:+.3f}", display=False)
glue("people_twenty_low", f"{fairly['low']:+.3f}", display=False)
glue("people_twenty_high", f"{fairly['high']:+.3f}", display=False)
glue("people_unfair", f"{100 * (1 - fairly['mean'] / gain['mean']):.0f}", display=False)
glue("people_best_split", int(ten["mean"].idxmax()), display=False)
chosen = differences.loc[f"{people.FITTED_SPLIT} - face, 10 raters"]
glue("people_chosen", f"{chosen['mean']:+.3f}", display=False)

# %% [markdown]
# At ten raters, five and five instead of ten pairs of eyes change the correlation by {glue:text}`people_five`: no gain
# at all. Seven and three make it {glue:text}`people_seven`. The best of all splits in {numref}`people-ten` has
# {glue:text}`people_best_split` who see. At twenty raters, ten and ten against twenty pairs of eyes, the difference
# is {glue:text}`people_twenty` ({glue:text}`people_twenty_low` to {glue:text}`people_twenty_high`). Of the raw gain
# of the last section {glue:text}`people_unfair` per cent came from asking more people.
#
# So do ears add nothing? Ask more, and see.

# %% mystnb={"image": {"alt": "Two rising curves against the number of raters in all, from two to a hundred on a logarithmic axis. Raters who all see lie above those of whom half hear on the left; the curves cross between ten and twenty raters; on the right the halves lie clearly above, while the others have almost stopped rising. Two dotted levels on the right mark where both would end."}, "figure": {"caption": "All raters see, or half of them hear instead, by how many there are. Dotted: infinitely many.", "name": "people-totals"}}
totals = found["totals"]
fig, ax = plt.subplots()
ends = {"face": ("all see", "face, noise-free"),
        "half": ("half see, half hear", "average, noise-free")}
for column, (label, end) in ends.items():
    (line,) = ax.semilogx(totals.index, totals[column], "o-", label=label)
    ax.axhline(rows.loc[end, "mean"], color=line.get_color(), linestyle=":")
ax.set(xlabel="raters in all", ylabel="correlation with those who had both")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
glue("people_before", int(totals.index[totals["difference"] < 0][-1]), display=False)
glue("people_crossed", int(totals.index[totals["difference"] > 0][0]), display=False)
quiet = differences.loc["average, noise-free - face, noise-free"]
glue("people_quiet", f"{quiet['mean']:+.3f}", display=False)
glue("people_quiet_low", f"{quiet['low']:+.3f}", display=False)
glue("people_quiet_high", f"{quiet['high']:+.3f}", display=False)

# %% [markdown]
# The first pairs of eyes are worth more than ears ({numref}`people-totals`). But each further pair only removes luck,
# and once little luck is left only something *new* can help. Between {glue:text}`people_before` and
# {glue:text}`people_crossed` raters the curves cross, and with no luck at all the average gains
# {glue:text}`people_quiet` ({glue:text}`people_quiet_low` to {glue:text}`people_quiet_high`). That is what the ears
# know and the eyes do not. The raw gain came out much like it, and for another reason: most of it was the gift of ten
# more raters.
#
# Remember it whenever an ensemble beats its members. An average of two networks, or of five seeds, has less luck in it
# than one network (a *seed* is the number that a training's chance begins with; other seeds give other networks); a
# fair opponent for "face and voice" is *two faces*: the same network for the face twice, with two seeds. The paper's
# tables have no such row, and hardly anybody's have.
#
# ## Where averaging loses
#
# Chapter 13 derives what the average of two predictions correlates with. With correlations $r_1$ and $r_2$ with the
# truth, $r_{12}$ between the two and spreads (standard deviations) $s_1$ and $s_2$ it is
#
# $$r = \frac{s_1 r_1 + s_2 r_2}{\sqrt{s_1^2 + s_2^2 + 2 s_1 s_2 r_{12}}}.$$
#
# For people all five are known, emotion by emotion.

# %%
fusion = found["fusion"]
fusion[["r_face", "r_voice", "between", "s_face", "s_voice", "formula", "measured"]].round(3)

# %% tags=["remove-cell"]
emotions = fusion.drop("mean")
loses = emotions.index[emotions["measured"] < emotions[["r_face", "r_voice"]].max(axis=1)]
glue("people_loses", ", ".join(loses), display=False)
happy = fusion.loc["Happy"]
glue("people_happy_face", f"{happy['r_face']:.3f}", display=False)
glue("people_happy_voice", f"{happy['r_voice']:.3f}", display=False)
glue("people_happy_average", f"{happy['measured']:.3f}", display=False)
glue("people_happy_between", f"{happy['between']:.3f}", display=False)
glue("people_ten_off", f"{(emotions['ten_formula'] - emotions['ten_measured']).abs().max():.4f}", display=False)
glue("people_errors", f"{fusion.loc['mean', 'errors']:.2f}", display=False)
glue("people_errors_quiet", f"{fusion.loc['mean', 'errors_noise_free']:.2f}", display=False)

# %% [markdown]
# The emotions in which the average is worse than the better room: {glue:text}`people_loses`. Take Happy. A smile is
# seen by everybody, so those who saw it are nearly perfect, at {glue:text}`people_happy_face`. A smile can be heard,
# but not so well: {glue:text}`people_happy_voice`. Half of the vote goes to those who can tell less, and the average
# comes to {glue:text}`people_happy_average`. What they say goes together with what the others say
# ({glue:text}`people_happy_between`) nearly as closely as with the truth, so that little of it is new, and their errors
# are only added.
#
# The formula gives the measured average digit for digit, because it is arithmetic. For five and five raters more is
# asked of it: the correlations are first brought down to five raters each. Raters really drawn, a hundred times, differ
# from it by {glue:text}`people_ten_off` at most.
#
# ### Do they err alike?
#
# Take those who had both as the truth. Where those who saw are above it, are those who heard above it as well?

# %%
fusion[["errors", "errors_noise_free", "face_weight", "face_raters"]].round(2)

# %% [markdown]
# At first sight the errors go together: {glue:text}`people_errors` on average. But the "truth" is ten raters and has
# luck of its own. When it is too low by luck, *both* predictions are too high. With that luck taken out,
# {glue:text}`people_errors_quiet` is left: on average nearly nothing, below nought where the eyes go too far and the
# ears hold back, above it where both miss the same. Errors that are strangers to each other are what makes averaging
# worth while; most of a kinship that one sees at first is the fault of the labels.
#
# Must the weights be equal? `face_weight` is the best weight of those who saw, and `face_raters` the best number of ten raters to
# see. Each actor's clips get the choice that is best for all *other* actors, so that nothing is chosen on what it is
# scored on; the table has the means of these choices. Chosen in this way for every emotion, the best ten raters change
# the correlation by {glue:text}`people_chosen` against ten pairs of eyes: fair, and small, and real.
#
# ## The ceiling
#
# How high could a machine come? Two groups of raters who had *the same* in front of them do not agree perfectly
# either. So the votes tell how well anything can predict them, in two ways that can check each other. `split_half`: split
# the raters of every clip in two, correlate the halves, and bring that to whole groups by the formula with $k = 2$.
# `reliability`: from the variance that so many throws of a coin have. `noise_ceiling` is the root of the second.

# %%
found["ceiling"].loc["both"].round(3)

# %% tags=["remove-cell"]
both = found["ceiling"].loc[("both", "mean")]
glue("people_halves", f"{both['split_half']:.3f}", display=False)
glue("people_agree", f"{both['reliability']:.3f}", display=False)
glue("people_perfect", f"{both['noise_ceiling']:.3f}", display=False)
glue("people_perfect_low", f"{both['low']:.3f}", display=False)
glue("people_perfect_high", f"{both['high']:.3f}", display=False)
guess = found["inference"].loc["both"]
glue("people_true_raters", f"{guess['raters']:.1f}", display=False)
glue("people_least_raters", f"{guess['raters_min']:.1f}", display=False)
glue("people_most_raters", f"{guess['raters_max']:.1f}", display=False)
glue("people_least", f"{guess['noise_ceiling_min']:.3f}", display=False)
glue("people_most", f"{guess['noise_ceiling_max']:.3f}", display=False)

# %% [markdown]
# Halves: {glue:text}`people_halves`; coins: {glue:text}`people_agree`. The two ways agree, so a perfect predictor would
# reach {glue:text}`people_perfect` ({glue:text}`people_perfect_low` to {glue:text}`people_perfect_high`), and no honest
# system passes that on these labels but by luck. Ten *other* people who had both would reach the agreement and no more:
# they are a group, not the truth.
#
# The labels of the paper's data set come without votes. Only the fractions are there, and their smallest common
# denominator is the least number of raters that fits (an exercise of chapter 1): two of ten look like one of five. The
# most that is likely is its largest multiple up to the largest denominator of any clip. Where the votes are known one
# can measure how far that leads astray. Here clips have {glue:text}`people_true_raters` raters on average, and
# denominators say between {glue:text}`people_least_raters` and {glue:text}`people_most_raters`; the perfect predictor
# comes out between {glue:text}`people_least` and {glue:text}`people_most`, on either side of what the votes say.
#
# `emibook ceiling ROOT` does this for any corpus. Here for the one that this page's banner names:

# %%
own = ceiling(root, seed=seed)
own.table.round(3).rename(columns=lambda name: name.replace("_", " "))

# %% tags=["remove-cell"]
upper = own.table.loc["mean"].get("noise_ceiling_max", own.table.loc["mean", "noise_ceiling"])
glue("people_own", own.corpus, display=False)
glue("people_own_low", f"{own.table.loc['mean', 'noise_ceiling']:.2f}", display=False)
glue("people_own_high", f"{upper:.2f}", display=False)
glue("people_own_raters", f"{own.raters[0]:.1f}", display=False)

# %% [markdown]
# A clip has {glue:text}`people_own_raters` raters on average, or more. So on the corpus {glue:text}`people_own` nothing
# can be expected to pass the ceiling, which lies somewhere between {glue:text}`people_own_low` and
# {glue:text}`people_own_high`. Whatever a table of this book shows, read it against this and not against one.
#
# ## Whom people read
#
# How often do raters choose what the actor was asked to act? And does it depend on who acts? Each group is compared
# with the largest of its kind. Two rules were fixed before the first number was seen. From a group of fewer than ten
# actors nothing is concluded. And where the interval of the difference holds both nought and a difference of five
# points (hundredths), it is too wide to conclude anything: without nought in it the groups `differ`, without five
# points they are `alike`.

# %%
groups = found["accuracy"].query("ratings == 'both' and kind != 'all'")
shown = ["group", "actors", "accuracy", "low", "high", "verdict"]
groups[shown].set_index("group").round(3)

# %% mystnb={"image": {"alt": "Groups of actors under one another, by sex, age, race and ethnicity, each with a dot for the share of raters who were right and a line for its interval. Groups with fewer than ten actors are hollow and grey. The lines of all groups overlap widely or nearly touch."}, "figure": {"caption": "Share of raters who chose what was to be acted, of those who had both, by who acted. Hollow: fewer than ten actors.", "name": "people-groups"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4))
for place, row in enumerate(groups.itertuples()):
    color = figures.GREY if row.actors < 10 else figures.BLUE
    ax.plot([row.low, row.high], [place, place], color=color)
    inside = "white" if row.actors < 10 else color
    ax.plot(row.accuracy, place, "o", color=color, markerfacecolor=inside, markersize=8)
names = [f"{row.group} ({row.actors})" for row in groups.itertuples()]
ax.set_yticks(range(len(names)), names)
ax.invert_yaxis()
ax.set_xlabel("share of raters who were right")
plt.show()

# %% tags=["remove-cell"]
everybody = found["accuracy"].query("kind == 'all'").set_index("ratings")["accuracy"]
glue("people_right_voice", f"{100 * everybody['voice']:.0f}", display=False)
glue("people_right_face", f"{100 * everybody['face']:.0f}", display=False)
glue("people_right_both", f"{100 * everybody['both']:.0f}", display=False)
told = found["accuracy"].query("difference == difference or verdict == 'too few to conclude'")
glue("people_compared", len(told), display=False)
glue("people_unclear", int((told["verdict"] == "too few to conclude").sum()), display=False)
apart = told[told["verdict"] == "differs"]
words = [f"{row.group} ({row.ratings}, {100 * row.difference:+.0f} points)" for row in apart.itertuples()]
glue("people_differs", "; ".join(words) or "none", display=False)

# %% [markdown]
# Of those who heard, {glue:text}`people_right_voice` in a hundred are right; of those who saw,
# {glue:text}`people_right_face`; of those who had both, {glue:text}`people_right_both`. One in six would be by chance.
# (The abstract of the data set's own paper has 41, 58 and 64. The votes in its repository give a little less, whether
# every actor or every vote counts alike.)
#
# Over the three rooms there are {glue:text}`people_compared` comparisons of a group with the largest of its kind. In
# {glue:text}`people_unclear` of them the verdict is "too few to conclude". Those that differ:
# {glue:text}`people_differs`. With so many comparisons one in twenty may differ by luck; one group that differs in room
# after room is less like luck, though the same actors are in all of them. And a difference does not say why. Who came
# to the casting, what they were told, and who the raters were, were not drawn by lot.
#
# Still, no system trained on such labels can be more even-handed than they are: if people read one group better, the
# labels of that group carry less luck, and a machine will look better on it. Chapter 17 comes back to this.
#
# ## What goes wrong otherwise
#
# Skip this chapter, and four things go wrong in the others: a correlation is read against one instead of against
# the ceiling; the gain of fusion is put down to the senses and not to the number of opinions; errors seem to go
# together that only share a label; and a gap between groups is believed that a dozen actors cannot carry.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} How many to ask
# :label: people-exercise-ask
# ```
# How well two groups of ten who had both agree stands in `found["ceiling"]`, in the row `("both", "mean")`, column
# `reliability`. How many raters in each group would bring the agreement to ninety-five hundredths or more?
#
# Give a whole number: `emibook.check_exercise("2.1", raters, found=found)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} people-exercise-ask
# :class: dropdown
# ```
# Solve $ka / (1 + (k - 1)a) = t$ for $k$, the number of times that a group is larger than ten.

# %%
agreement_of_ten = found["ceiling"].loc[("both", "mean"), "reliability"]
target = 0.95
times = target * (1 - agreement_of_ten) / (agreement_of_ten * (1 - target))
raters = int(np.ceil(10 * times))
emibook.check_exercise("2.1", raters, found=found)
raters

# %% [markdown]
# More than twice as many, for the last few hundredths. Asking is dear at the end.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A fair opponent
# :label: people-exercise-fair
# ```
# For each emotion predict from `r_face` in `found["fusion"]`, and from how well two groups who only saw agree
# (`found["ceiling"].loc["face"]`), what *twice* as many who saw would reach. Compare with the row `face, 20 raters`
# of `rows`.
#
# Give six numbers, in the order of the emotions: `emibook.check_exercise("2.2", doubled, found=found)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} people-exercise-fair
# :class: dropdown
# ```
# A share $a$ of the variance of a group's fractions is no luck. Twice the raters leave half the luck, so the variance
# shrinks to $(1 + a) / 2$ of itself, and the correlation grows by one over the root of that.

# %%
alike = found["ceiling"].loc["face"].drop("mean")["reliability"]
doubled = found["fusion"]["r_face"].drop("mean") / np.sqrt((1 + alike) / 2)
emibook.check_exercise("2.2", doubled, found=found)
exact = rows.loc["face, 20 raters", emotion_names].astype(float)
pd.DataFrame({"by hand": doubled, "in the table": exact}).round(3)

# %% [markdown]
# The two differ a little, since not every clip has exactly ten raters.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Weights that cannot lose
# :label: people-exercise-weights
# ```
# A regression of the truth on two predictions weighs them by $w_1 \propto (r_1 - r_{12} r_2) / s_1$ and
# $w_2 \propto (r_2 - r_{12} r_1) / s_2$. Compute the share $w_1 / (w_1 + w_2)$ of those who saw for each emotion. Does
# any emotion want a negative weight? What would that mean?
#
# Give the six shares of those who saw, in the order of the emotions:
# `emibook.check_exercise("2.3", best_share, found=found)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} people-exercise-weights
# :class: dropdown
# ```
# Everything needed stands in `fusion`.

# %%
six = fusion.drop("mean")
seen = (six["r_face"] - six["between"] * six["r_voice"]) / six["s_face"]
heard = (six["r_voice"] - six["between"] * six["r_face"]) / six["s_voice"]
best_share = seen / (seen + heard)
emibook.check_exercise("2.3", best_share, found=found)
pd.DataFrame({"all actors": best_share, "other actors": six["face_weight"]}).round(3)

# %% [markdown]
# Chosen on all actors or on the others: with so many clips it hardly matters. With a dozen clips it would. No weight is
# negative. A share above one would be a negative weight for those who heard: what they say would be of most use
# subtracted, to take away an error that they share with those who saw.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - thrown coins, and found the square root that stands between agreement and the perfect predictor;
# - read three rooms of real raters, with an interval by actor and one that is too narrow;
# - compared equal numbers, seen most of a gain go, and another come with more raters;
# - explained Happy by a formula, and freed the errors of the labels' luck;
# - computed the ceiling from votes and from fractions, and measured what the fractions hide;
# - told a difference between groups from a lack of actors.
#
# ## Sources
#
# The paper, section 1 {cite:p}`yu2024`. The votes: CREMA-D {cite:p}`cao2014`, made available under the Open Database
# License; this page holds numbers computed from it. Agreement and its luck
# {cite:p}`spearman1904,spearman1910,brown1910`; the weights of two forecasts {cite:p}`bates1969`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with its corpus there already. With the votes at
# hand all results of this chapter take a few seconds more.
