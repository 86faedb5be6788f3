"""A study's interactive figures as one HTML file, `plots/sweep.html` of its parent run."""

from datetime import datetime

import optuna

import brainseg
from brainseg.drawing.page import page_file, render
from brainseg.drawing.page_figures import plotly_script
from brainseg.sweep.outcome.figures import figure_groups
from brainseg.sweep.outcome.summary import StudySummary, forecast_text, headline, verdict


def sweep_html(study: optuna.Study, summary: StudySummary, *, made: datetime) -> str:
    """The page. made: when, for its last line."""
    return render(
        "sweep.html",
        styles=("page.css", "report.css"),
        scripts=(plotly_script(), page_file("report.js")),
        title=f"Study {summary.name}",
        progress=f"{headline(summary)}.{forecast_text(summary)}",
        verdicts=[verdict(summary, metric) for metric in summary.metrics],
        groups=figure_groups(study, summary),
        made=made.strftime("%Y-%m-%d %H:%M"),
        version=brainseg.__version__,
    )
