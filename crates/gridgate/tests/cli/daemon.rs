//! The real binary against a daemon that says what each story needs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::fake::{Answer, Fake, Ran, error, refusal, value};
use gridgate_protocol::agent_api::RunResult;
use gridgate_protocol::site_api::{
    Access, CheckOutcome, CheckResult, DaemonInfo, ErrorKind, Event, NodeState, NodeStatus,
    SiteStatus, SiteSummary, UpRequest,
};

fn node(name: &str, role: &str) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        fqdn: format!("{name}.dublin.test"),
        role: role.into(),
        address: [198, 51, 100, 10].into(),
        vmm: "uml".into(),
        state: NodeState::Running,
        detail: String::new(),
        published: Some("3f2a9c0d11223344".into()),
        applied: Some("3f2a9c0d11223344".into()),
        uptime_ms: Some(9_000),
        ready_ms: Some(5_700),
        first_word_ms: None,
        memory_used: Some(84 << 20),
        memory: 256 << 20,
        host_memory: None,
        shim_memory: None,
        cpu_ms: None,
        disk_used: None,
        disk: 4 << 30,
        health: Vec::new(),
        failures: Vec::new(),
        last_line: None,
        published_ports: Vec::new(),
        staying: Default::default(),
    }
}

fn status(task: Option<&str>) -> SiteStatus {
    SiteStatus {
        site: "dublin".into(),
        domain: "dublin.test".into(),
        profile: "/x/site.toml".into(),
        task: task.map(str::to_owned),
        nodes: vec![node("ce", "ce"), node("ui", "ui")],
        checks: None,
    }
}

fn summary(site: &str) -> SiteSummary {
    SiteSummary { site: site.into(), profile: "/x/site.toml".into(), nodes: 2, running: 2 }
}

fn started(stage: &str) -> Event {
    Event::Started { subject: "ce".into(), stage: stage.into(), detail: String::new() }
}

fn done(changed: bool) -> Event {
    Event::Done { status: Some(status(None)), millis: 8_200, changed }
}

fn check(outcome: CheckOutcome) -> Event {
    Event::Check(CheckResult { id: "job".into(), title: "GRAM job".into(), outcome, millis: 1_400 })
}

/// A profile with a component of its own, in the fake daemon's home.
fn profile(fake: &Fake) -> String {
    let folder = fake.home().join("profile");
    std::fs::create_dir_all(folder.join("components/motd")).expect("folders");
    std::fs::write(folder.join("site.toml"), "[site]\nname = \"dublin\"\n").expect("a profile");
    std::fs::write(folder.join("components/motd/component.toml"), "# motd\n").expect("a component");
    folder.join("site.toml").display().to_string()
}

#[test]
fn up_shows_what_happens_and_how_the_site_is() {
    let fake = Fake::new();
    let passed = CheckOutcome::Passed { evidence: "ran on ce.dublin.test".into() };
    fake.answer(
        "POST /v1/sites/up",
        Answer::Events(vec![started("boot"), check(passed), done(true)]),
    );

    let ran = fake
        .command(&["up", &profile(&fake), "--mirror", "http://mirror.test/debian"])
        .env("HTTP_PROXY", "http://proxy.test:3128")
        .output();
    let ran = Ran::of(ran.expect("gridgate runs"));

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("ce     boot"), "{}", ran.out);
    assert!(ran.out.contains("NAME  ROLE"), "{}", ran.out);
    assert!(ran.out.contains("ran on ce.dublin.test"), "{}", ran.out);
    assert!(ran.out.contains("site dublin is up, after 8.2 s; checks: 1 passed"), "{}", ran.out);
    assert!(ran.out.contains("gridgate ssh ui"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "no escape codes without a terminal");
    let request = fake.requests.iter().find(|request| request.starts_with("POST")).expect("asked");
    let json = request.trim_start_matches("POST /v1/sites/up ");
    let request: UpRequest = serde_json::from_str(json).expect("an up request");
    assert_eq!(request.source.text, "[site]\nname = \"dublin\"\n");
    assert_eq!(request.source.components["motd"]["component.toml"], "# motd\n");
    assert_eq!(request.mirror.as_deref(), Some("http://mirror.test/debian"));
    assert_eq!(request.environment["http_proxy"], "http://proxy.test:3128");
    assert!(request.check && !request.plan_only);
}

#[test]
fn up_without_a_change_says_so() {
    let fake = Fake::new();
    fake.answer("POST /v1/sites/up", Answer::Events(vec![done(false)]));
    let ran = fake.run(&["up", &profile(&fake)]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("nothing to do, 8.2 s"), "{}", ran.out);
    assert!(!ran.out.contains("Try next"), "{}", ran.out);
}

#[test]
fn events_as_json_are_the_daemons_own() {
    let fake = Fake::new();
    let events = vec![started("boot"), done(true)];
    fake.answer("POST /v1/sites/up", Answer::Events(events.clone()));
    let ran = fake.run(&["up", "--json", &profile(&fake)]);
    let seen: Vec<Event> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    assert_eq!(seen, events);
}

#[test]
fn a_failed_task_is_told_once() {
    let fake = Fake::new();
    let failure = error(ErrorKind::Node, "ce did not come up");
    let stage =
        Event::StageFailed { subject: "ce".into(), stage: "boot".into(), error: failure.clone() };
    fake.answer("POST /v1/sites/up", Answer::Events(vec![stage, Event::Failed(failure.clone())]));
    let ran = fake.run(&["up", &profile(&fake)]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(
        format!("{}{}", ran.out, ran.err).matches("ce did not come up").count(),
        1,
        "{ran:?}"
    );

    fake.answer("POST /v1/sites/up", Answer::Events(vec![Event::Failed(failure)]));
    let ran = fake.run(&["up", &profile(&fake)]);
    assert_eq!((ran.code, ran.err.as_str()), (4, "error: ce did not come up\n"));
}

#[test]
fn a_failed_check_gives_code_five() {
    let fake = Fake::new();
    fake.answer("GET /v1/sites", value(&[summary("dublin")]));
    let failed = CheckOutcome::Failed { what: "no output".into(), hint: "gridgate logs ce".into() };
    let events = vec![check(failed), Event::Failed(error(ErrorKind::Check, "1 check failed"))];
    fake.answer("POST /v1/sites/dublin/check", Answer::Events(events));
    let ran = fake.run(&["check"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.out.contains("✗  GRAM job  1.4 s  no output"), "{}", ran.out);
    assert!(ran.out.contains("hint: gridgate logs ce"), "{}", ran.out);
    assert_eq!(ran.err, "error: 1 check failed\n");
}

#[test]
fn ctrl_c_leaves_the_task_and_says_how_to_come_back() {
    let fake = Fake::new();
    fake.answer("POST /v1/sites/up", Answer::Open(vec![started("boot")]));
    let mut child = fake.command(&["up", &profile(&fake)]).spawn().expect("gridgate runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("the first event");
    assert!(line.contains("boot"), "{line}");

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("its last words");

    assert_eq!(child.wait().expect("its end").code(), Some(130));
    assert!(err.contains("the daemon goes on with up"), "{err}");
    assert!(err.contains("watch again:  gridgate up"), "{err}");
}

#[test]
fn a_daemon_that_breaks_off_is_no_success() {
    let fake = Fake::new();
    fake.answer("POST /v1/sites/up", Answer::Events(vec![started("boot")]));
    let ran = fake.run(&["up", &profile(&fake)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("the daemon went away during up"), "{}", ran.err);
}

#[test]
fn several_sites_want_a_name() {
    let fake = Fake::new();
    fake.answer("GET /v1/sites", value(&[summary("cork"), summary("dublin")]));
    let ran = fake.run(&["status"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cork, dublin"), "{}", ran.err);

    fake.answer("GET /v1/sites/cork", value(&status(None)));
    let ran = fake.run(&["status", "--site", "cork", "--json"]);
    let seen: SiteStatus = serde_json::from_str(&ran.out).expect("a status");
    assert_eq!(seen, status(None));
}

#[test]
fn a_refusal_gives_its_kinds_code() {
    let fake = Fake::new();
    let refused = refusal(409, ErrorKind::Busy, "dublin is busy with `up`");
    fake.answer("POST /v1/sites/dublin/down", refused);
    let ran = fake.run(&["down", "--site", "dublin"]);
    assert_eq!((ran.code, ran.err.as_str()), (7, "error: dublin is busy with `up`\n"));

    let ran = fake.run(&["down", "--site", "dublin", "--json"]);
    assert!(ran.err.starts_with("{\"error\":{\"kind\":\"busy\""), "{}", ran.err);
}

#[test]
fn exec_gives_output_and_code_of_the_command() {
    let fake = Fake::new();
    let result = RunResult {
        exit_code: 7,
        timed_out: false,
        stdout: "out\n".into(),
        stderr: "err\n".into(),
        millis: 3,
    };
    fake.answer("POST /v1/sites/dublin/nodes/ce/run", value(&result));
    let ran = fake.run(&["exec", "ce", "--site", "dublin", "--", "echo", "a b"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "out\n", "err\n"));
    let asked = fake.requests.iter().find(|request| request.starts_with("POST")).expect("asked");
    assert!(asked.contains(r#""script":"echo 'a b'""#), "{asked}");
}

#[test]
fn logs_of_a_silent_node_are_its_console() {
    let fake = Fake::new();
    let silent = refusal(500, ErrorKind::Node, "ce has not spoken for 40 s");
    fake.answer("POST /v1/sites/dublin/nodes/ce/run", silent);
    let access = Access {
        namespace: "/run/netns/none".into(),
        address: [198, 51, 100, 10].into(),
        fqdn: "ce.dublin.test".into(),
        key: "/k".into(),
        known_hosts: "/h".into(),
        run_dir: fake.home().to_owned(),
        tools: None,
    };
    fake.answer("GET /v1/sites/dublin/nodes/ce/access", value(&access));
    std::fs::write(fake.home().join("console.log"), "booting\npanic\n").expect("a console log");
    let ran = fake.run(&["logs", "ce", "--site", "dublin", "-n", "1"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "panic\n"));
    assert!(ran.err.contains("ce has not spoken for 40 s"), "{}", ran.err);
}

#[test]
fn a_busy_daemon_of_another_build_is_used() {
    let fake = Fake::of(&DaemonInfo {
        version: "0".into(),
        build: "another".into(),
        pid: std::process::id(),
        home: "/".into(),
    });
    fake.answer("GET /v1/sites", value(&[summary("dublin")]));
    fake.answer("GET /v1/sites/dublin", value(&status(Some("up"))));
    let ran = fake.run(&["list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("busy with up of dublin"), "{}", ran.err);
    assert!(ran.out.contains("2 of 2"), "{}", ran.out);
}

#[test]
fn daemon_stop_waits_for_its_end() {
    // Stands for the daemon's process: it ends by the signal that the fake sends when it is told to stop.
    let mut process =
        Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("a process");
    let fake = Fake::of(&DaemonInfo {
        version: "0".into(),
        build: "another".into(),
        pid: process.id(),
        home: "/".into(),
    });
    fake.answer("POST /v1/daemon/stop", Answer::EndProcess(process.id()));
    let ran = fake.run(&["daemon", "stop"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(process.try_wait().expect("its state").is_some(), "it has ended before the answer");
}

#[test]
fn destroy_does_not_guess() {
    let fake = Fake::new();
    let ran = fake.run(&["destroy", "--site", "dublin"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("--yes"), "{}", ran.err);
    assert!(fake.requests.try_recv().is_err(), "nothing was asked of the daemon");
}
