"""Density against the norms of age and sex."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.figures import density_picture
from osteo_monai.reporting.section import Section

__all__ = ["SECTION"]


def _values(study: CTStudy) -> dict[str, object] | None:
    if study.density is None:
        return None
    facts = study.result.acquisition
    regression = next((o.density for o in study.result.opinions if o.name == "density_regression"), None)
    picture = density_picture(
        study.density,
        study.thresholds,
        facts.age_years if facts else None,
        facts.sex if facts else None,
        regression,
    )
    return {"picture": picture, "bands": study.thresholds is not None}


SECTION = Section(
    _values,
    """\
<section aria-labelledby="norms">
  <h2 id="norms">Density against age and sex</h2>
  {{ figure(picture, "Bands: classes by volumetric density." if bands else "") }}
</section>
""",
)
