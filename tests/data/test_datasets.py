"""A data set reports all unusable records together, and can be read in every process."""

import pickle
from collections.abc import Hashable, Mapping
from typing import Any

import pytest
from monai.transforms import Compose, Transform

from osteo_monai.data.datasets import SubjectDataset
from osteo_monai.errors import ManifestError


class Check(Transform):
    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        if data["fault"]:
            raise data["fault"]
        return data


def _items(*faults: Exception | None) -> list[dict[str, Any]]:
    return [{"fault": fault, "place": f"test[{index}]"} for index, fault in enumerate(faults)]


@pytest.mark.parametrize("cached", [1.0, 0.4, 0.0])
def test_all_unusable_records_are_listed_together(cached: float) -> None:
    items = _items(ValueError("level L1 is missing"), None, OSError("cannot be read"))
    with pytest.raises(ManifestError, match="data set of 3 records has 2 problems") as caught:
        SubjectDataset(items, Compose([Check()]), cache_rate=cached, num_workers=1, progress=False)
    assert caught.value.problems == ("test[0]: level L1 is missing", "test[2]: cannot be read")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_fault_of_the_code_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError) as caught:
        SubjectDataset(_items(TypeError("wrong code")), Compose([Check()]), num_workers=1, progress=False)
    assert not isinstance(caught.value, ManifestError)


def test_usable_records_are_kept() -> None:
    assert len(SubjectDataset(_items(None, None), Compose([Check()]), num_workers=1, progress=False)) == 2
