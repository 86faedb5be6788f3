"""Saved views of an experiment in the MLflow UI: columns, order and charts that suit segmentation.

The UI keeps a view as a tag of the experiment: its name, and the state of the page as compressed JSON. It lists them
in the menu *Views* of the page of runs, and opens one by its id in the address. Up to MLflow 3.15 the latter alone.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

VIEW_TAG = "mlflow.sharedViewState."  # followed by the view's id
# Tag of an experiment that has been given the views, so that what a user changes or deletes stays so.
INSTALLED = "brainseg.views"
INSTALLED_VERSION = "1"

RUNS_VIEW, SCORES_VIEW, CURVES_VIEW = "brainseg-runs", "brainseg-scores", "brainseg-curves"

SCORES = ("final_dice", "best_val_dice_image", "best_epoch")
CHANGED = (
    "model.dropout",
    "model.depth",
    "model.base_filters",
    "optimizer.learning_rate",
    "train.loss",
    "train.epochs",
)
COLUMNS = (
    *(f"metrics.`{key}`" for key in SCORES),
    *(f"tags.`{key}`" for key in ("state", "data", "split")),
    *(f"params.`{key}`" for key in CHANGED),
)
BY_SCORE = "metrics.`final_dice`"
# Title of a section -> the metrics that it draws by epoch.
CURVES: Mapping[str, Sequence[str]] = {"Dice": ("val_dice_image", "train_dice"), "Loss": ("val_loss", "train_loss")}
SEARCHED = ("model.dropout", "model.depth", "optimizer.learning_rate")
SHOWN_RUNS = 20  # lines in a chart; the page lets one choose others
# Parents of studies have no curves.
NO_PARENTS = "tags.sweep_role IS NULL"


def view_tags(*, time_ms: int) -> dict[str, str]:
    """The tags that give an experiment its views; time_ms: when they were made, in milliseconds since 1970."""
    views = {
        RUNS_VIEW: ("1 Runs, the newest first", _page()),
        SCORES_VIEW: ("2 Scores, the best first", _page(order_by=BY_SCORE, search=NO_PARENTS)),
        CURVES_VIEW: (
            "3 Curves of the best",
            _page(order_by=BY_SCORE, search=NO_PARENTS) | {"runsHiddenMode": "FIRST_20_RUNS"} | _charts(),
        ),
    }
    tags = {
        f"{VIEW_TAG}{view}": json.dumps(
            {"name": name, "createdAt": time_ms, "updatedAt": time_ms, "state": _compressed(state)}
        )
        for view, (name, state) in views.items()
    }
    return tags | {INSTALLED: INSTALLED_VERSION}  # last: it says that the others are there


def _page(*, order_by: str = "attributes.start_time", search: str = "") -> dict[str, Any]:
    return {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),  # else the UI sorts them by name
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _charts() -> dict[str, Any]:
    """The curves, then what the searched parameters have to do with the score."""
    sections, charts = [], []
    for title, metrics in CURVES.items():
        sections.append(_section(title))
        charts += [_line(metric, section=title) for metric in metrics]
    search = "Searched parameters"
    sections.append(_section(search))
    charts.append(
        _chart("PARALLEL", "parallel", section=search)
        | {"selectedParams": list(SEARCHED), "selectedMetrics": ["best_val_dice_image"], "showAllRuns": False}
    )
    return {"compareRunSections": sections, "compareRunCharts": charts, "isAccordionReordered": True}


def _section(title: str) -> dict[str, Any]:
    return {"uuid": title, "name": title, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(kind: str, identity: str, *, section: str) -> dict[str, Any]:
    return {
        "uuid": identity,
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": SHOWN_RUNS,
        "deleted": False,
        "isGenerated": False,
    }


def _line(metric: str, *, section: str) -> dict[str, Any]:
    return _chart("LINE", metric, section=section) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "selectedYAxisMetricKey": metric,
        "yAxisExpressions": [],
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": True,
        "useGlobalXaxisKey": False,
        "ignoreOutliers": False,
        "displayName": metric,
    }


def _compressed(state: Mapping[str, Any]) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
