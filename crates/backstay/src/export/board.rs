//! A dashboard of Grafana as it is put together: rows and panels on a grid of 24 columns. Which panels
//! there are is said elsewhere.

use serde_json::{Value, json};

/// The data source is a variable of the dashboard, which works in a file that Grafana provisions and in
/// one that is imported by hand.
const SOURCE: &str = "${DS_PROMETHEUS}";
const COLUMNS: u32 = 24;
const HEIGHT: u32 = 8;

fn source() -> Value {
    json!({ "type": "prometheus", "uid": SOURCE })
}

/// One question to Prometheus: an expression, and what its series are called.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) expr: String,
    pub(super) legend: &'static str,
}

/// A question.
pub(super) fn query(expr: impl Into<String>, legend: &'static str) -> Query {
    Query { expr: expr.into(), legend }
}

/// How a panel draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    Lines,
    Stacked,
    Heatmap,
    Number,
}

/// A panel.
#[derive(Debug)]
pub(super) struct Panel {
    title: String,
    about: &'static str,
    unit: &'static str,
    drawn: Drawn,
    limit: Option<f64>,
    least: Option<i32>,
    queries: Vec<Query>,
}

impl Panel {
    /// Lines of what `queries` answer.
    pub(super) fn new(title: impl Into<String>, unit: &'static str, queries: Vec<Query>) -> Self {
        let title = title.into();
        Self { title, about: "", unit, drawn: Drawn::Lines, limit: None, least: Some(0), queries }
    }

    pub(super) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    pub(super) fn drawn(mut self, drawn: Drawn) -> Self {
        self.drawn = drawn;
        self
    }

    /// A line beyond which things are bad.
    pub(super) fn limit(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// It may go below zero.
    pub(super) fn below_zero(mut self) -> Self {
        self.least = None;
        self
    }

    fn json(&self, id: u32, place: &Value) -> Value {
        let heatmap = self.drawn == Drawn::Heatmap;
        let targets = self.queries.iter().zip('A'..).map(|(query, name)| {
            json!({
                "refId": name.to_string(),
                "datasource": source(),
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": true,
                "exemplar": query.expr.contains("_bucket"),
                "format": if heatmap { "heatmap" } else { "time_series" },
            })
        });
        json!({
            "id": id,
            "type": match self.drawn {
                Drawn::Lines | Drawn::Stacked => "timeseries",
                Drawn::Heatmap => "heatmap",
                Drawn::Number => "stat",
            },
            "title": self.title,
            "description": self.about,
            "datasource": source(),
            "gridPos": place,
            "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "options": self.options(),
        })
    }

    fn defaults(&self) -> Value {
        let calm = json!({ "color": "green", "value": null });
        let steps = match self.limit {
            Some(limit) => json!([calm, { "color": "red", "value": limit }]),
            None => json!([calm]),
        };
        let stacked = self.drawn == Drawn::Stacked;
        let custom = if stacked || self.drawn == Drawn::Lines {
            json!({
                "fillOpacity": if stacked { 40 } else { 0 },
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
                "thresholdsStyle": { "mode": if self.limit.is_some() { "line" } else { "off" } },
            })
        } else {
            json!({})
        };
        json!({
            "unit": self.unit,
            "min": self.least,
            "thresholds": { "mode": "absolute", "steps": steps },
            "custom": custom,
        })
    }

    fn options(&self) -> Value {
        match self.drawn {
            Drawn::Lines | Drawn::Stacked => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Drawn::Heatmap => json!({
                "calculate": false,
                "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64 },
                "yAxis": { "unit": self.unit },
                "cellGap": 1,
                "tooltip": { "show": true, "yHistogram": false },
            }),
            Drawn::Number => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "value",
                "graphMode": "area",
            }),
        }
    }
}

/// The panels of a dashboard so far.
#[derive(Debug, Default)]
pub(super) struct Board {
    rows: Vec<Value>,
    id: u32,
    y: u32,
}

impl Board {
    /// Adds a row of panels that share its width. A folded one is opened by a click.
    pub(super) fn row(&mut self, title: &str, folded: bool, panels: &[Panel]) {
        let id = self.next();
        let place = json!({ "h": 1, "w": COLUMNS, "x": 0, "y": self.y });
        self.y += 1;
        let in_line = u32::try_from(panels.len().clamp(1, 4)).unwrap_or(1);
        let width = COLUMNS / in_line;
        let mut placed = Vec::new();
        for (line, panels) in panels.chunks(4).enumerate() {
            let y = self.y + u32::try_from(line).unwrap_or(0) * HEIGHT;
            for (x, panel) in (0..).step_by(width as usize).zip(panels) {
                let place = json!({ "h": HEIGHT, "w": width, "x": x, "y": y });
                placed.push(panel.json(self.next(), &place));
            }
        }
        let (inside, below) = if folded { (placed, Vec::new()) } else { (Vec::new(), placed) };
        if !folded {
            self.y += u32::try_from(panels.len().div_ceil(4)).unwrap_or(1) * HEIGHT;
        }
        self.rows.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": folded, "gridPos": place,
            "panels": inside,
        }));
        self.rows.extend(below);
    }

    fn next(&mut self) -> u32 {
        self.id += 1;
        self.id
    }

    /// The whole dashboard.
    pub(super) fn finish(self) -> Value {
        let marks = |name: &str, color: &str, expr: &str, text: &str| {
            json!({
                "name": name, "datasource": source(), "enable": true, "hide": false,
                "iconColor": color, "expr": expr, "titleFormat": text, "step": "60s",
            })
        };
        json!({
            "uid": "backstay",
            "title": "Backstay",
            "description": "Calls to language models: outcomes, times, tokens, cost, failures.",
            "tags": ["backstay", "llm"],
            "timezone": "browser",
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-6h", "to": "now" },
            "annotations": { "list": [
                marks(
                    "New releases",
                    "blue",
                    "backstay_rollout_weight{call=~\"$call\"} unless backstay_rollout_weight offset 1m",
                    "{{release}}",
                ),
                marks(
                    "Alerts",
                    "red",
                    "ALERTS{alertname=~\"Backstay.*\",alertstate=\"firing\"}",
                    "{{alertname}} {{call}}{{target}}",
                ),
            ] },
            "templating": { "list": [
                {
                    "name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource",
                    "query": "prometheus", "hide": 0, "refresh": 1, "multi": false,
                    "includeAll": false,
                },
                {
                    "name": "call", "label": "Call", "type": "query", "datasource": source(),
                    "query": {
                        "query": "label_values(backstay_rollout_weight, call)", "refId": "calls",
                    },
                    "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
                    "hide": 0, "current": { "text": "All", "value": "$__all" },
                },
            ] },
            "links": [],
            "panels": self.rows,
        })
    }
}
