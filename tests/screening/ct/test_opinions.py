"""Second opinions: the rule of HU, the bundles (stand-ins, and the real ones by random weights), what is kept."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from osteo_monai.bundle import Bundle
from osteo_monai.domain import BoneStatus, DensityThresholds, Severity
from osteo_monai.screening import ScreeningModels, ScreeningOptions, ScreeningResult, UserCalibration, screen_volume
from osteo_monai.screening.ct.opinions import hu_rule
from osteo_monai.screening.models import (
    CLASSIFICATION_BUNDLE,
    REGRESSION_BUNDLE,
    OpinionModels,
    load_opinion_models,
)
from osteo_monai.screening.result import RESULT_VERSION, Opinion, OpinionName

from ..conftest import LEVELS, FakeBundle, MakeModels, MakeVolume

T12, L1, L2, L3 = LEVELS
NORMAL, OSTEOPENIA, OSTEOPOROSIS = BoneStatus
BUNDLES = Path(__file__).parents[3] / "bundles"


def by_name(result: ScreeningResult) -> dict[str, Opinion]:
    return {o.name: o for o in result.opinions}


class FakeOpinion(FakeBundle):
    """Answers as both bundles do, and keeps what it was given."""

    weights_sha256 = "2" * 64

    def __init__(self, name: str, density: float = 100.0, probabilities: tuple[float, ...] = (0.1, 0.8, 0.1)) -> None:
        self.name, self.density, self.probabilities = name, density, probabilities
        self.scan: dict[str, Any] = {}

    def __call__(self, scan: Any, /) -> dict[str, Any]:
        self.scan = scan
        one = {"bmd_mg_cm3": self.density, "lower": self.density - 9, "upper": self.density + 9, "sd": 5.0}
        chances = {"normal": 0.2, "osteopenia": 0.7, "osteoporosis": 0.1}
        study = {**one, "probability": chances, "bone_status": "osteopenia"}
        found = {"standard": "K2HPO4", "coverage": 0.9, "levels": {"L1": one, "L2": one}, "study": study}
        return {"density": found, "pred": torch.tensor(self.probabilities)}

    def setting(self, name: str) -> Any:
        return {"levels": ["L1", "L2"]}[name]

    def class_activation(self, scan: Mapping[str, Any], layer: str, output: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert (layer, output) == ("layer4", int(np.argmax(self.probabilities)))
        return torch.rand(2, 8, 8), torch.rand(8, 8)


def with_opinions(
    models: ScreeningModels, density_regression: FakeOpinion | None = None, classifier: FakeOpinion | None = None
) -> ScreeningModels:
    bundles: dict[OpinionName, Bundle] = {
        "density_regression": density_regression or FakeOpinion("fake_regression"),
        "classifier": classifier or FakeOpinion("fake_classifier"),
    }
    return replace(models, opinions=OpinionModels(bundles))


# --- the rule of HU -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hu", "status"), [(110.0, OSTEOPOROSIS), (111.0, OSTEOPENIA), (161.0, NORMAL)])
def test_rule_at_its_own_voltage(hu: Any, status: Any) -> None:
    assert (hu_rule(hu, 120.0).status, hu_rule(hu, 120.0).l1_hu) == (status, hu)


def test_rule_gives_no_class_at_another_voltage_and_notes_an_unknown_one() -> None:
    assert hu_rule(150.0, 100.0).status is None
    assert "not for 100" in hu_rule(150.0, 100.0).note
    assert hu_rule(150.0, None).status is OSTEOPENIA
    assert "unknown" in hu_rule(150.0, None).note
    assert "Pickhardt 2013: up to 110, above 160 HU" in hu_rule(150.0, 120.0).note


# --- in the pipeline, with stand-ins ------------------------------------------------------------------------------


def test_opinions_do_not_change_the_density(make_volume: MakeVolume, make_models: MakeModels) -> None:
    single, _ = screen_volume(make_volume(), make_models())
    models = with_opinions(make_models())
    result, images = screen_volume(make_volume(), models)
    assert (result.density, result.status, result.levels) == (single.density, single.status, single.levels)
    found = by_name(result)
    assert list(found) == ["hu_line", "hu_rule", "density_regression", "classifier"]
    assert (found["hu_line"].density, found["hu_line"].status) == (result.density, result.status)
    assert found["hu_rule"].l1_hu == pytest.approx(160.0, abs=1.5)
    regression = found["density_regression"]
    assert regression.density is not None
    assert (regression.density.mg_cm3, regression.density.interval_high, regression.status) == (100, 109, OSTEOPENIA)
    assert set(regression.level_densities) == {L1, L2}
    assert regression.probabilities == {NORMAL: 0.2, OSTEOPENIA: 0.7, OSTEOPOROSIS: 0.1}
    assert found["classifier"].status is OSTEOPENIA
    assert found["classifier"].probabilities == pytest.approx({NORMAL: 0.1, OSTEOPENIA: 0.8, OSTEOPOROSIS: 0.1})
    assert {m.bundle for m in result.models} == {
        "fake_localiser",
        "fake_column",
        "fake_segmenter",
        "fake_regression",
        "fake_classifier",
    }
    assert result.opinions_absent == {}
    assert images.activation is not None
    assert (images.activation.levels, images.activation.status) == ((L1, L2), OSTEOPENIA)


def test_bundles_get_the_slab_the_predicted_bodies_and_the_voltage(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    models = with_opinions(make_models())
    _, images = screen_volume(make_volume(), models)
    regression = models.opinions.bundles["density_regression"]
    assert isinstance(regression, FakeOpinion)
    assert images.bodies is not None
    scan = regression.scan
    assert scan["kvp"] == 120.0
    assert scan["image"].shape == scan["label"].shape
    # L1 to L3 with their discs and 14 mm on either side
    assert scan["image"].shape[3] == pytest.approx(69, abs=2)
    torch.testing.assert_close(scan["image"].affine, scan["label"].affine)
    assert set(np.unique(scan["label"])) == {0, 20, 21, 22}
    assert int((np.asarray(scan["label"]) > 0).sum()) == int(np.count_nonzero(images.bodies))
    # L1 is centred at z = 8 mm
    where = np.argwhere(np.asarray(scan["label"][0]) == L1.label).mean(0)
    assert (where @ scan["label"].affine[:3, :3].numpy().T + scan["label"].affine[:3, 3].numpy())[2] == pytest.approx(
        8.0, abs=1.5
    )


def test_normal_by_one_and_osteoporosis_by_the_other_is_warned(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    far = with_opinions(make_models(), classifier=FakeOpinion("c", probabilities=(0.01, 0.04, 0.95)))
    options = ScreeningOptions(calibration=UserCalibration(0.9, 0.0))
    result, _ = screen_volume(make_volume(), far, options)
    assert result.status is NORMAL  # 0.9 * 155 = 139.5
    finding = next(f for f in result.findings if f.code == "opinions_differ")
    assert finding.severity is Severity.WARNING
    assert "classifier osteoporosis (95%)" in finding.message
    assert result.verdict == "accepted_with_warnings"


def test_opinion_that_cannot_be_given_is_absent_with_a_reason(make_volume: MakeVolume, make_models: MakeModels) -> None:
    class Failing(FakeOpinion):
        def __call__(self, scan: Any, /) -> dict[str, Any]:
            raise ValueError("L2 is not in the label map")

    models = with_opinions(make_models(), density_regression=Failing("f"))
    result, _ = screen_volume(make_volume(), models)
    assert "density_regression" not in by_name(result)
    assert "L2 is not in the label map" in result.opinions_absent["density_regression"]
    assert "f" not in {m.bundle for m in result.models}


def test_networks_need_both_levels(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, images = screen_volume(make_volume(), with_opinions(make_models()), ScreeningOptions(levels=(L1,)))
    assert list(by_name(result)) == ["hu_line", "hu_rule"]
    assert all("L2 was not measured" in why for why in result.opinions_absent.values())
    assert images.activation is None
    below, _ = screen_volume(make_volume(), with_opinions(make_models()), ScreeningOptions(levels=(L2,)))
    assert list(by_name(below)) == ["hu_line"]
    assert below.opinions_absent["hu_rule"] == "L1 was not measured."


def test_learned_classes_are_not_given_for_other_thresholds(make_volume: MakeVolume, make_models: MakeModels) -> None:
    options = ScreeningOptions(thresholds=DensityThresholds(90.0, 130.0, source="this test"))
    result, _ = screen_volume(make_volume(), with_opinions(make_models()), options)
    assert "trained for the classes of the default thresholds" in result.opinions_absent["classifier"]
    regression = by_name(result)["density_regression"]
    assert (regression.status, regression.probabilities) == (OSTEOPENIA, None)


def test_refused_study_has_no_opinions(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, images = screen_volume(make_volume(kvp=70.0), with_opinions(make_models()))
    assert result.verdict == "refused"
    assert (result.opinions, result.opinions_absent, images.activation) == ((), {}, None)


def test_result_round_trip_and_results_of_version_1_0(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), with_opinions(make_models()))
    text = result.model_dump_json()
    assert ScreeningResult.model_validate_json(text) == result
    assert (result.version, RESULT_VERSION) == ("1.7", "1.7")
    old = json.loads(text)
    del old["opinions"], old["opinions_absent"], old["bodies_above"], old["tissues"], old["contrast"]
    del old["acquisition"]["station"], old["acquisition"]["acquired"]
    for key in ("slope_sd", "centre_hu", "verified"):
        del old["calibration"][key]
    old["version"] = "1.0"
    read = ScreeningResult.model_validate_json(json.dumps(old))
    assert (read.version, read.opinions, read.bodies_above, read.density) == ("1.0", (), 0, result.density)


# --- the bundles themselves, by random weights --------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both bundles without weights, small networks."""
    folder = tmp_path_factory.mktemp("zoo")
    small = {
        REGRESSION_BUNDLE: {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]},
        CLASSIFICATION_BUNDLE: {"depth": "resnet10", "widths": [4, 4, 8, 8]},
    }
    for name, network in small.items():
        shutil.copytree(BUNDLES / name / "configs", folder / name / "configs")
        path = folder / name / "configs" / "inference.json"
        config = json.loads(path.read_text())
        config["network_def"] |= network
        path.write_text(json.dumps(config))
    return folder


def make_weights(zoo: Path, name: str) -> None:
    torch.manual_seed(0)
    network = ConfigParser(json.loads((zoo / name / "configs" / "inference.json").read_text()))
    (zoo / name / "models").mkdir(exist_ok=True)
    torch.save(network.get_parsed_content("network_def").state_dict(), zoo / name / "models" / "model.pt")


def test_bundles_without_weights_are_absent_and_with_weights_give_opinions(
    zoo: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_volume: MakeVolume,
    make_models: MakeModels,
) -> None:
    monkeypatch.setattr(
        "osteo_monai.bundle.runner.find_bundle", lambda name: zoo / name
    )  # the checkout's bundles may have weights
    models = load_opinion_models(torch.device("cpu"))
    assert models.bundles == {}
    assert set(models.absent) == {"density_regression", "classifier"}
    assert all("not installed" in why and "/" not in why for why in models.absent.values())
    base = make_models()
    without, _ = screen_volume(make_volume(), replace(base, opinions=models))
    assert without.verdict == "accepted"
    assert without.opinions_absent == models.absent

    for name in (REGRESSION_BUNDLE, CLASSIFICATION_BUNDLE):
        make_weights(zoo, name)
    models = load_opinion_models(torch.device("cpu"))
    assert models.absent == {}
    result, images = screen_volume(make_volume(), replace(base, opinions=models))
    assert {REGRESSION_BUNDLE, CLASSIFICATION_BUNDLE} <= {m.bundle for m in result.models}
    found = by_name(result)
    density = found["density_regression"].density
    assert density is not None
    # an untrained regressor applies the line of 0.75 mg/cm3 per HU that its training begins from
    assert density.mg_cm3 == pytest.approx(0.75 * 155, abs=4)
    chances = found["classifier"].probabilities
    assert chances is not None
    assert sum(chances.values()) == pytest.approx(1.0)
    assert found["classifier"].status is max(chances, key=lambda status: chances[status])
    activation = images.activation
    assert activation is not None
    assert activation.slices.shape == (2, 128, 128)
    assert (activation.heat.min() >= 0, activation.heat.max() <= 1) == (True, True)
    # trabecular bone of 160 HU in the window from -200 to 600, black outside the body of 44 x 34 mm
    assert activation.slices[0, 64, 64] == pytest.approx(360 / 800, abs=0.03)
    assert activation.slices[0, 64 - 40, 64] > 0.3
    assert activation.slices[0, 64, 64 - 40] == 0

    torch.save({}, zoo / CLASSIFICATION_BUNDLE / "models" / "model.pt")
    assert "do not fit" in load_opinion_models(torch.device("cpu")).absent["classifier"]
