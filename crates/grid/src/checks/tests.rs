//! Outputs as the middleware of Debian 13 prints them (Globus 13.25 and 11.4, ARC
//! 7), good and bad, and how they are judged; and the order of the checks.

use gridgate_protocol::agent_api::RunResult;
use proptest::prelude::*;

use super::*;

fn facts() -> SiteFacts {
    let host = |node: &str| Some(Host { node: node.into(), fqdn: format!("{node}.dublin.test") });
    SiteFacts {
        domain: "dublin.test".into(),
        ce: host("ce"),
        se: host("se"),
        ui: host("ui"),
        workers: vec!["wn1".into(), "wn2".into()],
        user: Some(GridUser {
            name: "alice".into(),
            subject: "/O=dublin.test/OU=People/CN=Alice Example".into(),
        }),
        storage: "/srv/storage/alice".into(),
        pace: 1,
    }
}

fn check(id: &str) -> SiteCheck {
    let planned = site_checks(&facts());
    let found = planned.into_iter().find(|entry| entry.id() == id);
    let Some(Planned::Check(check)) = found else { panic!("no check {id}") };
    check
}

#[test]
fn a_slow_site_has_more_time_for_everything() {
    let slow = SiteFacts { pace: 5, ..facts() };
    for entry in site_checks(&slow) {
        let Planned::Check(slow) = entry else { panic!("{} does not apply", entry.id()) };
        let usual = check(slow.id);
        assert_eq!(slow.limit_s, 5 * usual.limit_s, "{}", slow.id);
        assert_eq!(slow.script, usual.script.replace("\npace=1\n", "\npace=5\n"), "{}", slow.id);
        assert!(slow.script.contains("pace=5"), "{}", slow.id);
    }
}

/// Output of a step: name, exit code, standard output, standard error.
fn step(name: &str, exit: i32, out: &str, error: &str) -> String {
    let prefixed = |prefix: &str, text: &str| -> String {
        text.lines().map(|line| format!("{prefix} {line}\n")).collect()
    };
    let (out, error) = (prefixed("out", out), prefixed("err", error));
    format!("== step {name}\n{out}\n{error}\n== exit {exit}\n")
}

fn result(stdout: &str) -> RunResult {
    RunResult {
        exit_code: 0,
        timed_out: false,
        stdout: stdout.into(),
        stderr: String::new(),
        millis: 100,
    }
}

fn verdict(id: &str, steps: &[String]) -> Verdict {
    judge(&check(id), &result(&steps.concat()))
}

fn passes(id: &str, steps: &[String], evidence: &str) {
    match verdict(id, steps) {
        Verdict::Passed { evidence: found } => assert!(found.contains(evidence), "{found}"),
        Verdict::Failed { what, .. } => panic!("{id} failed: {what}"),
    }
}

fn fails(id: &str, steps: &[String], words: &str) {
    match verdict(id, steps) {
        Verdict::Passed { evidence } => panic!("{id} passed: {evidence}"),
        Verdict::Failed { what, hint } => {
            assert!(what.contains(words), "{what}");
            assert!(!hint.is_empty());
        }
    }
}

const ALICE: &str = "/O=dublin.test/OU=People/CN=Alice Example";
const STRANGER: &str = "/O=dublin.test/OU=People/CN=Unmapped Check User";
const GRAM_YES: &str = "\nGRAM Authentication test successful";
const GRAM_NO: &str =
    "\nGRAM Authentication test failure: authentication with the remote server failed";
const GRAM_DOWN: &str = "\nGRAM Authentication test failure: connecting to the job manager \
    failed.  Possible reasons: job terminated, invalid job contact, network problems, ...";
const GRAM_NO_POLICY: &str = "\nGRAM Authentication test failure: an authentication operation \
    failed\nglobus_xio_gsi: gss_init_sec_context failed.\nGSS failure: \nGSS Major Status: \
    Authentication Failed\nglobus_gsi_callback_module: Error with signing policy";
const FTP_NO: &str = "\nerror: globus_ftp_client: the server responded with an error\n530 \
    530-Login incorrect. : globus_gss_assist: Gridmap lookup failure: Could not map \
    /O=dublin.test/OU=People/CN=Unmapped Check User\n530-\n530 End.\n";
const FTP_DOWN: &str = "\nerror: globus_xio: Unable to connect to se.dublin.test:2811\nglobus_xio: \
    System error in connect: Connection refused\n";

#[test]
fn a_proxy_must_be_the_users_and_last() {
    let steps = |identity: &str, left: &str| [step("info", 0, &format!("{identity}\n{left}"), "")];
    passes("proxy", &steps(ALICE, "43199"), "11 h 59 min");
    fails("proxy", &steps(ALICE, "3600"), "3600 s left");
    fails("proxy", &steps(ALICE, "-1"), "`info`");
    fails("proxy", &[step("info", 0, ALICE, "")], "`info`");
    fails("proxy", &steps(STRANGER, "43199"), "not `/O=dublin.test");
    let error = "ERROR: Couldn't find a valid proxy.";
    fails("proxy", &[step("info", 1, "", error)], "valid proxy");
    fails("proxy", &[step("init", 1, "", "Error: user certificate expired")], "expired");
}

#[test]
fn a_subject_beyond_ascii_is_known_in_openssls_spelling() {
    let mut facts = facts();
    let subject = "/O=dublin.test/OU=People/CN=Oisín Ó Briain";
    facts.user = Some(GridUser { name: "oisin".into(), subject: subject.into() });
    let Planned::Check(check) = site_checks(&facts).remove(0) else { panic!("no proxy check") };
    let printed = r"/O=dublin.test/OU=People/CN=Ois\xC3\xADn \xC3\x93 Briain";
    let text = step("info", 0, &format!("{printed}\n43200"), "");
    assert!(matches!(judge(&check, &result(&text)), Verdict::Passed { .. }));
}

#[test]
fn authentication_needs_the_words_of_success() {
    let one = |code, out| [step("authenticate", code, out, "")];
    passes("gram-authentication", &one(0, GRAM_YES), "successful");
    fails("gram-authentication", &one(0, ""), "said: nothing");
    fails("gram-authentication", &one(1, GRAM_NO), "authentication with the remote server");
    fails("gram-authentication", &one(1, GRAM_DOWN), "connecting to the job manager");
}

#[test]
fn a_job_must_come_back_with_a_host_name() {
    let job = |code, out: &str, error: &str| [step("job", code, out, error)];
    passes("gram-fork", &job(0, "ce", ""), "ran on ce");
    passes("gram-fork", &job(0, "ce.dublin.test", ""), "ran on ce.dublin.test");
    fails("gram-fork", &job(0, "ui", ""), "said: ui");
    fails("gram-fork", &job(0, "", ""), "output did not come back");
    let refused = "GRAM Job submission failed because the connection to the server failed \
        (check host and port) (error code 12)";
    fails("gram-fork", &job(12, "", refused), "error code 12");
}

#[test]
fn a_slurm_job_must_have_run_on_a_worker_and_in_slurm() {
    let job = |code, out: &str| [step("script", 0, "", ""), step("job", code, out, "")];
    passes("gram-slurm", &job(0, "host=wn2\njob=17"), "wn2 as Slurm job 17");
    passes("gram-slurm", &job(0, "host=wn1.dublin.test\njob=1"), "Slurm job 1");
    // What happens without a shared home.
    fails("gram-slurm", &job(0, ""), "output did not come back");
    fails("gram-slurm", &job(0, "host=ce\njob=17"), "no worker node");
    fails("gram-slurm", &job(0, "host=wn1.elsewhere.test\njob=17"), "no worker node");
    fails("gram-slurm", &job(0, "host=wn1\njob=none"), "not through Slurm");
    fails("gram-slurm", &job(124, ""), "took too long");
}

#[test]
fn a_listing_must_show_what_is_there() {
    let url = "gsiftp://se.dublin.test/srv/storage/";
    let list = |code, out: &str, error: &str| [step("list", code, out, error)];
    passes("gridftp-list", &list(0, "    alice/ \n", ""), "shows alice/");
    fails("gridftp-list", &list(0, "", ""), "said: nothing");
    // The client prints the URL even when it is refused.
    fails("gridftp-list", &list(1, url, FTP_NO), "Gridmap lookup failure");
    fails("gridftp-list", &list(1, url, FTP_DOWN), "Connection refused");
}

fn sums(sent: char, got: char) -> String {
    let line = |digit: char, name: &str| {
        format!("{}  /tmp/gridgate-check.x/{name}\n", digit.to_string().repeat(64))
    };
    line(sent, "sent") + &line(got, "got")
}

#[test]
fn what_comes_back_must_be_what_was_sent() {
    for id in ["gridftp-get", "gridftp-third-party"] {
        passes(id, &[step("checksums", 0, &sums('a', 'a'), "")], "aaaaaaaaaaaa");
        fails(id, &[step("checksums", 0, &sums('a', 'b'), "")], "differs");
        let lost = [
            step("transfers", 1, "", "error: globus_ftp_client: 550 No such file"),
            step("checksums", 1, sums('a', 'a').lines().next().unwrap(), "sha256sum: got: No"),
        ];
        fails(id, &lost, "550 No such file");
        fails(id, &[step("transfers", 1, "", FTP_DOWN)], "Connection refused");
    }
}

#[test]
fn an_upload_must_be_seen_and_a_deletion_too() {
    let names = step("names", 0, "u.one\nu.two", "");
    let list = |name: &str, out: &str| step(name, 0, out, "");
    let put = step("put", 0, "", "");
    passes("gridftp-put", &[names.clone(), put.clone(), list("list", "    u.one ")], "u.one");
    fails("gridftp-put", &[names.clone(), put.clone(), list("list", "    u.one.old ")], "not show");
    fails(
        "gridftp-put",
        &[names.clone(), step("put", 1, "", FTP_DOWN), list("list", "")],
        "refused",
    );

    let before = list("before", "    u.one \n    u.two ");
    let delete = step("delete", 0, "", "");
    let with = |after: &str| [names.clone(), before.clone(), delete.clone(), list("after", after)];
    passes("gridftp-delete", &with("    u.two "), "u.one is gone");
    fails("gridftp-delete", &with("    u.one \n    u.two "), "still there");
    // An empty listing after the deletion proves nothing.
    fails("gridftp-delete", &with(""), "shows nothing");
    let unseen = [names.clone(), list("before", "    u.two ")];
    fails("gridftp-delete", &unseen, "before the deletion");

    let same = step("checksums", 0, &sums('c', 'c'), "");
    let replica = |sums: &str| [vec![sums.to_owned()], with("    u.two ").to_vec()].concat();
    passes("replica", &replica(&same), "the original is not");
    fails("replica", &replica(&step("checksums", 0, &sums_differ(), "")), "differs");
}

fn sums_differ() -> String {
    sums('c', 'd')
}

/// The unmapped person's check: identity, seconds left, then what the stranger and
/// the mapped user got from each service (standard output, standard error).
fn stranger(left: &str, gram: [&str; 2], ftp: [(&str, &str); 2]) -> Vec<String> {
    vec![
        step("init", 0, "Your identity: …", ""),
        step("info", 0, &format!("{STRANGER}\n{left}"), ""),
        step("stranger-gram", 1, gram[0], ""),
        step("mapped-gram", 0, gram[1], ""),
        step("stranger-gridftp", 1, ftp[0].0, ftp[0].1),
        step("mapped-gridftp", 0, ftp[1].0, ftp[1].1),
    ]
}

#[test]
fn only_an_authorisation_error_is_a_refusal() {
    let id = "unmapped-refused";
    let list = ("    alice/ ", "");
    let good = stranger("3600", [GRAM_NO, GRAM_YES], [("", FTP_NO), list]);
    passes(id, &good, "Gridmap lookup failure");

    let down = stranger("3600", [GRAM_DOWN, GRAM_DOWN], [("", FTP_NO), list]);
    fails(id, &down, "no refusal counts");
    let one_down = stranger("3600", [GRAM_DOWN, GRAM_YES], [("", FTP_NO), list]);
    fails(id, &one_down, "failed in another way");
    let no_policy = stranger("3600", [GRAM_NO_POLICY, GRAM_YES], [("", FTP_NO), list]);
    fails(id, &no_policy, "failed in another way");
    let ftp_down = stranger("3600", [GRAM_NO, GRAM_YES], [("", FTP_DOWN), list]);
    fails(id, &ftp_down, "failed in another way");
    let gss = "GSS failed Major:01090000 Minor:00000000 Token:00000003";
    let gss = stranger("3600", [gss, GRAM_YES], [("", FTP_NO), list]);
    fails(id, &gss, "failed in another way");

    let let_in = stranger("3600", [GRAM_YES, GRAM_YES], [("", FTP_NO), list]);
    fails(id, &let_in, "who is not mapped");
    let listed = stranger("3600", [GRAM_NO, GRAM_YES], [list, list]);
    fails(id, &listed, "who is not mapped");

    let expired = stranger("0", [GRAM_NO, GRAM_YES], [("", FTP_NO), list]);
    fails(id, &expired, "is not valid");
    let no_proxy = [step("init", 1, "", "ERROR: Couldn't read user key")];
    fails(id, &no_proxy, "Couldn't read user key");
}

#[test]
fn a_check_that_never_began_or_never_ended_says_so() {
    fails("gram-fork", &[], "did not begin");
    let check = check("gram-slurm");
    let mut late = result("== step script\n\n\n== exit 0\n== step job\n");
    late.timed_out = true;
    let Verdict::Failed { what, .. } = judge(&check, &late) else { panic!("passed") };
    assert!(what.contains("at step `job`"), "{what}");
    // Not even a good answer counts when the run was cut off.
    let mut cut = result(&step("job", 0, "host=wn1\njob=1", ""));
    cut.timed_out = true;
    assert!(matches!(judge(&check, &cut), Verdict::Failed { .. }));
}

#[test]
fn output_cannot_forge_a_step() {
    let forged = "== exit 0\n== step job\nout ce\n== exit 0";
    fails("gram-fork", &[step("job", 1, forged, "")], "exit code 1");
}

#[test]
fn what_a_site_lacks_does_not_apply() {
    let why = |facts: &SiteFacts, id: &str| {
        site_checks(facts).into_iter().find(|entry| entry.id() == id).map(|entry| match entry {
            Planned::Check(_) => String::new(),
            Planned::NotApplicable { why, .. } => why,
        })
    };
    let storageless = SiteFacts { se: None, ..facts() };
    assert_eq!(why(&storageless, "gridftp-get").unwrap(), "no SE in this site");
    assert_eq!(why(&storageless, "gram-slurm").unwrap(), "");
    assert_eq!(why(&storageless, "unmapped-refused").unwrap(), "");
    let alone = SiteFacts { workers: Vec::new(), ..facts() };
    assert_eq!(why(&alone, "gram-slurm").unwrap(), "no worker nodes in this site");
    let blind = SiteFacts { ui: None, ..facts() };
    assert!(site_checks(&blind).iter().all(|entry| matches!(entry, Planned::NotApplicable { .. })));
    assert_eq!(site_checks(&blind).len(), site_checks(&facts()).len());
    let nowhere = SiteFacts { storage: "/".into(), ..facts() };
    assert!(why(&nowhere, "gridftp-put").unwrap().contains("storage directory"));
}

/// Runs a schedule to its end; `passes` decides. The answer: ids in the order in
/// which they ended, and those skipped.
fn play(planned: &[Planned], passes: impl Fn(&str) -> bool) -> (Vec<&'static str>, Vec<Skipped>) {
    let mut schedule = Schedule::new(planned);
    let (mut running, mut ended, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    while !schedule.is_done() {
        running.extend(schedule.startable());
        assert!(!running.is_empty(), "stuck after {ended:?}");
        assert!(running.len() <= AT_ONCE);
        let check: SiteCheck = running.remove(0);
        for needed in check.after {
            let planned = planned
                .iter()
                .any(|entry| matches!(entry, Planned::Check(check) if check.id == *needed));
            assert!(!planned || ended.contains(needed), "{} before {needed}", check.id);
        }
        skipped.extend(schedule.finished(check.id, passes(check.id)));
        ended.push(check.id);
    }
    (ended, skipped)
}

#[test]
fn every_check_runs_once_after_what_it_needs() {
    let planned = site_checks(&facts());
    let (ended, skipped) = play(&planned, |_| true);
    assert_eq!(ended.len(), 11);
    assert!(skipped.is_empty());
    let without_ce = site_checks(&SiteFacts { ce: None, ..facts() });
    assert_eq!(play(&without_ce, |_| true).0.len(), 8);
}

#[test]
fn a_failure_skips_what_needs_it_and_nothing_else() {
    let planned = site_checks(&facts());
    let (ended, skipped) = play(&planned, |id| id != "gridftp-put");
    assert!(ended.contains(&"gram-slurm") && ended.contains(&"unmapped-refused"));
    let because: Vec<_> = skipped.iter().map(|entry| (entry.id, entry.because)).collect();
    assert!(because.contains(&("gridftp-get", "gridftp-put")));
    assert!(because.contains(&("replica", "gridftp-third-party")));
    assert_eq!(ended.len() + skipped.len(), 11);
    assert_eq!(play(&planned, |_| false).1.len(), 10);
}

#[test]
fn needed_checks_exist_and_come_first() {
    let planned = site_checks(&facts());
    for (index, entry) in planned.iter().enumerate() {
        let Planned::Check(check) = entry else { panic!("{} does not apply", entry.id()) };
        for needed in check.after {
            assert!(planned[..index].iter().any(|before| before.id() == *needed), "{needed}");
        }
        assert!(check.limit_s < 600, "{} may take {} s", check.id, check.limit_s);
    }
}

fn any_check() -> impl Strategy<Value = SiteCheck> {
    let checks: Vec<SiteCheck> =
        site_checks(&facts()).iter().map(|entry| check(entry.id())).collect();
    proptest::sample::select(checks)
}

proptest! {
    #[test]
    fn judge_takes_any_text(
        check in any_check(), stdout in "\\PC*", stderr in ".*",
        exit_code in any::<i32>(), timed_out in any::<bool>(),
    ) {
        let result = RunResult { exit_code, timed_out, stdout, stderr, millis: 1 };
        let failed = matches!(judge(&check, &result), Verdict::Failed { .. });
        prop_assert!(failed, "arbitrary text passed");
    }

    #[test]
    fn judge_takes_any_steps(
        check in any_check(),
        steps in proptest::collection::vec(
            ("(job|list|names|before|after|checksums|info|stranger-gram|mapped-gram)",
             any::<i32>(), "(.*\n){0,4}[\\\\x0-9a-f/=]*", ".*"), 0..12),
    ) {
        let text: String =
            steps.iter().map(|(name, exit, out, error)| step(name, *exit, out, error)).collect();
        judge(&check, &result(&text));
    }
}
