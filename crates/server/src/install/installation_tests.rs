//! Tokens, sessions and records, over restarts of the daemon.

use gridgate_protocol::agent_api::{PackageList, PublishedProfile};
use gridgate_protocol::install_api::{DiskOrder, InstallFailure, Method, Resume};
use gridgate_protocol::node_profile::NodeProfile;

use super::*;
use crate::home::Home;

const PROFILE: &str = r#"{"schema":1,"site":"dublin","domain":"dublin.test","node":"NODE","role":"ui",
 "address":"198.51.100.12","prefix_length":24,"mac":"02:00:00:00:00:01","server":"198.51.100.1","components":[],"packages":[],"groups":[],"users":[],
 "directories":[],"files":[],"links":[],"certificates":[],"commands":[],"units":[],"checks":[]}"#;

fn order(node: &str, number: u32) -> (Order, Installed, InstallRecord) {
    let text = PROFILE.replace("NODE", node);
    let profile: NodeProfile = serde_json::from_str(&text).unwrap();
    let version = profile.version();
    let record = InstallRecord {
        number,
        site: "dublin".into(),
        node: node.into(),
        method: Method::Image,
        profile: version.clone(),
        image: Some("aa".into()),
        begun: jiff::Timestamp::now().to_string(),
        ended: None,
        outcome: InstallOutcome::UnderWay,
        launches: 0,
        stages: Vec::new(),
        doing: String::new(),
        pieces: 0,
        disk: None,
        kernel: None,
        clock_off_s: None,
        last_line: None,
    };
    let order = Order {
        number,
        session: String::new(),
        method: Method::Image,
        disk: DiskOrder {
            seed: 1,
            swap: 0,
            data: Vec::new(),
            abandoned: Vec::new(),
            root_least: 1,
        },
        profile: PublishedProfile { version, profile, packages: None },
        base: Vec::new(),
        packages: Vec::new(),
        early: None,
        recipe: None,
        resume: None,
        clock: 0,
    };
    let list = PackageList { packages: Vec::new() };
    (order, Installed { names: Vec::new(), image: "aa".into(), list }, record)
}

fn begin(boot: &str) -> Begin {
    Begin {
        boot_id: boot.into(),
        kernel: "7.2".into(),
        disk: 4 << 30,
        partitions: Vec::new(),
        clock: jiff::Timestamp::now().as_second() - 40 * 365 * 86_400,
    }
}

fn stage(stage: Stage, start_ms: u64, end_ms: Option<u64>) -> StageReport {
    StageReport { stage, start_ms, end_ms, bytes: None, items: None }
}

fn progress(stages: Vec<StageReport>, pieces: u32) -> Progress {
    Progress { stages, doing: "writing".into(), pieces, failure: None }
}

struct Lab {
    _home: tempfile::TempDir,
    dir: SiteDir,
}

impl Lab {
    fn new() -> Lab {
        let home = tempfile::tempdir().unwrap();
        let dir = Home::new(home.path()).site("dublin");
        Lab { _home: home, dir }
    }

    /// As a new daemon sees them.
    fn load(&self) -> Installations {
        Installations::load(&self.dir)
    }

    fn open(&self, node: &str) -> (Installations, String) {
        let installations = self.load();
        let (order, installed, record) = order(node, 1);
        installations.open(order, installed, record).unwrap();
        let token = installations.new_token(node).unwrap();
        (installations, token)
    }
}

#[test]
fn a_one_time_token_is_spent_by_one_boot() {
    let lab = Lab::new();
    let (installations, token) = lab.open("ui");
    assert_eq!(token.len(), 64);
    assert_eq!(installations.begin("00", &begin("a")).unwrap_err(), Refused::Unknown);
    let first = installations.begin(&token, &begin("a")).unwrap();
    assert_eq!(installations.node_of(&first.session), Ok("ui".to_owned()));
    assert_eq!(installations.node_of(&token), Err(Refused::Unknown), "it is no session");
    let Err(Refused::Held(who)) = installations.begin(&token, &begin("b")) else { panic!() };
    assert!(who.contains("ui") && who.contains("boot a") && who.contains("since"), "{who}");
    // An answer was lost: the same boot asks again and gets another session; the lost one is worth nothing.
    let second = installations.begin(&token, &begin("a")).unwrap();
    assert_eq!(installations.node_of(&second.session), Ok("ui".to_owned()));
    assert_eq!(installations.node_of(&first.session), Err(Refused::Unknown));
    // Years off, and known to be.
    let off = installations.look("ui").unwrap().record.clock_off_s.unwrap();
    assert!((off + 40 * 365 * 86_400).abs() < 5, "{off}");
}

#[test]
fn only_hashes_of_tokens_are_on_disk_and_a_restart_of_the_daemon_changes_nothing() {
    let lab = Lab::new();
    let (installations, token) = lab.open("ui");
    let kept = |dir: &SiteDir| std::fs::read_to_string(dir.node("ui").installation()).unwrap();
    assert!(!kept(&lab.dir).contains(&token));
    drop(installations);
    let session = lab.load().begin(&token, &begin("a")).unwrap().session;
    assert!(!kept(&lab.dir).contains(&session) && !kept(&lab.dir).contains(&token));
    let again = lab.load();
    assert_eq!(again.node_of(&session), Ok("ui".to_owned()));
    again.done("ui", &progress(vec![stage(Stage::Start, 0, Some(5))], 0)).unwrap();
    assert_eq!(lab.load().look("ui").unwrap().phase, Phase::Installed);
    again.over("ui").unwrap();
    let look = lab.load().look("ui").unwrap();
    assert_eq!((look.phase, look.record.outcome), (Phase::Over, InstallOutcome::Done));
    assert_eq!(lab.load().node_of(&session), Err(Refused::Unknown));
}

#[test]
fn nodes_do_not_meet() {
    let lab = Lab::new();
    let (_, ui) = lab.open("ui");
    let (installations, ce) = lab.open("ce");
    let ui = installations.begin(&ui, &begin("a")).unwrap();
    let ce = installations.begin(&ce, &begin("a")).unwrap();
    assert_eq!(ui.profile.profile.node, "ui");
    assert_eq!(ce.profile.profile.node, "ce");
    assert_eq!(installations.node_of(&ce.session), Ok("ce".to_owned()));
}

#[test]
fn a_killed_machine_goes_on_at_its_first_unfinished_stage() {
    let lab = Lab::new();
    let (installations, token) = lab.open("ui");
    let first = installations.begin(&token, &begin("a")).unwrap();
    assert_eq!(first.resume, None);
    let done = |s, start, end| stage(s, start, Some(end));
    let mut stages = vec![done(Stage::Start, 0, 900), done(Stage::Partition, 900, 950)];
    installations.progress("ui", &progress(stages.clone(), 0), None);
    stages.push(done(Stage::FileSystems, 950, 1000));
    stages.push(stage(Stage::Fetch, 1000, None));
    installations.progress("ui", &progress(stages, 17), Some("a line".into()));
    let second = lab.load();
    let token = second.new_token("ui").unwrap();
    assert_eq!(second.node_of(&first.session), Err(Refused::GivenUp));
    let order = second.begin(&token, &begin("b")).unwrap();
    assert_eq!(order.resume, Some(Resume { stage: Stage::Fetch, pieces: 17 }));
    let record = second.look("ui").unwrap().record;
    assert_eq!(record.launches, 2);
    assert_eq!(record.last_line.as_deref(), Some("a line"));
    // Each launch tells its own stages; one that was killed at once takes nothing from what is on the disk.
    let now = jiff::Timestamp::now();
    second.note("ui", |record| record::start(record, Stage::Start, now)).unwrap();
    let record = second.look("ui").unwrap().record;
    assert_eq!(record.stages.iter().map(|s| s.stage).collect::<Vec<_>>(), [Stage::Start]);
    let token = second.new_token("ui").unwrap();
    let again = second.begin(&token, &begin("c")).unwrap();
    assert_eq!(again.resume, order.resume);
}

#[test]
fn a_new_installation_gives_the_old_one_up() {
    let lab = Lab::new();
    let (installations, token) = lab.open("ui");
    let old = installations.begin(&token, &begin("a")).unwrap();
    let (order, installed, record) = order("ui", record::next(&lab.dir.node("ui")));
    assert_eq!(record.number, 2);
    installations.open(order, installed, record).unwrap();
    assert_eq!(installations.node_of(&old.session), Err(Refused::GivenUp));
    let records = record::all(&lab.dir.node("ui"));
    let InstallOutcome::Failed(why) = &records[0].outcome else { panic!("{records:?}") };
    assert!(why.what.contains("installation 2"), "{}", why.what);
    assert_eq!(records[1].outcome, InstallOutcome::UnderWay);
}

#[test]
fn a_failure_is_kept_with_what_failed() {
    let lab = Lab::new();
    let (installations, token) = lab.open("ui");
    installations.begin(&token, &begin("a")).unwrap();
    let failure = InstallFailure {
        stage: Stage::Configure,
        what: "its script ended with code 1".into(),
        package: Some("bad".into()),
        output: "no such user".into(),
        again: true,
    };
    let mut told = progress(vec![stage(Stage::Start, 0, Some(1))], 0);
    told.failure = Some(failure.clone());
    installations.progress("ui", &told, None);
    let record = lab.load().look("ui").unwrap().record;
    assert_eq!(record.outcome, InstallOutcome::Failed(failure));
    assert!(record.ended.is_some());
}
