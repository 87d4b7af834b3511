"""Sagittal and coronal views of the vertebral column."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.figures import column_picture
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import bodies_above_words

__all__ = ["SECTION"]


def _values(study: CTStudy) -> dict[str, object] | None:
    if study.images is None:
        return None
    above = study.result.bodies_above
    levels, indices = [s.level for s in study.slices], [s.index for s in study.slices]
    return {
        "picture": column_picture(study.images, levels, indices, above),
        # printed with the axial slices if there are any
        "last_rib": None if study.slices else study.last_rib,
        "above": bodies_above_words(above, bool(study.result.levels_found)),
    }


SECTION = Section(
    _values,
    """\
<section aria-labelledby="column">
  <h2 id="column">Vertebral column</h2>
  {{ figure(picture) }}
  {% if last_rib or above %}
  <p>{% if last_rib %}Basis of the level names: <b>{{ last_rib }}</b>. {% endif %}{{ above }}</p>
  {% endif %}
</section>
""",
)
