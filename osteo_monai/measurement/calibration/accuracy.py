"""Published accuracies of the calibration methods, from which the interval of a density follows.

An interval contains the differences to a QCT with a phantom in the scan: between scanners at one tube voltage, between
people on one scanner, and an offset of the HU scale. It does not contain contrast agent, or the choice of the region.
"""

ASYNCHRONOUS_RELATIVE_SD = 0.080
"""Asynchronous against simultaneous calibration, RMSD 8.0 % (Kaesmacher 2017)."""
INTERNAL_RELATIVE_SD = 0.078
"""Internal (tissue) calibration on one scanner, RMSD 7.8 % (Kaesmacher 2017): what the tissues do not show, such as
beam hardening and scatter at the spine."""
PHANTOM_RELATIVE_SD = 0.067
"""In-scan phantom, upper end of the accuracies of 1.4 to 6.7 % (Wang L 2017)."""
OTHER_SCANNER_SD = 0.092
"""A calibration carried to another scanner scatters by 9.2 % (Skornitzke 2022)."""
OTHER_KVP_SD = 0.054
"""Physics against the population HU at L1 (AAPM 2026, n = 16,747): at 100 kVp 1.128 against 1.051 times the HU at 120
kVp, at 140 kVp 0.912 against 0.932; root mean square of the two disagreements (7.3 and 2.2 %)."""
UNKNOWN_KVP_RELATIVE_SD = 0.11
"""Physics against 120 kVp: 1.128 times the HU at 100 kVp, 0.912 times at 140 kVp; root mean square of both."""
ABSOLUTE_SD_MG_CM3 = 3.0
"""Offset that no slope explains: phantomless bias of 3.0 mg/cm3 (PMC8844761), equal to 4 HU of water."""
OTHER_KVP_ABSOLUTE_SD = 2.7
"""Marrow fat costs more or less than at 120 kVp: density by water and mineral is 4.0 and 1.8 mg/cm3 too low at 80 and
100 kVp and 1.5 too high at 140 kVp in marrow of equal parts red and yellow (ICRU 46); root mean square, mg/cm3."""
WATER_SD_HU = 4.0
"""SD of the HU of water between scans: the 3.0 mg/cm3 above at 120 kVp."""
HU_GAIN_SD = 0.01
"""SD of the gain of the HU scale between scans; project custom, 10 HU in air."""
REFERENCE_KVP = 120.0
