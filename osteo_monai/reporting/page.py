"""Page of a screening report: verdict, findings, models and times around the sections of one modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from osteo_monai.domain import Severity
from osteo_monai.reporting.environment import render
from osteo_monai.screening.result import ScreeningResult

__all__ = ["Page"]

_SEVERITIES = (
    (Severity.REFUSAL, "Reasons for refusal"),
    (Severity.WARNING, "Warnings"),
    (Severity.INFO, "For information"),
)


@dataclass(frozen=True)
class Page:
    """Everything that differs between the modalities.

    Attributes:
        title: of the document.
        heading: first line of the page.
        subtitle: below it.
        verdicts: verdict to its title and one sentence.
        headlines: sections above the findings.
        sections: sections below the findings.
        acquisition: name and value of each header fact; empty when the header was not read.
    """

    title: str
    heading: str
    subtitle: str
    verdicts: Mapping[str, tuple[str, str]]
    headlines: Sequence[Markup]
    sections: Sequence[Markup]
    acquisition: Sequence[tuple[str, str]]

    def render(self, result: ScreeningResult) -> str:
        """Return the HTML document."""
        title, sentence = self.verdicts[result.verdict]
        return render(
            "screening.html.j2",
            {
                "page": self,
                "result": result,
                "verdict": {"key": result.verdict, "title": title, "sentence": sentence},
                "findings": [
                    (heading, [f for f in result.findings if f.severity is severity], severity.value)
                    for severity, heading in _SEVERITIES
                    if any(f.severity is severity for f in result.findings)
                ],
                "seconds": _seconds(result),
            },
        )


def _seconds(result: ScreeningResult) -> list[tuple[str, str]]:
    stages = {stage: seconds for stage, seconds in result.seconds.items() if stage != "total"}
    rows = [(stage.replace("_", " "), f"{seconds:.1f} s") for stage, seconds in stages.items()]
    if result.seconds:
        rows.append(("total", f"{result.seconds.get('total', sum(stages.values())):.1f} s"))
    return rows
