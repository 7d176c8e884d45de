"""Exercises: every one has its check, right answers pass, wrong ones get a hint, and no hint tells the answer."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import emibook
from emibook import InputError
from emibook.book import exercises, notebooks
from emibook.book.exercises import Unsolved, hints

pytest.importorskip("jupytext")
SOURCES = {exercises.chapter_of(path.stem): path
           for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))}


def hint(number: str, answer: object, **given: object) -> str:
    """What the check says of a wrong answer."""
    with pytest.raises(Unsolved) as stop:
        emibook.check_exercise(number, answer, **given)
    return str(stop.value)


def calls(source: str) -> list[ast.Call]:
    """The calls of ``check_exercise`` in a piece of code."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] == "check_exercise"]


@pytest.mark.parametrize("chapter", SOURCES)
def test_every_exercise_has_its_check(chapter):
    notebook = notebooks.read_chapter(SOURCES[chapter])
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    count = len(re.findall(r"\{exercise-start\}", text))
    numbers = [f"{chapter}.{place}" for place in range(1, count + 1)]
    called = [call for cell in notebook.cells if cell.cell_type == "code" for call in calls(cell.source)]
    assert [call.args[0].value for call in called] == numbers, "each solution ends by having itself checked"
    assert list(exercises.checks(chapter)) == numbers
    for part, number in zip(text.split("{exercise-start}")[1:], numbers, strict=True):
        assert f'check_exercise("{number}"' in part.split("{exercise-end}")[0], "the exercise shows the call"


@pytest.mark.parametrize("chapter", SOURCES)
def test_what_a_check_is_given_stands_before_the_solutions(chapter):
    """A reader who solves nothing has it too."""
    outside, inside, wanted = set(), False, set()
    for cell in notebooks.read_chapter(SOURCES[chapter]).cells:
        if cell.cell_type == "markdown":
            inside = ("{solution-start}" in cell.source or inside) and "{solution-end}" not in cell.source
            continue
        tree = ast.parse(cell.source)
        if not inside:
            outside |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
                        and isinstance(node.ctx, ast.Store)}
        for call in calls(cell.source):
            assert all(isinstance(each.value, ast.Name) for each in call.keywords)
            wanted |= {each.value.id for each in call.keywords}
    assert wanted <= outside


def test_no_answer_yet_and_no_such_exercise():
    with pytest.raises(Unsolved, match="13.1 has no answer yet"):
        emibook.check_exercise("13.1", ..., by_emotion=None)
    for number in ("13.9", "99.1", "x"):
        with pytest.raises(InputError, match=f"no exercise {number}"):
            emibook.check_exercise(number, 1)
    with pytest.raises(InputError, match="13.1: missing a required argument: 'by_emotion'"):
        emibook.check_exercise("13.1", [0.5])
    with pytest.raises(Unsolved, match="8.1 has no answer yet"):
        emibook.check_exercise("8.1")
    said = hint("13.1", object(), by_emotion=pd.DataFrame({"r1": [0.3], "r2": [0.2]}))
    assert "cannot read" in said and "Has by_emotion been changed" in said


def test_a_reader_sees_one_line():
    with pytest.raises(Unsolved) as stop:
        emibook.check_exercise("5.2", ...)
    assert stop.value._render_traceback_() == [str(stop.value)]


def test_numbers_are_judged_without_being_told():
    assert not hints.number(0.305, 0.3, 0.01)
    for answer, words in ((-0.3, "wrong sign"), (30, "hundred times too large"), (0.003, "hundred times too small"),
                          (1 / 0.3, "upside down"), (0.5, "too large"), (0.1, "too small"), (np.nan, "no number")):
        said = hints.number(answer, 0.3, 0.001)
        assert words in said and "0.3" not in said
    assert "2 were given" in hints.number([1, 2], 1, 0.1)
    assert not hints.numbers([1, np.nan], [1.0001, np.nan], 0.001)
    assert "another order" in hints.numbers([2, 1, 3], [1, 2, 3], 0.001)
    assert hints.numbers([1, 5, 9], [1, 2, 3], 0.01, ["a", "b", "c"]).startswith("2 of 3 are wrong. The value of b")
    assert "(2,)" in hints.numbers([1, 2], [1, 2, 3], 0.1)


def test_choices_and_sets():
    assert not hints.chosen("a", "a", ["a", "b"]) and "not the right one" in hints.chosen("b", "a", ["a", "b"])
    assert "not among the choices" in hints.chosen("z", "a", ["a", "b"])
    assert not hints.members([2, 1], [1, 2])
    assert hints.members([1, 9], [1, 2, 3]) == "2 of them missing and 1 that do not belong there."


class Unreadable:
    def __array__(self, *_, **__):
        raise RuntimeError("not an array")


NONSENSE = (None, "abc", "", np.nan, np.inf, 10**400, 3 + 4j, [], (), {}, {"a": None}, [[1, 2], [3]], object(),
            Unreadable(), float, True, lambda *_: None, lambda *_: "x", [None] * 3, [(None, None, None)] * 3, b"ab",
            pd.DataFrame(), (None, None, None), np.ones((3, 3)))
SMALL = {  # a check of each form of answer: one number, a row, two things, a table, functions, sets, texts by name
    "8.1": {}, "2.1": {"found": {"ceiling": pd.DataFrame({"reliability": [0.8]}, pd.MultiIndex.from_tuples(
        [("both", "mean")]))}}, "1.3": {"labels": np.zeros((4, 2))}, "1.4": {}, "10.4": {}, "11.2": {}, "17.2": {},
    "17.3": {}, "6.1": {"rates": pd.DataFrame({"average": [30.0, 5.0]}, ["00000", "00001"])}, "a1.1": {}, "5.2": {},
    "13.1": {"by_emotion": pd.DataFrame({"r1": [0.3, 0.1], "r2": [0.15, 0.1]})},
}


@pytest.mark.parametrize("number", SMALL)
def test_whatever_is_given_is_answered_with_a_sentence(number):
    def stops(*_):
        raise RuntimeError("my own mistake")

    for answer in (*NONSENSE, stops, iter([1, 2]), pytest.importorskip("torch").zeros(3, requires_grad=True)):
        said = hint(number, answer, **SMALL[number])
        assert len(said) > 30 and "\n" not in said, repr(answer)
    if number in ("1.4", "10.4"):
        assert "Your function fails with RuntimeError: my own mistake" in hint(number, stops)


def test_a_right_answer_may_be_of_any_type():
    torch = pytest.importorskip("torch")
    row = np.array([0.25, 0.5])
    for answer in (row, list(row), tuple(row), pd.Series(row), pd.DataFrame(row), row[None], iter(row),
                   {"b": 0.5, "a": 0.25}, torch.tensor(row, requires_grad=True), {"a": 0.25, "b": 0.5}.values(),
                   [torch.tensor(each) for each in row]):
        assert not hints.numbers(hints.plain(answer), row, 1e-6, ["a", "b"])
    for answer in (0.25, [0.25], np.float32(0.25), pd.Series([0.25]), torch.tensor(0.25, requires_grad=True), "0.25"):
        assert not hints.number(hints.plain(answer), 0.25, 1e-6)
    assert "'b' is missing" in hints.numbers({"a": 1}, row, 0.1, ["a", "b"])
    assert "true or false" in hints.number(True, 1.0, 0.1)


@pytest.fixture
def by_emotion():
    return pd.DataFrame({"r1": [0.3, 0.1], "r2": [0.15, 0.1], "r12": [0.2, 0.2]}, ["Joy", "Amusement"])


def test_13_1(by_emotion):
    emibook.check_exercise("13.1", [1.5**2 / 2 - 1, 1.0], by_emotion=by_emotion)
    assert "weaker branch" in hint("13.1", [3**2 / 2 - 1, 1.0], by_emotion=by_emotion)
    assert "q itself" in hint("13.1", [0.5, 1.0], by_emotion=by_emotion)
    said = hint("13.1", [0.9, 1.0], by_emotion=by_emotion)
    assert "Joy" in said and "0.125" not in said


def test_numbers_may_stand_under_their_names(by_emotion):
    emibook.check_exercise("13.1", {"Amusement": 1.0, "Joy": 1.5**2 / 2 - 1}, by_emotion=by_emotion)
    assert "weaker branch" in hint("13.1", {"Amusement": 1.0, "Joy": 3**2 / 2 - 1}, by_emotion=by_emotion)
    with pytest.raises(Unsolved, match="Joy"):
        emibook.check_exercise("13.1", {"Amusement": 1.0}, by_emotion=by_emotion)


def test_13_2():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 2))
    seen, heard = truth + rng.normal(size=truth.shape), truth + 3 * rng.normal(size=truth.shape)
    people = [f"p{number // 4}" for number in range(400)]
    half = np.arange(400) // 4 % 2 == 0
    seen[half] += 2 * rng.normal(size=seen[half].shape)  # so that the halves differ in what is best
    given = {"truth": truth, "seen": seen, "heard": heard, "people": people}

    def best(part):
        scores = [np.mean([np.corrcoef(truth[part, each], (w * seen + (1 - w) * heard)[part, each])[0, 1]
                           for each in (0, 1)]) for w in np.linspace(0, 1, 21)]
        return np.argmax(scores) / 20

    first, second = best(half), best(~half)
    assert abs(first - second) > 0.1
    emibook.check_exercise("13.2", (half, first, second), **given)
    assert "on the half where you score" in hint("13.2", (half, second, first), **given)
    assert "first weight" in hint("13.2", (half, 0.0, second), **given)
    assert "on both sides" in hint("13.2", (np.arange(400) % 2 == 0, first, second), **given)
    assert "fewer than a quarter" in hint("13.2", (np.arange(400) < 40, first, second), **given)
    assert "true and false" in hint("13.2", (half.astype(float), first, second), **given)


def test_6_1():
    rates = pd.DataFrame({"average": [30.0, 60.0, 5.0, np.nan]}, ["00000", "00001", "00002", "00003"])
    emibook.check_exercise("6.1", ("00002", 6.0), rates=rates)
    assert "worst in one direction" in hint("6.1", ("00001", 0.5), rates=rates)
    assert "more wrong" in hint("6.1", ("00000", 1.0), rates=rates)
    assert "upside down" in hint("6.1", ("00002", 1 / 6), rates=rates)
    assert "no clip 2" in hint("6.1", (2, 6), rates=rates)


def test_6_2():
    kept = pd.DataFrame({"probability": [0.8, 0.95, 0.995, 0.9999]})
    both = pd.DataFrame({"probability": [0.8, np.nan, 0.95, 0.995, 0.9999], "face_true": [0, 1, 1, 1, 1]})
    levels = [0.7, 0.9, 0.99]
    right = pd.DataFrame({"faces kept": [1.0, 0.75, 0.5], "hit rate": [0.75, 0.75, 0.5],
                          "false alarms": [1.0, 0.0, 0.0]}, levels)
    given = {"kept": kept, "both": both}
    emibook.check_exercise("6.2", right, **given)
    assert "count it as 0" in hint("6.2", right.assign(**{"hit rate": [1.0, 1.0, 2 / 3]}), **given)
    assert "not per cent" in hint("6.2", right.assign(**{"faces kept": [100.0, 75.0, 50.0]}), **given)
    assert "'hit rate'" in hint("6.2", right.drop(columns="hit rate"), **given)
    assert "three thresholds" in hint("6.2", right.iloc[:1], **given)


def test_5_1():
    rng = np.random.default_rng(0)
    changes = [rng.normal(size=(17, 60)) for _ in range(2)]
    for change in changes:
        change[1] = change[0] + 0.1 * change[1]
        change[3] = -change[2] + 0.2 * change[3]
        change[9] = change[8] + 0.4 * change[9]
    from emibook.puppet.renderer import UNIT_NAMES as names

    likeness = np.mean([np.corrcoef(change) for change in changes], axis=0)
    rows = [(names[a], names[b], likeness[a, b]) for a, b in ((0, 1), (3, 2), (8, 9))]
    emibook.check_exercise("5.1", rows, changes=changes)
    assert "exactly opposite" in hint("5.1", [rows[0], rows[2], (names[4], names[5], 0.2)], changes=changes)
    assert "missing" in hint("5.1", [rows[0], rows[1], (names[4], names[5], 0.2)], changes=changes)
    assert "wrong sign" in hint("5.1", [rows[0], (*rows[1][:2], -rows[1][2]), rows[2]], changes=changes)
    assert "is not a unit" in hint("5.1", [rows[0], rows[1], ("smile", names[5], 0.2)], changes=changes)
    assert "3 rows" in hint("5.1", rows[:2], changes=changes)


def test_5_2():
    from emibook.metrics import pearson
    from emibook.puppet import labels

    many = labels.sample_labels(np.arange(30_000), np.arange(30_000), np.random.default_rng(3))
    right = {"as drawn": pearson(many.values, many.felt).mean()}
    for count in labels.RATERS:
        rated = many.raters == count
        right[f"{count} raters"] = pearson(many.values[rated], many.felt[rated]).mean()
    emibook.check_exercise("5.2", right)
    emibook.check_exercise("5.2", pd.Series(right))
    assert "with itself" in hint("5.2", dict.fromkeys(right, 1.0))
    assert "'3 raters' is too small" in hint("5.2", right | {"3 raters": right["1 raters"] - 0.2})
    assert "missing" in hint("5.2", {"as drawn": 0.5})


@pytest.fixture(scope="module")
def paper():
    from emibook import audit

    return audit.read_claims(Path(__file__).parents[2] / "book/claims.yml")


def test_15_1(paper):
    right = {"train": 54423 / 8072, "valid": 33122 / 4588, "test": 32645 / 4586}
    emibook.check_exercise("15.1", right, paper=paper)
    assert "not minutes" in hint("15.1", {name: value / 60 for name, value in right.items()}, paper=paper)
    assert "'test' is missing" in hint("15.1", {"train": 1, "valid": 1}, paper=paper)
    assert "length of valid is too large" in hint("15.1", right | {"valid": 8.0}, paper=paper)


def test_15_2(paper):
    emibook.check_exercise("15.2", lambda level, base, gain, digits: abs(level - base - gain) <= 0.5 / 10**digits,
                           paper=paper)
    for wrong in (lambda level, base, gain, digits: level - base == gain,
                  lambda level, base, gain, digits: abs(abs(level - base) - gain) <= 0.5 / 10**digits,
                  lambda level, base, gain, digits: round(level - base, digits) == round(gain, digits),
                  lambda level, base, gain, digits: True):
        assert "it returns" in hint("15.2", wrong, paper=paper)
    assert "A function" in hint("15.2", True, paper=paper)
    assert "True or False; it returns 'yes'" in hint("15.2", lambda *_: "yes", paper=paper)
    assert "fails with TypeError" in hint("15.2", lambda level: True, paper=paper)


def test_15_3(paper):
    from emibook import audit

    ends = [audit.audit(paper, scale=scale) for scale in (audit.SCALES[0], audit.SCALES[-1])]
    right = {name for name in ends[0] if ends[0][name].verdict != ends[1][name].verdict}
    assert right
    emibook.check_exercise("15.3", right, paper=paper)
    assert "do not belong" in hint("15.3", right | {"steps"}, paper=paper)
    assert "no claim 'nothing'" in hint("15.3", {"nothing"}, paper=paper)


def test_a2():
    seconds = pd.Series({"one": 10.0, "two": 2.0, "three": 4.0})
    emibook.check_exercise("a2.1", 10, seconds=seconds)
    assert "another one that is larger" in hint("a2.1", 8, seconds=seconds)
    assert "one worker" in hint("a2.1", 16, seconds=seconds)
    sizes = pd.DataFrame({"words": [90, 40, 50], "lines": [10, 10, 10]}, ["one", "two", "three"])
    emibook.check_exercise("a2.2", ("one", "two"), sizes=sizes)
    assert "other way round" in hint("a2.2", ("two", "one"), sizes=sizes)
    assert "not the right one" in hint("a2.2", ("one", "three"), sizes=sizes)


def test_a3():
    frame = pd.DataFrame({"ours": [8.0, 20.0]})
    right = 7442 * 2.5 * 30 * 8 / 60000
    emibook.check_exercise("a3.1", right, frame=frame)
    assert "are seconds" in hint("a3.1", right * 60, frame=frame)
    assert "many frames" in hint("a3.1", right / 30, frame=frame)
    hours = pd.Series({"faces": 6.0, "resnet18": 2.0, "vit": 4.0})
    emibook.check_exercise("a3.2", [2.0, 1.2, 1.5], hours=hours)
    assert "shares" in hint("a3.2", [0.5, 1 / 6, 1 / 3], hours=hours)
    assert "gain of vit is too large" in hint("a3.2", [2.0, 1.2, 3.0], hours=hours)
