//! Golden texts of everything that is shown, from fixed inputs.

use std::time::Duration;

use gridgate_protocol::agent_api::{HealthReport, Outcome, ResourceReport};
use gridgate_protocol::site_api::{
    ApiError, CheckOutcome, CheckResult, ErrorKind, Event, NodeState, NodeStatus, Plan, PlanAction,
    PlanStep, SiteStatus,
};
use insta::assert_snapshot;

use super::plain::Plain;
use super::{Style, checks, error, nodes, plan};

const PLAIN: Style = Style::new(false);
const COLOUR: Style = Style::new(true);

fn node(name: &str, role: &str, last: u8, state: NodeState) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        fqdn: format!("{name}.dublin.test"),
        role: role.into(),
        address: [198, 51, 100, last].into(),
        vmm: "uml".into(),
        state,
        detail: String::new(),
        published: Some("3f2a9c0d11223344".into()),
        applied: Some("3f2a9c0d11223344".into()),
        uptime_ms: Some(61_000),
        ready_ms: Some(5_730),
        first_word_ms: None,
        memory_used: Some(84 << 20),
        memory: 256 << 20,
        host_memory: Some(179 << 20),
        shim_memory: Some(1 << 20),
        cpu_ms: Some(4_200),
        disk_used: Some(700 << 20),
        disk: 4 << 30,
        health: Vec::new(),
        failures: Vec::new(),
        last_line: Some("[  OK  ] Started slurmctld".into()),
        published_ports: Vec::new(),
        staying: Default::default(),
    }
}

fn site() -> SiteStatus {
    let mut ce = node("ce", "ce", 10, NodeState::Running);
    ce.published_ports = vec!["127.0.0.1:2119 -> 2119".into()];
    let mut se = node("se", "se", 11, NodeState::Degraded);
    se.detail = "port 2811 stopped answering 12 s ago".into();
    se.health = vec![HealthReport {
        name: "gridftp".into(),
        ok: false,
        detail: "port 2811 not open".into(),
        since_ms: Some(5_000),
    }];
    let mut ui = node("ui", "ui", 12, NodeState::Failed);
    ui.applied = Some("aaaabbbbccccdddd".into());
    ui.failures = vec![ResourceReport {
        kind: "unit".into(),
        name: "munge.service".into(),
        component: "munge".into(),
        outcome: Outcome::Failed("exited with 1\nkey is too short".into()),
        millis: 120,
    }];
    let mut wn = node("wn1", "wn", 20, NodeState::Booting);
    (wn.applied, wn.ready_ms, wn.memory_used) = (None, None, None);
    wn.last_line = Some("\u{1b}[32mbooting\u{1b}[0m\u{7}".into());
    let mut gone = node("wn2", "wn", 21, NodeState::Absent);
    (gone.applied, gone.published, gone.ready_ms) = (None, None, None);
    (gone.uptime_ms, gone.memory_used, gone.host_memory) = (None, None, None);
    SiteStatus {
        site: "dublin".into(),
        domain: "dublin.test".into(),
        profile: "/srv/dublin/site.toml".into(),
        task: Some("up".into()),
        nodes: vec![ce, se, ui, wn, gone],
        checks: None,
    }
}

fn check(title: &str, outcome: CheckOutcome, millis: u64) -> CheckResult {
    CheckResult { id: title.to_lowercase(), title: title.into(), outcome, millis }
}

fn results() -> Vec<CheckResult> {
    vec![
        check("Proxy", CheckOutcome::Passed { evidence: "subject /O=dublin.test".into() }, 97),
        check(
            "GRAM job",
            CheckOutcome::Failed {
                what: "expected wn1.dublin.test, saw nothing\nGRAM said: done".into(),
                hint: "gridgate logs ce globus-gatekeeper.service".into(),
            },
            4_112,
        ),
        check("GRAM files", CheckOutcome::Skipped { because: "GRAM job".into() }, 0),
        check("Third party", CheckOutcome::NotApplicable { why: "one SE only".into() }, 0),
    ]
}

fn failure() -> ApiError {
    ApiError {
        kind: ErrorKind::Node,
        what: "wn1 did not come up".into(),
        why: vec!["its kernel panicked".into(), "no init found".into()],
        hint: Some("gridgate console wn1 --no-follow".into()),
        faults: None,
        faults_json: None,
    }
}

#[test]
fn a_site_with_troubles() {
    assert_snapshot!(nodes::site(&site(), PLAIN));
}

#[test]
fn nodes_in_colour() {
    assert_snapshot!(nodes::table(&site().nodes, COLOUR).replace('\u{1b}', "ESC"));
}

#[test]
fn the_hosts_share() {
    assert_eq!(
        nodes::host_use(&site().nodes),
        "4 machines, 716 MiB of host memory, 3.4 GiB on disk"
    );
}

#[test]
fn site_checks() {
    assert_snapshot!(checks::table(&results(), PLAIN));
    assert_eq!(checks::summary(&results()), "1 passed, 1 failed, 1 skipped");
}

fn step(node: &str, action: PlanAction, reason: &str) -> PlanStep {
    PlanStep { node: node.into(), action, reason: reason.into() }
}

fn a_plan() -> Plan {
    Plan {
        steps: vec![
            step("", PlanAction::Network, "no namespace"),
            step("ce", PlanAction::Restart, "memory 200 MiB → 256 MiB"),
            step("wn3", PlanAction::CreateDisk, "no disk"),
            step("wn9", PlanAction::Remove, "not in the profile"),
        ],
    }
}

#[test]
fn plans() {
    assert_snapshot!(plan::table(&a_plan(), PLAIN));
    assert_eq!(plan::table(&Plan::default(), PLAIN), "nothing to do\n");
}

#[test]
fn an_error_with_everything() {
    let mut error = failure();
    error.faults = Some("site.toml:3:1 nodes.ce.memry: unknown key".into());
    assert_snapshot!(error::render(&error, PLAIN));
}

/// The events of a task, each with the second at which it comes.
fn story() -> Vec<(f64, Event)> {
    let started = |subject: &str, stage: &str, detail: &str| Event::Started {
        subject: subject.into(),
        stage: stage.into(),
        detail: detail.into(),
    };
    let progress = |done| Event::Progress {
        subject: "ce".into(),
        stage: "image".into(),
        done,
        total: 266,
        unit: "packages".into(),
    };
    let waiting = |what: &str| Event::Waiting {
        subject: "ce".into(),
        stage: "boot".into(),
        what: what.into(),
        last_line: Some("\u{1b}[1mReached target\u{1b}[0m basic.target".into()),
    };
    let finished = |stage: &str, millis, detail: &str| Event::Finished {
        subject: "ce".into(),
        stage: stage.into(),
        millis,
        detail: detail.into(),
    };
    vec![
        (0.0, Event::Joined { task: "up".into() }),
        (0.1, Event::Plan(a_plan())),
        (0.2, started("ce", "image", "role ce")),
        (1.0, progress(10)),
        (5.3, progress(120)),
        (5.4, progress(121)),
        (9.9, progress(266)),
        (10.0, finished("image", 9_800, "266 packages, 306 MiB")),
        (10.1, started("ce", "boot", "")),
        (11.0, waiting("the agent's first report")),
        (12.0, waiting("the agent's first report")),
        (16.1, waiting("the agent's first report")),
        (16.2, waiting("slurmctld.service")),
        (17.0, finished("boot", 6_900, "")),
        (17.1, Event::Warning { text: "the clock of this host is not kept right".into() }),
        (
            17.2,
            Event::StageFailed { subject: "wn1".into(), stage: "boot".into(), error: failure() },
        ),
        (18.0, Event::Check(results().remove(0))),
        (18.1, Event::Failed(failure())),
    ]
}

#[test]
fn a_task_as_plain_lines() {
    let mut plain = Plain::new(PLAIN);
    let lines: String =
        story().iter().map(|(at, event)| plain.text(Duration::from_secs_f64(*at), event)).collect();
    assert_snapshot!(lines);
    assert!(plain.was_shown(&failure()), "the task's error need not be shown again");
    assert!(!lines.contains('\u{1b}'), "no escape codes");
}
