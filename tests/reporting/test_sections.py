"""Sections of the screening reports: listed once, rendered in order, and left out without content."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from osteo_monai import reporting
from osteo_monai.reporting import ct, radiograph, write_report
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.screening.images import ReportImages
from osteo_monai.screening.result import ScreeningResult


@pytest.mark.parametrize("package", [ct, radiograph], ids=lambda package: str(package.__name__).rpartition(".")[2])
def test_every_section_of_a_package_is_listed(package: object) -> None:
    name = str(package.__name__)  # type: ignore[attr-defined]
    modules = [import_module(f"{name}.{m.name}") for m in iter_modules(package.__path__)]  # type: ignore[attr-defined]
    sections = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    listed = package.SECTIONS  # type: ignore[attr-defined]
    assert len(listed) == len(sections) > 2
    assert all(section in listed for section in sections)


def test_a_section_listed_is_in_the_report(
    make_result: Callable[..., ScreeningResult],
    images: ReportImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One object in the list is all that a new section needs."""

    def values(study: CTStudy) -> dict[str, object] | None:
        return {"voxels": study.levels[0].region_voxels} if study.levels else None

    new: Section[CTStudy] = Section(
        values, '<section><h2 id="new">New</h2><p>{{ voxels }} voxels &amp; more</p></section>'
    )
    monkeypatch.setattr(ct, "SECTIONS", (*ct.SECTIONS, new))
    path = tmp_path / "report.html"
    write_report(make_result(), images, path)
    assert '<h2 id="new">New</h2><p>1235 voxels &amp; more</p>' in path.read_text(encoding="utf-8")
    write_report(make_result(levels=(), density=None, status=None), images, path)
    assert 'id="new"' not in path.read_text(encoding="utf-8")


def test_reports_import_results_and_images_of_screening_only() -> None:
    sources = (p.read_text(encoding="utf-8") for p in Path(reporting.__file__).parent.rglob("*.py"))
    imported = {
        line.split()[1] for text in sources for line in text.splitlines() if line.startswith("from osteo_monai.scr")
    }
    assert imported == {"osteo_monai.screening.images", "osteo_monai.screening.result"}
