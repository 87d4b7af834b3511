"""Codes of the results; docs/dicom_results.md lists them."""

from highdicom import coding_schemes
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from osteo_monai.dicom_results.terms import SCHEME, STATUS_CODES, VERTEBRA_CODES
from osteo_monai.domain import MineralStandard

__all__ = ["CODING_SCHEMES", "DENSITY_UNIT", "STATUS", "VERTEBRA", "private"]


def private(value: str, meaning: str) -> CodedConcept:
    """Return a code of this project, for a concept that no standard terminology has."""
    return CodedConcept(value, SCHEME, meaning)


CODING_SCHEMES = [
    coding_schemes.CodingSchemeIdentificationItem(
        SCHEME, name="Concepts of osteo_monai", version="1", responsible_organization="osteo_monai contributors"
    )
]

VERTEBRA = {level: CodedConcept(code, "SCT", meaning) for level, (code, meaning) in VERTEBRA_CODES.items()}
LUMBAR_SPINE, CHEST = codes.SCT.LumbarSpine, codes.SCT.Chest

STATUS = {status: CodedConcept(code, "SCT", meaning) for status, (code, meaning) in STATUS_CODES.items()}

DENSITY_UNIT = CodedConcept("mg/cm3", "UCUM", "mg/cm3")
"""The standard (K2HPO4 or hydroxyapatite) belongs to the concept: UCUM has no annotation that changes a value."""

DENSITY = {
    MineralStandard.K2HPO4: private("VBMD_K2HPO4", "Trabecular volumetric bone mineral density (K2HPO4)"),
    MineralStandard.HYDROXYAPATITE: private("VBMD_HA", "Trabecular volumetric bone mineral density (HA)"),
}
CORRECTED = {
    MineralStandard.K2HPO4: private("VBMD_C_K2HPO4", "Density corrected for contrast agent (K2HPO4)"),
    MineralStandard.HYDROXYAPATITE: private("VBMD_C_HA", "Density corrected for contrast agent (HA)"),
}
CLASS = private("CLASS", "Bone density class")
MEASUREMENT = private("MEASUREMENT", "Bone density measurement")
ESTIMATE = private("ESTIMATE", "Estimate of the risk of osteoporosis")
RISK = private("RISK", "Probability of osteoporosis by DXA")
SCORE = private("SCORE", "Output of the network, not calibrated")
RAISED = private("RAISED", "Probability at or above the cut-off")
REASON = private("REASON", "Reason for refusal")
WARNING = private("WARNING", "Warning")
NOTE = private("NOTE", "Note")
CALIBRATION = {
    name: private(f"CAL_{name.upper()}", f"CT number to density, {meaning}")
    for name, meaning in {
        "physics": "line of the tube voltage",
        "registry": "published line",
        "phantom": "phantom in the scan",
        "internal": "tissues of the patient",
        "user": "line given by the user",
        "site": "line of the scanner",
    }.items()
}
OPINION = {
    "hu_line": private("CLASS_LINE", "Class by the measured density"),
    "hu_rule": private("CLASS_HU", "Class by HU cut-offs of L1"),
    "density_regression": private("CLASS_REGRESSION", "Class by the regression network"),
    "classifier": private("CLASS_NETWORK", "Class by the classification network"),
}
