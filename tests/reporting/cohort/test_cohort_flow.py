"""Flow of subjects into a study."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from osteo_monai.reporting.cohort import flow_figure, write_flow


def stage(label: str, count: int, *excluded: tuple[str, int]) -> SimpleNamespace:
    return SimpleNamespace(label=label, count=count, excluded=excluded, unchecked=(("age", 3),) if excluded else ())


def test_flow_of_pans_subjects(tmp_path: Path) -> None:
    stages = [stage("Screened", 1913, ("left for one reason", 800), ("for another", 65)), stage("Included", 1048)]
    texts = [t.get_text().replace("\N{NO-BREAK SPACE}", " ") for t in flow_figure(stages).axes[0].texts]
    for text in ("Screened (n = 1913)", "Excluded (n = 865)", "for another (n = 65)", "Included (n = 1048)"):
        assert text in texts
    assert "unknown, included: age (n = 3)" in texts
    write_flow(stages, tmp_path)
    assert (tmp_path / "flow.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "flow.svg").read_text()


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="after 10 subjects must have the remaining 8, got 9"):
        flow_figure([stage("a", 10, ("x", 2)), stage("b", 9)])
