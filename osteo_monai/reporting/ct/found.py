"""Table of all levels found."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import HIGHEST_NAMED, point_words
from osteo_monai.utils.text import percent_words

__all__ = ["SECTION"]


def _values(study: CTStudy) -> dict[str, object] | None:
    """Rows (name, certainty, runner-up, centre) from the top down; one for all bodies above the named levels."""
    result = study.result
    rows = [
        (str(level.level), percent_words(level.certainty), str(level.runner_up or "none"), point_words(level.centre_mm))
        for level in result.levels_found
    ]
    if not rows:
        return None
    if result.bodies_above:
        count = "1 body" if result.bodies_above == 1 else f"{result.bodies_above} bodies"
        rows.insert(0, (f"above {HIGHEST_NAMED}", "not named", "none", count))
    return {"rows": rows}


SECTION = Section(
    _values,
    """\
<section class="stamp" aria-labelledby="found">
  <h2 id="found">Levels found</h2>
  <div class="two">
  {% for part in rows | slice(2) if part %}
  <table class="found">
    <thead><tr><th scope="col">Level</th><th scope="col">Certainty</th><th scope="col">Runner-up</th>\
<th scope="col">Centre (mm; R, A, S)</th></tr></thead>
    <tbody>
    {% for name, certainty, runner_up, centre in part %}
      <tr><th scope="row">{{ name }}</th><td>{{ certainty }}</td><td>{{ runner_up }}</td><td>{{ centre }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  {% endfor %}
  </div>
</section>
""",
)
