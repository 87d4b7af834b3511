"""Axial slices of the measured levels with the contours of bodies and trabecular regions."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.figures import axial_picture
from osteo_monai.reporting.section import Section

__all__ = ["SECTION"]


def _values(study: CTStudy) -> dict[str, object] | None:
    images = study.images
    if images is None or not study.slices:
        return None
    return {
        "pictures": [axial_picture(images, s.level, s.index, s.number) for s in study.slices],
        "measured": bool(study.levels),
        "outlined": images.bodies is not None,
        "last_rib": study.last_rib,
    }


SECTION = Section(
    _values,
    """\
<section aria-labelledby="axial">
  <h2 id="axial">{% if measured %}Levels measured{% else %}Levels shown, not measured{% endif %}</h2>
  <div class="pair">
  {% for picture in pictures %}
    {{ figure(picture) }}
  {% endfor %}
  </div>
  <p>{% if outlined %}<span class="swatch"><i></i></span>vertebral body \
<span class="swatch region"><i></i></span>trabecular region{% if measured %} that was measured{% endif %}. {% endif %}\
Mediastinal window; patient right at image left.</p>
  {% if last_rib %}
  <p>Basis of the level names: <b>{{ last_rib }}</b>.</p>
  {% endif %}
</section>
""",
)
