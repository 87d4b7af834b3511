"""The table of norms against the paper's print, its edges, and the percentile worked by hand."""

import pytest

from osteo_monai.domain import MineralStandard, Sex
from osteo_monai.norms import DENSITY_NORMS, density_norm


@pytest.mark.parametrize(
    ("age", "sex", "mean", "sd"),
    [
        (18.0, None, 175.96, 28.27),
        (29.9, Sex.FEMALE, 180.18, 20.80),
        (30.0, Sex.FEMALE, 177.08, 23.22),
        (45, Sex.MALE, 139.14, 25.06),
        (59.99, None, 121.83, 32.53),
        (60, Sex.MALE, 96.66, 29.52),
        (70, Sex.FEMALE, 66.70, 23.85),
        (75, Sex.MALE, 102.64, 31.91),
        (89.9, Sex.MALE, 71.88, 33.45),
    ],
)
def test_norm_of_age_and_sex(age: float, sex: Sex | None, mean: float, sd: float) -> None:
    norm = density_norm(age, sex)
    assert norm is not None
    assert (norm.mean, norm.sd) == (mean, sd)


@pytest.mark.parametrize("age", [0, 17.99, 90, 120, float("nan")])
def test_no_norm_outside_18_to_90(age: float) -> None:
    assert density_norm(age, Sex.FEMALE) is None


def test_groups_are_without_gap_and_count_every_subject() -> None:
    for sex in (None, Sex.MALE, Sex.FEMALE):
        groups = [norm for norm in DENSITY_NORMS if norm.sex is sex]
        assert [norm.age_low for norm in groups] == [18, 30, 40, 50, 60, 70, 80]
        assert [norm.age_high for norm in groups] == [30, 40, 50, 60, 70, 80, 90]
    # 1,048 subjects, of whom the two of 90 and above are left out
    assert sum(norm.subjects for norm in DENSITY_NORMS if norm.sex is None) == 1046
    for age in (20, 35, 45, 55, 65, 75, 85):
        both, men, women = (density_norm(age, sex) for sex in (None, Sex.MALE, Sex.FEMALE))
        assert both is not None
        assert men is not None
        assert women is not None
        assert both.subjects == men.subjects + women.subjects
        pooled = (men.subjects * men.mean + women.subjects * women.mean) / both.subjects
        assert pooled == pytest.approx(both.mean, abs=0.02)


def test_percentile_of_the_normal_distribution() -> None:
    norm = density_norm(65, Sex.FEMALE)
    assert norm is not None
    k2hpo4 = MineralStandard.K2HPO4
    assert norm.percentile(norm.mean, k2hpo4) == pytest.approx(50)
    assert norm.percentile(norm.mean - norm.sd, k2hpo4) == pytest.approx(15.866, abs=0.001)
    assert norm.percentile(norm.mean + 1.959964 * norm.sd, k2hpo4) == pytest.approx(97.5, abs=0.001)
    with pytest.raises(ValueError, match="K2HPO4"):
        norm.percentile(90, MineralStandard.HYDROXYAPATITE)


def test_group_in_words() -> None:
    young, old = density_norm(25, Sex.FEMALE), density_norm(82, None)
    assert young is not None
    assert old is not None
    assert (young.group, old.group) == ("women below 30", "men and women 80-89")
