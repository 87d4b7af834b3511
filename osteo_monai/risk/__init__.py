"""Risk of osteoporosis: clinical and combined models, and calibration of network scores."""

from osteo_monai.risk.calibration import (
    CUTOFF,
    LEVEL,
    RISK_FILE,
    RiskCalibration,
    RiskEstimate,
    calibrate_risks,
    calibrate_table,
    fit_risk,
    read_risk,
    write_risk,
)
from osteo_monai.risk.model import FEATURES, ModelFacts, ModelName, RiskModel, load_risk_model
from osteo_monai.risk.people import Cohort, Person, read_people
from osteo_monai.risk.training import TrainedModel, train_and_predict, train_risk_model

__all__ = [
    "CUTOFF",
    "FEATURES",
    "LEVEL",
    "RISK_FILE",
    "Cohort",
    "ModelFacts",
    "ModelName",
    "Person",
    "RiskCalibration",
    "RiskEstimate",
    "RiskModel",
    "TrainedModel",
    "calibrate_risks",
    "calibrate_table",
    "fit_risk",
    "load_risk_model",
    "read_people",
    "read_risk",
    "train_and_predict",
    "train_risk_model",
    "write_risk",
]
