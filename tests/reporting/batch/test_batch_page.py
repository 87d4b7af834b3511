"""The page and the table of a batch: counts, reasons, densities by age and sex, links, and every field of a result."""

import json
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow.parquet as pq
import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, Sex
from osteo_monai.measurement import Density
from osteo_monai.reporting.batch import write_batch_page
from osteo_monai.screening.result import (
    AcquisitionFacts,
    Opinion,
    PersonFacts,
    RadiographAcquisition,
    RadiographRisk,
    RiskOpinion,
    ScreeningResult,
)


def scan(age: float | None, sex: Sex | None) -> AcquisitionFacts:
    return AcquisitionFacts(
        kvp=120.0,
        kernel=None,
        slice_thickness_mm=2.0,
        manufacturer=None,
        model=None,
        station="CT7",
        acquired=date(2024, 3, 1),
        contrast=None,
        series_description=None,
        age_years=age,
        sex=sex,
        shape=(512, 512, 100),
        spacing_mm=(0.7, 0.7, 2.0),
    )


def measured(
    name: str,
    mg_cm3: float,
    age: float | None,
    sex: Sex | None,
    standard: MineralStandard = MineralStandard.K2HPO4,
    **changes: Any,
) -> ScreeningResult:
    density = Density(mg_cm3=mg_cm3, interval_low=mg_cm3 - 15, interval_high=mg_cm3 + 15, standard=standard)
    known = standard is MineralStandard.K2HPO4
    own: dict[str, Any] = {
        "study": name,
        "verdict": "accepted",
        "findings": (),
        "density": density,
        "thresholds": DensityThresholds() if known else None,
        "status": DensityThresholds().status(mg_cm3, standard) if known else None,
        "acquisition": scan(age, sex),
        "seconds": {"reading": 1.0, "total": 4.0},
    }
    return ScreeningResult(**own | changes)


def finding(code: str, severity: Severity) -> Finding:
    return Finding(code=code, severity=severity, message=f"Message of {code} <b>.")


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    warned = (finding("thick_slices", Severity.WARNING), finding("young", Severity.WARNING))
    refused = (finding("metal", Severity.REFUSAL), finding("thick_slices", Severity.WARNING))
    risk = RiskOpinion(name="chest_frontal", score=0.4, probability=0.3, low=0.2, high=0.4, cutoff=0.2, raised=True)
    radiograph = RadiographRisk(
        radiographs=(
            RadiographAcquisition(view="chest_frontal", source="x.png", source_format="PNG", rows=9, columns=9),
        ),
        risk=risk,
        person=PersonFacts(age_years=66, sex=Sex.FEMALE),
        trained_on="virtual patients",
    )
    opinion = Opinion(
        name="classifier",
        status=BoneStatus.NORMAL,
        probabilities={BoneStatus.NORMAL: 0.7, BoneStatus.OSTEOPENIA: 0.2, BoneStatus.OSTEOPOROSIS: 0.1},
    )
    results = {
        "a": measured("a", 79.97, 71, Sex.FEMALE, opinions=(opinion,)),
        "b__1": measured("b__1", 100.0, 74, Sex.FEMALE, verdict="accepted_with_warnings", findings=warned),
        "c & d #1": measured("c & d #1", 130.0, 45, Sex.MALE),
        "e": measured("e", 150.0, None, None),
        "f": measured("f", 90.0, 60, Sex.MALE, MineralStandard.HYDROXYAPATITE),
        "g": ScreeningResult(study="g", verdict="refused", findings=refused, acquisition=scan(80, Sex.FEMALE)),
        "h": ScreeningResult(
            study="h", verdict="refused", findings=(finding("metal", Severity.REFUSAL),), acquisition=scan(80, None)
        ),
        "i": ScreeningResult(study="i", verdict="unusable", findings=(finding("unusable_input", Severity.REFUSAL),)),
        "j": ScreeningResult(study="j", modality="radiograph", verdict="accepted", findings=(), radiograph=radiograph),
    }
    for name, result in results.items():
        result.write(tmp_path / name / "result.json")
        if result.verdict != "unusable":
            (tmp_path / name / "report.html").write_text("<html></html>")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text('{"version": ')
    folders = [*results, "damaged", "pending"]
    (tmp_path / "batch.json").write_text(json.dumps({"version": "0.2.0", "folders": folders}))
    (tmp_path / "summary.csv").write_text("study\n")
    (tmp_path / "not_read.csv").write_text("name,reason\nnotes.txt,no image\n")
    return tmp_path


NONE = "\N{EN DASH}"


class Page(HTMLParser):
    """Rows of every table, links and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._open = True
        elif tag == "a":
            self.links.append(facts["href"] or "")
        if tag in ("script", "img", "link"):
            self.sources.append(facts.get("src") or facts.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.tables[-1][-1][-1] += data


@pytest.fixture
def page(batch: Path) -> Page:
    written = write_batch_page(batch)
    assert written == batch / "index.html"
    return Page(written.read_text())


def test_outcomes_are_counted_by_kind(page: Page) -> None:
    assert page.tables[0][1:] == [
        ["Measured", "4", "1", "5"],
        ["Measured, with warnings", "1", "0", "1"],
        ["Refused", "2", "0", "2"],
        ["Unusable", "1", "0", "1"],
        ["No result", "0", "0", "2"],
    ]


def test_reasons_are_counted_once_a_study(page: Page) -> None:
    refusals, warnings = page.tables[1][1:], page.tables[2][1:]
    message = "Message of {} <b>."
    assert refusals == [[code, n, message.format(code)] for code, n in (("metal", "2"), ("unusable_input", "1"))]
    assert [row[:2] for row in warnings] == [["thick_slices", "1"], ["young", "1"]]


def test_densities_of_two_standards_are_apart(page: Page) -> None:
    hydroxyapatite, k2hpo4 = page.tables[3][1:], page.tables[4][1:]
    if len(hydroxyapatite) > len(k2hpo4):
        hydroxyapatite, k2hpo4 = k2hpo4, hydroxyapatite
    assert hydroxyapatite == [["60 to 69", "male", "1", "90.0", NONE, "0", "0", "0", "1"]]
    assert k2hpo4 == [
        ["40 to 49", "male", "1", "130.0", NONE, "0", "0", "1", "0"],
        ["70 to 79", "female", "2", "90.0", "14.2", "1", "1", "0", "0"],
        ["unknown", "unknown", "1", "150.0", NONE, "0", "0", "1", "0"],
        ["all", "all", "4", "115.0", "31.1", "1", "1", "2", "0"],
    ]


def test_each_study_has_a_row_in_the_order_of_the_batch(page: Page, batch: Path) -> None:
    rows = {row[1]: row for row in page.tables[-1][1:]}
    assert list(rows) == ["a", "b__1", "c & d #1", "e", "f", "g", "h", "i", "j", "damaged", "pending"]
    assert rows["a"][2:] == [
        "CT",
        "Measured",
        "79.97 mg/cm³ K2HPO4, osteoporosis",
        "65 to 95",
        "",
        "71",
        "F",
        "",
        "4.0",
    ]
    assert rows["b__1"][9] == "thick_slices, young"
    assert rows["g"][2:] == ["CT", "Refused", "", "", "", "80", "F", "metal", ""]
    risk = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows["j"][2:9]]
    assert risk == ["radiograph", "Measured", "risk 30 %, raised", "20 % to 40 %", "", "66", "F"]
    assert rows["damaged"][2:4] == rows["pending"][2:4] == ["", "No result"]


def test_links_lead_to_files_that_exist(page: Page, batch: Path) -> None:
    assert "c%20%26%20d%20%231/report.html" in page.links
    assert len([link for link in page.links if link.endswith("report.html")]) == 8
    assert all((batch / unquote(link)).is_file() for link in page.links)
    assert "not_read.csv" in page.links


def test_the_page_refers_to_nothing_outside(page: Page) -> None:
    assert all(source == "" or source.startswith("data:") for source in page.sources)
    assert len(page.sources) == 3  # two figures, one script


def test_the_table_has_every_field_of_every_result(batch: Path) -> None:
    write_batch_page(batch)
    table = pq.read_table(batch / "results.parquet")
    assert table.column_names == ["folder", *ScreeningResult.model_fields]
    assert table.num_rows == 9
    for record in table.to_pylist(maps_as_pydicts="strict"):
        expected = ScreeningResult.model_validate_json((batch / record["folder"] / "result.json").read_text())
        given = {name: value for name, value in record.items() if name != "folder"}
        assert ScreeningResult.model_validate(given) == expected


def test_one_number_is_read_by_its_name(batch: Path) -> None:
    write_batch_page(batch)
    frame = pd.read_parquet(batch / "results.parquet", columns=["study", "density.mg_cm3"]).set_index("study")
    assert frame["mg_cm3"]["a"] == 79.97
    assert pd.isna(frame["mg_cm3"]["i"])


def test_the_schema_does_not_depend_on_the_results(batch: Path) -> None:
    write_batch_page(batch)
    before = pq.read_schema(batch / "results.parquet")
    (batch / "batch.json").write_text(json.dumps({"version": "0.2.0", "folders": ["i"]}))
    write_batch_page(batch)
    assert pq.read_schema(batch / "results.parquet").equals(before, check_metadata=True)


def test_a_batch_without_any_result(batch: Path) -> None:
    (batch / "batch.json").write_text(json.dumps({"version": "0.2.0", "folders": ["pending"]}))
    page = Page(write_batch_page(batch).read_text())
    assert page.tables[0][1:] == [["No result", "0", "0", "1"]]
    assert pq.read_table(batch / "results.parquet").num_rows == 0


def test_a_folder_that_is_no_batch(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_batch_page(tmp_path)
