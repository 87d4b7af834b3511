"""The shipped table against spekpy and xraydb, and against numbers calculated by hand."""

import importlib.util
import json
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation

K2HPO4, HA = MineralStandard.K2HPO4, MineralStandard.HYDROXYAPATITE


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """Load the tool that writes the table; skip without its development dependency."""
    pytest.importorskip("spekpy")
    path = Path(__file__).parents[2] / "tools" / "make_attenuation_table.py"
    spec = importlib.util.spec_from_file_location("make_attenuation_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kvp", "k2hpo4", "hydroxyapatite", "fat"),
    [(80, 1.873, 1.874, -97), (100, 1.568, 1.546, -85), (120, 1.390, 1.354, -78), (140, 1.267, 1.221, -73)],
)
def test_hu_per_density_agree_with_hand_calculation(kvp: int, k2hpo4: float, hydroxyapatite: float, fat: float) -> None:
    assert attenuation.hu_per_mg_cm3(K2HPO4, kvp) == pytest.approx(k2hpo4, abs=0.001)
    assert attenuation.hu_per_mg_cm3(HA, kvp) == pytest.approx(hydroxyapatite, abs=0.001)
    assert attenuation.tissue_hu("adipose", kvp) == pytest.approx(fat, abs=0.6)


def test_mass_attenuation_of_water_and_fat_at_70_kev() -> None:
    # NIST: water 0.1929 cm2/g; ICRU-44 adipose at 0.95 g/cm3 gives 0.17810 /cm, -76.5 HU against water.
    water = attenuation.mass_attenuation("water", np.array([70.0]))[0]
    fat = 0.95 * attenuation.mass_attenuation("fat", np.array([70.0]))[0]
    assert water == pytest.approx(0.19285, abs=2e-5)
    assert 1000 * (fat / water - 1) == pytest.approx(-76.5, abs=0.1)


@pytest.mark.parametrize("kvp", [80, 120, 145])
def test_table_equals_the_spectra(kvp: int, maker: ModuleType) -> None:
    fresh = maker.derive(kvp)
    assert attenuation.water_attenuation(kvp) == pytest.approx(fresh["water_per_cm"], rel=1e-5)
    assert attenuation.hu_per_mg_iodine(kvp) == pytest.approx(fresh["hu_per_mg_iodine"], rel=1e-5)
    for standard in MineralStandard:
        assert attenuation.hu_per_mg_cm3(standard, kvp) == pytest.approx(fresh["hu_per_mg_cm3"][standard], rel=1e-5)
    assert set(fresh["tissue_hu"]) == set(attenuation.MATERIALS)
    for name, hu in fresh["tissue_hu"].items():
        assert attenuation.tissue_hu(name, kvp) == pytest.approx(hu, rel=1e-5, abs=0.01)


def test_interpolated_voltages_agree_with_the_spectrum_within_three_thousandths(maker: ModuleType) -> None:
    fresh = maker.derive(72.5)  # the most curved interval
    assert attenuation.hu_per_mg_cm3(K2HPO4, 72.5) == pytest.approx(fresh["hu_per_mg_cm3"][K2HPO4], rel=3e-3)
    assert attenuation.hu_per_mg_iodine(72.5) == pytest.approx(fresh["hu_per_mg_iodine"], rel=3e-3)


def test_softer_spectra_give_more_hu_per_mineral_and_iodine() -> None:
    voltages = np.arange(70, 151, 2.5)
    for series in (
        [attenuation.hu_per_mg_cm3(K2HPO4, v) for v in voltages],
        [attenuation.hu_per_mg_cm3(HA, v) for v in voltages],
        [attenuation.hu_per_mg_iodine(v) for v in voltages],
    ):
        assert np.all(np.diff(series) < 0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("water", 0, 0),
        ("air", -1000, -998),
        ("lung", -760, -730),
        ("muscle", 35, 60),
        ("blood", 45, 65),
        ("liver", 45, 65),
        ("kidney", 30, 50),
        ("spleen", 45, 60),
        ("brain", 30, 45),
        ("red_marrow", 0, 20),
        ("yellow_marrow", -65, -40),
        ("disc", 40, 90),
        ("pmma", 110, 140),
        ("cortical_bone", 1300, 1900),
        ("titanium", 8000, 15000),
    ],
)
def test_tissues_lie_in_their_clinical_ranges(name: str, low: float, high: float) -> None:
    assert low <= attenuation.tissue_hu(name, 120) <= high


def test_mass_fractions_sum_to_one() -> None:
    for name, material in attenuation.MATERIALS.items():
        assert sum(material.fractions.values()) == pytest.approx(1.0, abs=1e-6), name
        assert material.source


@pytest.mark.parametrize("kvp", [69.9, 150.1, float("nan")])
def test_voltage_outside_the_table_is_refused(kvp: float) -> None:
    with pytest.raises(ValueError, match="kvp must be between 70 and 150"):
        attenuation.hu_per_mg_cm3(K2HPO4, kvp)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of"):
        attenuation.tissue_hu("bones", 120)
    with pytest.raises(ValueError, match="chalk"):
        attenuation.hu_per_mg_cm3("chalk", 120)  # type: ignore[arg-type]


def test_tool_writes_the_shipped_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: ModuleType) -> None:
    monkeypatch.setattr(maker, "TABULATED_KVP", (120,))
    maker.write_table(tmp_path / "table.json")
    shipped = json.loads(files("osteo_monai.imaging").joinpath("attenuation_table.json").read_text())
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["120"]["tissue_hu"] == pytest.approx(shipped["120"]["tissue_hu"], rel=1e-5, abs=0.01)
    assert set(shipped) == {str(v) for v in range(70, 151, 5)}
