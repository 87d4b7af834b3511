import pytest

from osteo_monai.imaging import kernel_is_sharp
from osteo_monai.imaging.acquisition import clean_text


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("B31f", False),
        ("Br38f 3", False),
        ("Bl57d", True),
        ("B70s", True),
        ("I26f/2", False),
        ("STANDARD", False),
        ("LUNG", True),
        ("BONEPLUS", True),
        ("B", False),
        ("YB", True),
        ("FC08", False),
        ("FC18-H", False),
        ("FC52", True),
        ("FC30", True),
        ("Body Sharp", True),
        ("Body Standard", False),
        ("something new", None),
        ("", None),
        (None, None),
    ],
)
def test_kernels(kernel, sharp):
    assert kernel_is_sharp(kernel) is sharp


def test_clean_text():
    assert clean_text(["a", "b"]) == "a b"
    assert clean_text("x\x1b]0;evil\x07\ny") == "x ]0;evil y"
    assert len(clean_text("a" * 500)) == 80
    assert clean_text(None) == ""
