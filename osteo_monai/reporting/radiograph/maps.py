"""The radiographs beside their Grad-CAM and attention maps."""

from osteo_monai.reporting.figures import radiograph_picture
from osteo_monai.reporting.radiograph.study import RadiographStudy
from osteo_monai.reporting.section import Section

__all__ = ["SECTION"]


def _values(study: RadiographStudy) -> dict[str, object] | None:
    if study.images is None:
        return None
    return {
        "picture": radiograph_picture(study.images, study.measured),
        "evaluated": study.reading is not None,
    }


SECTION = Section(
    _values,
    """\
<section class="stamp" aria-labelledby="pictures">
  <h2 id="pictures">{% if evaluated %}Radiograph and Grad-CAM{% else %}Radiograph, not evaluated{% endif %}</h2>
  {{ figure(picture) }}
</section>
""",
)
