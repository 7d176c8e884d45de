from __future__ import annotations

import numpy as np
import pytest

from emibook import InputError
from emibook.fusion import late_fusion

RNG = np.random.default_rng(0)
FACE, SOUND, THIRD = RNG.random((3, 8, 6))


def test_is_the_average():
    np.testing.assert_allclose(late_fusion(FACE, SOUND), (FACE + SOUND) / 2)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, THIRD), (FACE + SOUND + THIRD) / 3)
    np.testing.assert_array_equal(late_fusion(FACE), FACE)


def test_a_clip_that_one_branch_lacks_is_carried_by_the_others_either_way_of_saying_so():
    there = np.ones(8, bool)
    there[[2, 5]] = False
    lacking = np.where(there[:, None], FACE, np.nan)
    expected = np.where(there[:, None], (FACE + SOUND) / 2, SOUND)
    np.testing.assert_allclose(late_fusion(lacking, SOUND), expected)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, present=[there, np.ones(8, bool)]), expected)
    np.testing.assert_allclose(late_fusion(lacking, SOUND, THIRD)[2], (SOUND[2] + THIRD[2]) / 2)


def test_a_clip_that_all_lack_keeps_what_they_say_of_it():
    nobody = np.zeros((2, 8), bool)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, present=nobody), (FACE + SOUND) / 2)
    nothing = np.full((8, 6), np.nan)
    assert np.isnan(late_fusion(nothing, nothing)).all()
    np.testing.assert_allclose(late_fusion(nothing, SOUND, present=nobody), SOUND)


def test_order_of_branches_does_not_matter_and_order_of_clips_goes_through():
    lacking = FACE.copy()
    lacking[1] = np.nan
    order = RNG.permutation(8)
    np.testing.assert_allclose(late_fusion(SOUND, lacking), late_fusion(lacking, SOUND))
    np.testing.assert_allclose(late_fusion(lacking[order], SOUND[order]), late_fusion(lacking, SOUND)[order])


def test_a_single_missing_number_is_not_hidden():
    broken = FACE.copy()
    broken[4, 2] = np.nan
    fused = late_fusion(broken, SOUND)
    assert np.isnan(fused[4, 2]) and np.isnan(fused).sum() == 1


def test_refuses_what_does_not_fit():
    for wrong in ((), (FACE, SOUND[:-1]), (FACE[0], SOUND[0])):
        with pytest.raises(InputError):
            late_fusion(*wrong)
    with pytest.raises(InputError, match="present"):
        late_fusion(FACE, SOUND, present=[np.ones(8, bool)])


def test_does_not_write_into_its_input():
    before = FACE.copy()
    late_fusion(FACE, SOUND, present=np.zeros((2, 8), bool))
    np.testing.assert_array_equal(FACE, before)
