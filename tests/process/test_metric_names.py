"""Metrics, alerts, dashboard and their pages say the same."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from drsft.process.metric_names import METRICS, RUN_METRICS, SERVICE_METRICS, Metric

ROOT = Path(__file__).parents[2]
RULES = ROOT / "cluster/prometheus/rules.yaml"
DASHBOARD = ROOT / "cluster/grafana/drsft.json"
EXPORTED = {name: metric for metric in METRICS for name in metric.exported_names}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> dict[str, list[str]]:
    """By place."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = {rule["alert"]: [rule["expr"]] for rule in alerts()}
    for panel in dashboard["panels"]:
        found[panel["title"]] = [target["expr"] for target in panel.get("targets", ())]
    return found


def unknown_names(query: str) -> set[str]:
    return {name for name in re.findall(r"\b(?:ray_)?drsft_\w+", query) if name not in EXPORTED}


def unknown_labels(query: str) -> set[str]:
    """Labels that a query selects by or groups by and that no metric of it has; `le` is Prometheus's own."""
    used = {label for labels in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in labels.split(",")}
    used |= set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", query))
    names = set(re.findall(r"\bray_drsft_\w+", query)) & EXPORTED.keys()
    known = {label for name in names for label in EXPORTED[name].labels}
    return {label.strip() for label in used} - known - {"le", ""}


@pytest.mark.parametrize("place", queries())
def test_every_query_asks_for_metrics_and_labels_that_are_exported(place: str) -> None:
    for query in queries()[place]:
        assert unknown_names(query) == set()
        assert unknown_labels(query) == set()


def test_the_check_can_fail() -> None:
    assert unknown_names("sum(rate(ray_drsft_token_total[5m]))") == {"ray_drsft_token_total"}
    assert unknown_labels('sum by (node) (ray_drsft_tokens_total{stag="x"})') == {"node", "stag"}


def test_every_metric_is_on_the_dashboard() -> None:
    text = DASHBOARD.read_text() + RULES.read_text()
    assert [name for name in EXPORTED if name not in text] == []


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_has_its_chapter_in_the_runbook() -> None:
    headings = re.findall(r"^## (Drsft\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in alerts())
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def table(metrics: tuple[Metric, ...]) -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for one in metrics:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |")
    return "\n".join(lines)


@pytest.mark.parametrize("metrics", [RUN_METRICS, SERVICE_METRICS], ids=["run", "service"])
def test_the_page_lists_the_metrics(metrics: tuple[Metric, ...]) -> None:
    assert table(metrics) in (ROOT / "docs/metrics.md").read_text()


@pytest.mark.parametrize("command", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")])
def test_promtool_accepts_the_rules(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine: apt-get install -y prometheus")
    done = subprocess.run([promtool, *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
