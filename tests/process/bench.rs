//! `tidings bench` at its smallest: that it runs, what it reports, and that nothing is lost. Says
//! nothing about speed.

use serde_json::Value;

use crate::{binary, cluster::test};

#[test]
fn a_small_measurement_reports_what_it_found() {
    test(async |dir| {
        let plot = dir.join("plot.svg");
        let plot_text = plot.to_str().expect("a path in UTF-8");
        let report =
            binary::json(&["bench", "latency", "--messages", "50", "--json", "--svg", plot_text])
                .await;
        assert!(report["fsync_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
        assert!(report["synced"].as_str().is_some_and(|text| text.contains("fsynced commit")));
        let [latency] = scenarios(&report);
        assert_eq!(latency["scenario"], "latency");
        is_whole(latency, 50);
        for stage in ["accepted", "shown", "ticked"] {
            for percentile in ["p50", "p90", "p99", "max"] {
                let ms = &latency["latency_ms"][stage][percentile];
                assert!(ms.as_f64().is_some_and(|ms| ms > 0.0), "{stage} {percentile}: {ms}");
            }
        }
        for (node, name) in nodes(latency).zip(["acme", "globex"]) {
            assert_eq!(node["name"], name);
            // Each message is on the disk of each node before anybody hears of it.
            for figure in ["rows_written", "rows_deleted", "commits", "fsyncs"] {
                let figure = &node[format!("{figure}_per_message")];
                assert!(figure.as_f64().is_some_and(|count| count >= 1.0), "{node}");
            }
            assert!(node["peak_memory_mib"].as_f64().is_some_and(|mib| mib > 1.0), "{node}");
        }
        let drawn = std::fs::read_to_string(&plot).expect("the plot");
        assert!(drawn.starts_with("<svg") && drawn.contains("<polyline"), "{drawn}");
    });
}

#[test]
fn a_measurement_with_a_killed_node_loses_nothing() {
    test(async |_| {
        let report =
            binary::json(&["bench", "kill", "--messages", "300", "--senders", "3", "--json"]).await;
        for (scenario, name) in
            scenarios::<2>(&report).into_iter().zip(["kill-acme", "kill-globex"])
        {
            assert_eq!(scenario["scenario"], name);
            is_whole(scenario, 300);
        }
    });
}

#[test]
fn a_peer_in_trouble_is_measured_beside_one_that_is_well() {
    test(async |_| {
        let args = ["bench", "beside", "--messages", "10", "--senders", "3", "--json"];
        let report = binary::json(&args).await;
        let names = ["well", "still", "down", "back"].map(|how| format!("beside-{how}"));
        for (scenario, name) in scenarios::<4>(&report).into_iter().zip(names) {
            assert_eq!(scenario["scenario"], name.as_str());
            let count = |name: &str| scenario[name].as_u64();
            assert_eq!(
                (count("messages"), count("lost"), count("doubled")),
                (Some(10), Some(0), Some(0))
            );
        }
    });
}

#[test]
fn what_cannot_be_measured_is_refused() {
    test(async |dir| {
        // A folder of somebody's, with the name of a scenario in it.
        let theirs = dir.join("latency");
        std::fs::create_dir(&theirs).expect("a folder");
        let dir_text = dir.to_str().expect("a path in UTF-8");
        for (args, hint) in [
            (&["bench", "speed"][..], "possible values: latency"),
            (&["bench", "latency", "--dir", dir_text], "is not empty"),
            (&["bench", "--senders", "0"], "1..=5000"),
            (&["bench", "--real", "kill"], "latency and throughput"),
            (&["bench", "latency", "--svg", "/absent/plot.svg"], "writing /absent/plot.svg"),
        ] {
            let said = binary::run(args).await;
            assert_ne!(said.code, Some(0), "{said:?}");
            assert!(said.err.contains(hint), "{said:?}");
        }
        assert!(theirs.is_dir(), "what was there is there");
    });
}

fn scenarios<const N: usize>(report: &Value) -> [&Value; N] {
    let all = report["scenarios"].as_array().expect("scenarios");
    all.iter().collect::<Vec<_>>().try_into().expect("so many scenarios")
}

fn nodes(scenario: &Value) -> impl Iterator<Item = &Value> {
    scenario["nodes"].as_array().expect("nodes").iter()
}

fn is_whole(scenario: &Value, messages: u64) {
    let count =
        |name: &str| scenario[name].as_u64().unwrap_or_else(|| panic!("{name}: {scenario}"));
    assert_eq!(count("messages"), messages);
    assert_eq!((count("lost"), count("doubled"), count("failed")), (0, 0, 0), "{scenario}");
    assert_eq!(nodes(scenario).count(), 2);
}
