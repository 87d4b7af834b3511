"""Facts of a person as numbers, flags and planes."""

from typing import Any

import pytest
import torch

from osteo_monai.errors import ConfigError
from osteo_monai.transforms import CovariatePlanesd, Covariatesd, covariate_reference

NAMES = ("age", "sex", "bmi")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"age": 63, "sex": "F", "height_cm": 150, "weight_kg": 45}, [63, 1, 20, 1, 1, 1]),
        ({"age": 63.5, "sex": "M"}, [63.5, 0, 0, 1, 1, 0]),
        ({"age": None, "height_cm": 150}, [0, 0, 0, 0, 0, 0]),
        ({"age": 0.0, "weight_kg": 45}, [0, 0, 0, 1, 0, 0]),
    ],
)
def test_values_and_flags(facts: Any, expected: Any) -> None:
    torch.testing.assert_close(Covariatesd(NAMES)({"facts": facts})["covariates"], torch.tensor(expected).float())


def test_without_facts_all_are_unknown_and_without_names_nothing_is_added() -> None:
    assert Covariatesd(("sex", "age"))({})["covariates"].tolist() == [0, 0, 0, 0]
    assert Covariatesd()({"facts": {"age": 60}}) == {"facts": {"age": 60}}
    assert Covariatesd(("sex", "age"))({"facts": {"age": 60}})["covariates"].tolist() == [0, 60, 0, 1]


@pytest.mark.parametrize("names", [("age", "weight"), ("age", "age"), "age"])
def test_other_names_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="covariates must be different ones of age, sex, bmi, got"):
        Covariatesd(names)


def test_planes_of_one_item_and_of_a_batch() -> None:
    image, facts = torch.rand(4, 2, 5, 6), torch.arange(8.0).view(4, 2)
    batch = CovariatePlanesd()({"image": image, "covariates": facts})
    assert set(batch) == {"image"}
    assert batch["image"].shape == (4, 4, 5, 6)
    torch.testing.assert_close(batch["image"][:, :2], image)
    assert (batch["image"][3, 2:] == torch.tensor([6.0, 7.0])[:, None, None]).all()
    one = CovariatePlanesd()({"image": image[3], "covariates": facts[3]})["image"]
    torch.testing.assert_close(one, batch["image"][3])


def test_reference_is_over_those_who_have_the_value() -> None:
    items = [{"facts": {"age": age, "sex": "F"}} for age in (50, 60, 70)] + [{"facts": {"sex": "F"}}]
    assert covariate_reference(items, ["age", "sex"]) == [[60.0, 10.0], [1.0, 1.0]]
    assert covariate_reference(items, []) == []
    with pytest.raises(ConfigError, match="bmi must be known for two people of the training split or more, got 0"):
        covariate_reference(items, ["bmi"])
