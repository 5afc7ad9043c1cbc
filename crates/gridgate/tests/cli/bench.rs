//! `gridgate bench --install` against a daemon that says how installations went.

use gridgate_protocol::install_api::{InstallOutcome, InstallRecord, Method, Stage, StageRecord};
use gridgate_protocol::site_api::{ErrorKind, Event, InstallRequest, SiteSummary};
use serde_json::Value;

use crate::fake::{Answer, Fake, refusal, value};

fn done(millis: u64) -> Answer {
    Answer::Events(vec![Event::Done { status: None, millis, changed: true }])
}

fn stage(stage: Stage, start_ms: u64, millis: Option<u64>) -> StageRecord {
    StageRecord { stage, start_ms, millis, bytes: None, items: None }
}

fn record(number: u32) -> InstallRecord {
    InstallRecord {
        number,
        site: "dublin".into(),
        node: "wn2".into(),
        method: Method::Image,
        profile: String::new(),
        image: None,
        begun: "2026-11-25T08:00:00Z".into(),
        ended: None,
        outcome: InstallOutcome::Done,
        launches: 1,
        stages: vec![
            stage(Stage::Partition, 900, Some(20)),
            stage(Stage::Fetch, 920, Some(1_500)),
            stage(Stage::Services, 4_000, Some(700)),
        ],
        doing: String::new(),
        pieces: 0,
        disk: None,
        kernel: None,
        clock_off_s: None,
        last_line: None,
    }
}

/// A profile of two worker nodes and a file for it.
fn profile(fake: &Fake) -> String {
    let path = fake.home().join("site.toml");
    let text = "[site]\nname = \"dublin\"\ndomain = \"dublin.test\"\n[network]\nprefix = \"198.51.100.0/24\"\n\
                [nodes.wn]\nrole = \"base\"\ncount = 2\n";
    std::fs::write(&path, text).expect("a profile");
    path.display().to_string()
}

#[test]
fn installations_are_measured_stage_by_stage() {
    let fake = Fake::new();
    let profile = profile(&fake);
    fake.answer("GET /v1/sites", value(&Vec::<SiteSummary>::new()));
    fake.answer("POST /v1/sites/up", done(8_000));
    fake.answer("POST /v1/sites/dublin/nodes/wn2/install", done(5_000));
    let records = [record(1), record(2)];
    fake.answer("GET /v1/sites/dublin/nodes/wn2/installations", value(&records));
    let ran = fake.run(&[
        "--json",
        "bench",
        "--install",
        "image",
        "--node",
        "wn2",
        "--rounds",
        "2",
        &profile,
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let figures: Vec<Value> = serde_json::from_str(&ran.out).expect("figures");
    let medians: Vec<_> =
        figures.iter().map(|f| (f["name"].clone(), f["median"].clone())).collect();
    let expected = [
        ("up, before the installations", 8_000),
        ("wn2 by image: partition", 20),
        ("wn2 by image: fetch", 1_500),
        ("wn2 by image: services", 700),
        ("wn2 by image: launch to services", 3_800),
    ];
    assert_eq!(medians, expected.map(|(name, median)| (name.into(), median.into())));
    assert_eq!(figures[1]["values"].as_array().map(Vec::len), Some(2), "two rounds");
    let asked: Vec<InstallRequest> = fake
        .requests
        .try_iter()
        .filter_map(|request| {
            let body = request.strip_prefix("POST /v1/sites/dublin/nodes/wn2/install ")?;
            Some(serde_json::from_str(body).expect("a request"))
        })
        .collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|request| request.method == Some(Method::Image)));
}

#[test]
fn an_unknown_node_and_an_installation_that_fails_are_said() {
    let fake = Fake::new();
    let profile = profile(&fake);
    fake.answer("GET /v1/sites", value(&Vec::<SiteSummary>::new()));
    let ran = fake.run(&["bench", "--install", "image", "--node", "wn3", &profile]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("site dublin has no node wn3"), "{}", ran.err);
    assert!(ran.err.contains("its nodes are wn1, wn2"), "{}", ran.err);

    fake.answer("POST /v1/sites/up", done(8_000));
    let failure = refusal(409, ErrorKind::Node, "wn1 could not be installed");
    fake.answer("POST /v1/sites/dublin/nodes/wn1/install", failure);
    let ran = fake.run(&["bench", "--install", "packages", &profile]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("wn1 could not be installed"), "{}", ran.err);
}
