//! What stands in `deploy/` fits a real node: every metric, and every label of one, that the rules and
//! the dashboard name is there; every alert has its page in `docs/operate.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::cluster::{Cluster, test};

/// Functions and operators of PromQL that our expressions use.
const FUNCTIONS: [&str; 8] = [
    "avg_over_time",
    "histogram_quantile",
    "increase",
    "label_values",
    "predict_linear",
    "rate",
    "sum",
    "topk",
];
/// What Prometheus itself knows of a node, and the labels that it adds.
const OF_PROMETHEUS: &str = "up";
const LABELS_OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// The series of a node: name → label → values.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn series(page: &str) -> Series {
    let mut series = Series::new();
    let lines = page.lines().filter(|line| line.starts_with("tidings_"));
    for line in lines {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split_once('}').expect("an end of labels").0),
            None => (line.split(' ').next().expect("a name"), ""),
        };
        let known = series.entry(name.to_owned()).or_default();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').expect("a label");
            let value = value.trim_matches('"').to_owned();
            known.entry(label.to_owned()).or_default().insert(value);
        }
    }
    series
}

/// An expression's words: names, texts in quotes, and single signs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    Text(String),
    Sign(char),
}

fn words(expr: &str) -> Vec<Word> {
    let (mut words, mut rest) = (Vec::new(), expr.chars().peekable());
    while let Some(c) = rest.next() {
        if c == '"' {
            words.push(Word::Text(rest.by_ref().take_while(|&c| c != '"').collect()));
        } else if c.is_ascii_alphabetic() || c == '_' {
            let mut name = c.to_string();
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                name.push(c);
            }
            words.push(Word::Name(name));
        } else if c.is_ascii_digit() {
            // A number or a span of time, as in 5m.
            while rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '.').is_some() {}
        } else if !c.is_whitespace() {
            words.push(Word::Sign(c));
        }
    }
    words
}

/// What an expression names that is not there.
fn complaints(expr: &str, series: &Series) -> Vec<String> {
    let (words, mut complaints, mut at) = (words(expr), Vec::new(), 0);
    let sign = |at: usize, sign: char| words.get(at) == Some(&Word::Sign(sign));
    while let Some(word) = words.get(at) {
        at += 1;
        let Word::Name(name) = word else { continue };
        if ["and", "or", "unless"].contains(&name.as_str()) {
            continue;
        }
        if name == "by" {
            while !sign(at, ')') {
                at += 1;
            }
            continue;
        }
        if sign(at, '(') || words.get(at) == Some(&Word::Name("by".to_owned())) {
            if !FUNCTIONS.contains(&name.as_str()) {
                complaints.push(format!("no function {name}"));
            }
            continue;
        }
        if name == "instance" && expr.starts_with("label_values") {
            continue;
        }
        let labels = series.get(name);
        if labels.is_none() && name != OF_PROMETHEUS {
            complaints.push(format!("no metric {name}"));
        }
        if !sign(at, '{') {
            continue;
        }
        while !sign(at, '}') {
            if let (Some(Word::Name(label)), Some(labels)) = (words.get(at), labels)
                && !LABELS_OF_PROMETHEUS.contains(&label.as_str())
            {
                let text = words[at..].iter().find_map(|word| match word {
                    Word::Text(text) => Some(text),
                    Word::Name(_) | Word::Sign(_) => None,
                });
                let known = labels.get(label);
                for value in text.expect("a label's value").split('|') {
                    if known.is_none_or(|known| !known.contains(value)) {
                        complaints.push(format!("no {name}{{{label}={value:?}}}"));
                    }
                }
            }
            at += 1;
        }
    }
    complaints
}

/// Every text under the key `expr` or `query`, wherever it is.
pub(crate) fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_expression = key == "expr" || key == "query";
                match value.as_str() {
                    Some(text) if is_expression && text != "prometheus" => {
                        found.push(text.to_owned());
                    }
                    Some(_) | None => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn rules_and_dashboard_name_what_a_node_really_has() {
    let rules: Value = serde_norway::from_str(&read("deploy/alerts.yml")).expect("YAML");
    let dashboard: Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    expressions(&rules, &mut found);
    expressions(&dashboard, &mut found);
    assert!(found.len() > 30, "only {} expressions were found", found.len());
    test(async |dir| {
        let cluster = Cluster::acquainted(dir).await;
        let [acme, globex] =
            [&cluster.acme, &cluster.globex].map(async |node| node.page("/metrics").await);
        // Each of the two has one side of a message's way.
        let series = series(&(acme.await + &globex.await));
        let wrong: Vec<String> = found
            .iter()
            .flat_map(|expr| {
                complaints(expr, &series).into_iter().map(move |c| format!("{c}: {expr}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        cluster.end().await;
    });
}

/// Where a panel is on the grid of 24 columns: x, y, w, h.
fn place(panel: &Value) -> [u64; 4] {
    ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place on the grid"))
}

fn overlap([x, y, w, h]: [u64; 4], [u, v, q, r]: [u64; 4]) -> bool {
    x < u + q && u < x + w && y < v + r && v < y + h
}

/// By Grafana's page on the JSON model of a dashboard. Grafana itself has not read it.
#[test]
fn the_dashboard_has_the_shape_that_grafana_documents() {
    const KINDS: [&str; 8] =
        ["bargauge", "barchart", "gauge", "heatmap", "row", "stat", "table", "timeseries"];
    let board: Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
    assert!(board["title"].is_string() && board["time"]["from"].is_string(), "{board}");
    assert!(board["uid"].as_str().is_some_and(|uid| (1..=40).contains(&uid.len())));
    assert!(board["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    // What is imported gets its number there.
    assert!(board["id"].is_null());
    let variables = board["templating"]["list"].as_array().expect("variables");
    for variable in variables {
        let kind = variable["type"].as_str();
        assert!(variable["name"].is_string() && matches!(kind, Some("datasource" | "query")));
    }
    let (mut ids, mut places) = (BTreeSet::new(), Vec::new());
    for panel in board["panels"].as_array().expect("panels") {
        assert!(panel["title"].is_string(), "{panel}");
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "a number is there twice");
        assert!(panel["type"].as_str().is_some_and(|kind| KINDS.contains(&kind)), "{panel}");
        let here = place(panel);
        assert!(here[0] + here[2] <= 24 && here[2] > 0 && here[3] > 0, "{panel}");
        assert!(!places.iter().any(|other| overlap(*other, here)), "one lies on another: {panel}");
        places.push(here);
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert!(letters.insert(target["refId"].as_str().expect("a letter")), "{panel}");
            assert!(target["expr"].is_string(), "{target}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        }
        assert!(panel["type"] == "row" || !letters.is_empty(), "it asks nothing: {panel}");
    }
    assert!(ids.len() > 10, "only {} panels", ids.len());
    assert!(overlap([0, 0, 4, 4], [3, 3, 4, 4]) && !overlap([0, 0, 4, 4], [4, 0, 4, 4]));
}

#[test]
fn an_expression_that_names_what_is_not_there_is_found_out() {
    let page = "tidings_node{what=\"full\"} 0\ntidings_commit_seconds_bucket{le=\"0.1\"} 3\n";
    let series = series(page);
    for (expr, count) in [
        ("tidings_node{what=\"full\", instance=~\"$instance\"} == 1", 0),
        (
            "histogram_quantile(0.99, sum by (le) (rate(tidings_commit_seconds_bucket[5m]))) > 0.05",
            0,
        ),
        ("up{job=\"tidings\"} == 0 and tidings_node > 2", 0),
        ("tidings_node{what=\"ful\"} == 1", 1),
        ("tidings_node{what=~\"full|half\"} == 1", 1),
        ("tidings_node{where=\"full\"} == 1", 1),
        ("tidings_nodes > 1", 1),
        ("rat(tidings_node[5m]) or absent_metric", 2),
    ] {
        assert_eq!(complaints(expr, &series).len(), count, "{expr}");
    }
}

#[test]
fn every_alert_has_its_page_a_severity_and_a_summary() {
    let rules: Value = serde_norway::from_str(&read("deploy/alerts.yml")).expect("YAML");
    let mut named = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        assert!(named.insert(name.to_owned()), "{name} is there twice");
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        assert!(rule["annotations"]["summary"].is_string(), "{name} has no summary");
    }
    let page = read("docs/operate.md");
    let section = page.split("\n## Alerts").nth(1).expect("a section on alerts");
    let section = section.split("\n## ").next().expect("its text");
    let written: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(named, written);
    let scraped: Value = serde_norway::from_str(&read("deploy/prometheus.yml")).expect("YAML");
    assert_eq!(scraped["scrape_configs"][0]["job_name"], "tidings");
    assert_eq!(scraped["rule_files"][0], "alerts.yml");
}
