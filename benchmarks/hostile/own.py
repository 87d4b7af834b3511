"""All further cases."""

from benchmarks.hostile.case import Register
from benchmarks.hostile.own_files import OWN_FILES
from benchmarks.hostile.own_values import OWN_VALUES

OWN = Register("own", [*OWN_VALUES.cases, *OWN_FILES.cases])
