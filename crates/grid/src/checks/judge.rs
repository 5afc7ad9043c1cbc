//! Reads what a check printed. Exit codes prove nothing here; they are only told.

use gridgate_protocol::agent_api::RunResult;

use super::expectation::{Claim, Service};
use super::transcript::{Step, Transcript};
use super::{Host, SiteCheck, Verdict};

/// Seconds that a fresh proxy must have left.
const LEAST_LEFT_S: u64 = 3600;

/// Most characters of output repeated in a verdict.
const LONGEST: usize = 400;

/// Why a transcript does not show what it should, in words.
type Finding = Result<String, String>;

/// What the output of a check shows.
pub fn judge(check: &SiteCheck, result: &RunResult) -> Verdict {
    let transcript = Transcript::read(&result.stdout);
    let claim = &check.expectation.claim;
    let finding = if result.timed_out {
        Err(no_end(&transcript, check.limit_s))
    } else if transcript.last().is_none() {
        Err(never_began(result))
    } else {
        find(claim, &transcript)
    };
    match finding {
        Ok(evidence) => Verdict::Passed { evidence: tidy(&evidence) },
        Err(what) => Verdict::Failed { what: tidy(&what), hint: check.expectation.hint.clone() },
    }
}

fn find(claim: &Claim, transcript: &Transcript) -> Finding {
    match claim {
        Claim::Proxy { identity } => proxy(transcript, identity),
        Claim::Authenticated => authenticated(step(transcript, "authenticate")?),
        Claim::RanOn { host } => ran_on(step(transcript, "job")?, host),
        Claim::RanOnWorker { workers, domain } => {
            ran_on_worker(step(transcript, "job")?, workers, domain)
        }
        Claim::Listed { url, entry } => listed(step(transcript, "list")?, url, entry),
        Claim::Put => put(transcript),
        Claim::SameContent { what } => {
            same_content(transcript).map(|sum| format!("{what}, with the same SHA-256 {sum}…"))
        }
        Claim::Deleted { what } => deleted(transcript, what),
        Claim::Replica => replica(transcript),
        Claim::Refused { identity, services } => refused(transcript, identity, services),
    }
}

/// A step that was begun; else what kept the script from getting there.
fn step<'a>(transcript: &'a Transcript, name: &str) -> Result<&'a Step, String> {
    transcript.step(name).ok_or_else(|| match transcript.last() {
        Some(last) => failed(last),
        None => "it printed nothing".to_owned(),
    })
}

/// How a step failed, in words.
fn failed(step: &Step) -> String {
    let Step { name, exit, .. } = step;
    let said = step.said();
    match exit {
        None => format!("step `{name}` did not end; it said: {said}"),
        Some(124 | 137) => format!("step `{name}` took too long; it said: {said}"),
        Some(code) => format!("step `{name}` said: {said} (exit code {code})"),
    }
}

fn no_end(transcript: &Transcript, limit_s: u32) -> String {
    match transcript.last() {
        Some(last) => format!(
            "no end within {limit_s} s; it was at step `{}`, which said: {}",
            last.name,
            last.said()
        ),
        None => format!("no end within {limit_s} s, and nothing was printed"),
    }
}

fn never_began(result: &RunResult) -> String {
    let error = result.stderr.trim();
    let error = if error.is_empty() { "nothing" } else { error };
    format!("the check did not begin; its shell said: {error} (exit code {})", result.exit_code)
}

fn proxy(transcript: &Transcript, identity: &str) -> Finding {
    let left = time_left(transcript, identity)?;
    if left <= LEAST_LEFT_S {
        return Err(format!(
            "the proxy has {left} s left; it should have more than {LEAST_LEFT_S}"
        ));
    }
    Ok(format!("{identity}, {} h {} min left", left / 3600, left / 60 % 60))
}

/// Seconds that a proxy has left, if it is this person's.
fn time_left(transcript: &Transcript, identity: &str) -> Result<u64, String> {
    let info = step(transcript, "info")?;
    match info.first_line() {
        Some(line) if unescaped(line) == identity.as_bytes() => {}
        Some(line) if line.starts_with('/') => {
            return Err(format!("the proxy is `{line}`, not `{identity}`"));
        }
        _ => return Err(failed(info)),
    }
    info.lines().nth(1).and_then(|line| line.parse().ok()).ok_or_else(|| failed(info))
}

/// The bytes of a subject as OpenSSL prints it: others than ASCII as `\xC3`.
fn unescaped(line: &str) -> Vec<u8> {
    let bytes = line.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 2..at + 4).filter(|_| bytes[at..].starts_with(b"\\x"));
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    plain
}

fn authenticated(step: &Step) -> Finding {
    let success = "GRAM Authentication test successful";
    if step.lines().any(|line| line == success) {
        Ok(success.to_owned())
    } else {
        Err(failed(step))
    }
}

fn ran_on(step: &Step, host: &Host) -> Finding {
    let names = [&host.fqdn, &host.node];
    match step.lines().find(|line| names.iter().any(|name| line.eq_ignore_ascii_case(name))) {
        Some(name) => Ok(format!("the job ran on {name}")),
        None => Err(wrong_job(step, &format!("the host name {}", host.fqdn))),
    }
}

fn ran_on_worker(step: &Step, workers: &[String], domain: &str) -> Finding {
    let value = |key: &str| step.lines().find_map(|line| line.strip_prefix(key));
    let (Some(host), Some(job)) = (value("host="), value("job=")) else {
        return Err(wrong_job(step, "a worker's host name and a Slurm job number"));
    };
    let of_domain = format!(".{domain}");
    let name = host.strip_suffix(&of_domain).unwrap_or(host);
    if !workers.iter().any(|worker| worker == name) {
        return Err(format!("the job ran on `{host}`, which is no worker node of this site"));
    }
    if job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the job ran on {host}, but not through Slurm: SLURM_JOB_ID is {job}"));
    }
    Ok(format!("the job ran on {host} as Slurm job {job}"))
}

fn wrong_job(step: &Step, wanted: &str) -> String {
    if step.exit == Some(0) && step.lines().next().is_none() {
        return format!(
            "the job is said to have ended well, but its output did not come back: {wanted} was \
             expected"
        );
    }
    format!("{wanted} was expected, but {}", failed(step))
}

fn listed(step: &Step, url: &str, entry: &str) -> Finding {
    if shows(step, entry) { Ok(format!("{url} shows {entry}")) } else { Err(failed(step)) }
}

/// The names of the files that the check uses.
fn names(transcript: &Transcript) -> Result<(&str, &str), String> {
    let names = step(transcript, "names")?;
    let mut lines = names.lines();
    match (lines.next(), lines.next()) {
        (Some(one), Some(two)) if one != two => Ok((one, two)),
        _ => Err(failed(names)),
    }
}

fn shows(listing: &Step, name: &str) -> bool {
    listing.lines().any(|line| line == name)
}

fn put(transcript: &Transcript) -> Finding {
    let (one, _) = names(transcript)?;
    let put = step(transcript, "put")?;
    let listing = step(transcript, "list")?;
    if shows(listing, one) {
        return Ok(format!("{one} is in the listing"));
    }
    if put.exit != Some(0) {
        return Err(failed(put));
    }
    Err(format!("the file was sent, but the listing does not show {one}: {}", listing.said()))
}

fn same_content(transcript: &Transcript) -> Finding {
    let sums = step(transcript, "checksums")?;
    let sum_of = |end: &str| {
        sums.lines().filter(|line| line.ends_with(end)).find_map(|line| {
            let sum = line.split_whitespace().next()?;
            let digits = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| sum.to_owned())
        })
    };
    match (sum_of("/sent"), sum_of("/got")) {
        (Some(sent), Some(got)) if sent == got => Ok(sent[..12].to_owned()),
        (Some(sent), Some(got)) => {
            Err(format!("what came back differs: SHA-256 {got} instead of {sent}"))
        }
        // Why it did not come back was said by the step that fetches it.
        (Some(_), None) => Err(transcript.step("transfers").map_or_else(|| failed(sums), failed)),
        (None, _) => Err(failed(sums)),
    }
}

fn deleted(transcript: &Transcript, what: &str) -> Finding {
    let (gone, stays) = names(transcript)?;
    let before = step(transcript, "before")?;
    if !shows(before, gone) || !shows(before, stays) {
        return Err(format!("{what} was not to be seen before the deletion: {}", before.said()));
    }
    let delete = step(transcript, "delete")?;
    let after = step(transcript, "after")?;
    if shows(after, gone) {
        return Err(format!("{what} is still there: {}", failed(delete)));
    }
    if !shows(after, stays) {
        return Err(format!("the listing afterwards shows nothing: {}", after.said()));
    }
    Ok(format!("{gone} is gone from the listing"))
}

fn replica(transcript: &Transcript) -> Finding {
    let sum = same_content(transcript)?;
    deleted(transcript, "the replica")?;
    Ok(format!("the replica had the original's SHA-256 {sum}…; it is gone and the original is not"))
}

fn refused(transcript: &Transcript, identity: &str, services: &[Service]) -> Finding {
    let left = time_left(transcript, identity)?;
    if left == 0 {
        return Err(format!("the proxy of {identity} is not valid, so no refusal would count"));
    }
    let mut evidence = Vec::new();
    for service in services {
        let stranger = step(transcript, service.stranger_step())?;
        let mapped = step(transcript, service.mapped_step())?;
        let name = service.name();
        if service.let_in(stranger) {
            return Err(format!("{name} let {identity} in, who is not mapped"));
        }
        if !service.let_in(mapped) {
            return Err(format!(
                "{name} did not let the mapped user in at the same time, so no refusal counts: {}",
                failed(mapped)
            ));
        }
        match service.refusal(stranger) {
            Some(words) => evidence.push(format!("{name}: {words}")),
            None => {
                return Err(format!(
                    "{name} did not refuse {identity}, it failed in another way: {}",
                    failed(stranger)
                ));
            }
        }
    }
    Ok(evidence.join("; "))
}

impl Service {
    fn name(&self) -> &'static str {
        match self {
            Service::Gram => "the gatekeeper",
            Service::GridFtp { .. } => "the GridFTP server",
        }
    }

    fn stranger_step(&self) -> &'static str {
        match self {
            Service::Gram => "stranger-gram",
            Service::GridFtp { .. } => "stranger-gridftp",
        }
    }

    fn mapped_step(&self) -> &'static str {
        match self {
            Service::Gram => "mapped-gram",
            Service::GridFtp { .. } => "mapped-gridftp",
        }
    }

    fn let_in(&self, step: &Step) -> bool {
        match self {
            Service::Gram => authenticated(step).is_ok(),
            Service::GridFtp { entry } => shows(step, entry),
        }
    }

    /// The words in which the service says that it knows who it is and will not
    /// serve them. A failed connection or handshake is not among them: the client
    /// words those otherwise, the handshake's with a "GSS Major Status".
    fn refusal(&self, step: &Step) -> Option<String> {
        let words = match self {
            // The gatekeeper's answer "403 Forbidden", as the client words it.
            Service::Gram => "authentication with the remote server failed",
            Service::GridFtp { .. } => "Gridmap lookup failure",
        };
        if step.says("GSS Major Status") {
            return None;
        }
        step.out
            .iter()
            .chain(&step.error)
            .find(|line| line.contains(words))
            .map(|line| line.trim().to_owned())
    }
}

/// One line for people: no control characters, not too long.
fn tidy(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    let cut: String = clean.chars().take(LONGEST).collect();
    format!("{cut}…")
}
