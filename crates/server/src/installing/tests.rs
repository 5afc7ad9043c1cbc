//! How the command is understood, by what was begun before.

use gridgate_protocol::install_api::{InstallRecord, Method};

use super::*;

fn look(phase: Phase, outcome: InstallOutcome) -> Look {
    Look {
        phase,
        record: InstallRecord {
            number: 1,
            site: "dublin".into(),
            node: "ui".into(),
            method: Method::Image,
            profile: "v".into(),
            image: None,
            begun: "2026-11-25T05:00:00Z".into(),
            ended: None,
            outcome,
            launches: 1,
            stages: Vec::new(),
            doing: String::new(),
            pieces: 0,
            disk: None,
            kernel: None,
            clock_off_s: None,
            last_line: None,
        },
        begun: true,
        silent_ms: 0,
    }
}

#[test]
fn the_same_command_joins_an_installer_that_runs() {
    let open = look(Phase::Open, InstallOutcome::UnderWay);
    assert_eq!(way("ui", Some(&open), true, false).unwrap(), Way::Join);
    assert_eq!(way("ui", Some(&open), true, true).unwrap(), Way::Join);
}

#[test]
fn resume_goes_on_and_without_it_all_begins_anew() {
    let open = look(Phase::Open, InstallOutcome::UnderWay);
    assert_eq!(way("ui", Some(&open), false, true).unwrap(), Way::Again);
    assert_eq!(way("ui", Some(&open), false, false).unwrap(), Way::New);
    let installed = look(Phase::Installed, InstallOutcome::UnderWay);
    assert_eq!(way("ui", Some(&installed), false, true).unwrap(), Way::Boot);
    assert_eq!(way("ui", Some(&installed), false, false).unwrap(), Way::New);
    assert_eq!(way("ui", None, false, false).unwrap(), Way::New);
}

#[test]
fn there_may_be_nothing_to_resume() {
    let over = look(Phase::Over, InstallOutcome::Done);
    for look in [None, Some(&over)] {
        let failure = way("ui", look, false, true).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::NotFound);
        assert!(failure.what.contains("ui"));
    }
    assert_eq!(way("ui", Some(&over), false, false).unwrap(), Way::New);
}
