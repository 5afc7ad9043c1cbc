//! The checks of a site: from facts to scripts.

use super::expectation::{Claim, Expectation, Service};
use super::operation::{FOLDER, authenticate, copy, delete, job, list, staged_job};
use super::script::Otherwise::{End, GoOn};
use super::script::{Script, quoted};
use super::{GridUser, Host, Planned, SiteCheck, SiteFacts};

/// Certificate on the UI whose subject stands in no grid-mapfile.
pub const UNMAPPED_CERTIFICATE: &str = "/var/lib/gridgate/check/unmappedcert.pem";

/// Its key, readable by the first grid user.
pub const UNMAPPED_KEY: &str = "/var/lib/gridgate/check/unmappedkey.pem";

/// Name that the unmapped certificate has as its `CN`.
pub const UNMAPPED_NAME: &str = "Unmapped Check User";

/// Limit of one operation, seconds. An operation takes well below one; this is
/// for nodes that are busy with something else.
const OPERATION: u32 = 30;

/// Limit of a job on the CE, seconds.
const JOB: u32 = 60;

/// Limit of a job through the batch system, seconds: it polls every ten.
const BATCH_JOB: u32 = 150;

/// A check before it is known whether the site has what it needs.
struct Draft {
    id: &'static str,
    title: &'static str,
    after: &'static [&'static str],
}

const PROXY: Draft = Draft { id: "proxy", title: "Proxy certificate", after: &[] };
const AUTHENTICATION: Draft = Draft {
    id: "gram-authentication",
    title: "Authentication with the gatekeeper",
    after: &["proxy"],
};
const FORK: Draft = Draft {
    id: "gram-fork",
    title: "Job on the computing element",
    after: &["gram-authentication"],
};
const SLURM: Draft = Draft {
    id: "gram-slurm",
    title: "Job on a worker node, through Slurm",
    after: &["gram-authentication"],
};
const LIST: Draft =
    Draft { id: "gridftp-list", title: "Listing of the storage", after: &["proxy"] };
const PUT: Draft = Draft { id: "gridftp-put", title: "Upload of a file", after: &["gridftp-list"] };
const GET: Draft =
    Draft { id: "gridftp-get", title: "Download of a file", after: &["gridftp-put"] };
const DELETE: Draft =
    Draft { id: "gridftp-delete", title: "Deletion of a file", after: &["gridftp-put"] };
const THIRD_PARTY: Draft = Draft {
    id: "gridftp-third-party",
    title: "Third-party copy on the storage element",
    after: &["gridftp-put"],
};
const REPLICA: Draft = Draft {
    id: "replica",
    title: "Replica of 1 MB, made and deleted",
    after: &["gridftp-third-party", "gridftp-delete"],
};
const UNMAPPED: Draft = Draft {
    id: "unmapped-refused",
    title: "Refusal of a person who is not mapped",
    after: &["gram-authentication", "gridftp-list"],
};

/// Every check, in the order in which they are shown. Those for which the site
/// lacks a role are there too, as [`Planned::NotApplicable`].
pub fn site_checks(facts: &SiteFacts) -> Vec<Planned> {
    let entry = |draft: Draft, made: Result<Part, &'static str>| {
        let origin = origin(facts);
        match (origin, made) {
            (Err(why), _) | (Ok(_), Err(why)) => Planned::NotApplicable {
                id: draft.id,
                title: draft.title.to_owned(),
                why: why.to_owned(),
            },
            (Ok((ui, user)), Ok(part)) => Planned::Check(part.check(&draft, ui, user)),
        }
    };
    let ce = facts.ce.as_ref().ok_or("no CE in this site");
    let se = facts.se.as_ref().ok_or("no SE in this site");
    let storage = se.and_then(|se| Storage::new(se, &facts.storage));
    vec![
        entry(PROXY, proxy(facts)),
        entry(AUTHENTICATION, ce.map(authentication)),
        entry(FORK, ce.map(fork)),
        entry(SLURM, ce.and_then(|ce| slurm(facts, ce))),
        entry(LIST, storage.map(listing)),
        entry(PUT, storage.map(put)),
        entry(GET, storage.map(get)),
        entry(DELETE, storage.map(deletion)),
        entry(THIRD_PARTY, storage.map(third_party)),
        entry(REPLICA, storage.map(replica)),
        entry(UNMAPPED, unmapped(facts, storage.ok())),
    ]
}

/// Where the checks run, and as whom.
fn origin(facts: &SiteFacts) -> Result<(&Host, &GridUser), &'static str> {
    let ui = facts.ui.as_ref().ok_or("no UI in this site")?;
    let user = facts.user.as_ref().ok_or("no grid user in this site")?;
    Ok((ui, user))
}

/// What a check does and what it must show.
struct Part {
    script: Script,
    claim: Claim,
    hint: String,
}

impl Part {
    fn check(self, draft: &Draft, ui: &Host, user: &GridUser) -> SiteCheck {
        let (script, limit_s) = self.script.build();
        SiteCheck {
            id: draft.id,
            title: draft.title.to_owned(),
            node: ui.node.clone(),
            user: user.name.clone(),
            script,
            limit_s,
            after: draft.after,
            expectation: Expectation { claim: self.claim, hint: self.hint },
        }
    }
}

/// The user's directory on the SE.
#[derive(Clone, Copy)]
struct Storage<'a> {
    se: &'a Host,
    /// The directory that it is in, with slashes at both ends.
    parent: &'a str,
    /// Its own name.
    name: &'a str,
}

impl<'a> Storage<'a> {
    fn new(se: &'a Host, path: &'a str) -> Result<Storage<'a>, &'static str> {
        let path = path.trim_end_matches('/');
        match path.rfind('/') {
            Some(slash) if path.starts_with('/') => {
                Ok(Storage { se, parent: &path[..=slash], name: &path[slash + 1..] })
            }
            _ => Err("the site names no storage directory below `/`"),
        }
    }

    fn parent_url(self) -> String {
        format!("gsiftp://{}{}", self.se.fqdn, self.parent)
    }

    /// How the parent's listing shows it.
    fn entry(self) -> String {
        format!("{}/", self.name)
    }

    /// Lists the parent: unlike the directory itself it always has an entry.
    fn list_parent(self) -> String {
        list(&quoted(&self.parent_url()), &quoted(&self.entry()))
    }

    fn url(self) -> String {
        format!("{}{}/", self.parent_url(), self.name)
    }

    /// A script in which `$storage` is the directory's URL and `$one` and `$two`
    /// are those of two files that are not there yet, and will not be at the end.
    fn script(self) -> Script {
        Script::new()
            .set(&format!("storage={}", quoted(&self.url())))
            .set("one=$storage$unique.one")
            .set("two=$storage$unique.two")
            .step("names", 5, "printf '%s\\n' \"$unique.one\" \"$unique.two\"", End)
    }

    fn hint(self) -> String {
        format!("gridgate exec {} -- tail /var/log/gridftp.log", self.se.node)
    }
}

/// A local file of random bytes, `$work/sent`.
fn random_file(script: Script, bytes: u32) -> Script {
    let command = format!("sh -c 'head -c {bytes} /dev/urandom >\"$1/sent\"' sh \"$work\"");
    script.step("random", 10, &command, End)
}

/// Lists what this run of the check has on the SE.
fn ours() -> String {
    list("\"$storage\"", "\"$unique\"")
}

fn checksums(script: Script) -> Script {
    script.step("checksums", 10, "sha256sum \"$work/sent\" \"$work/got\"", GoOn)
}

fn proxy(facts: &SiteFacts) -> Result<Part, &'static str> {
    let (ui, user) = origin(facts)?;
    // Made aside and moved, so that checks of another run never meet half a proxy.
    let script = Script::new()
        .set(&format!("folder=$HOME/{FOLDER}"))
        .set("new=$folder/.new-$unique")
        .step("folder", 10, "mkdir -p \"$folder\"", End)
        .step("private", 10, "chmod 0700 \"$folder\"", End)
        .step("init", OPERATION, "grid-proxy-init -valid 12:00 -out \"$new\"", End)
        .step("move", 10, "mv -f \"$new\" \"$X509_USER_PROXY\"", End)
        .step("identity", 10, "grid-proxy-info -file \"$X509_USER_PROXY\" -identity", GoOn)
        .step("left", 10, "grid-proxy-info -file \"$X509_USER_PROXY\" -timeleft", GoOn)
        .at_end(5, "rm -f \"$new\"");
    let claim = Claim::Proxy { identity: user.subject.clone() };
    let hint = format!("gridgate exec {} --user {} -- grid-proxy-init -debug", ui.node, user.name);
    Ok(Part { script, claim, hint })
}

fn gatekeeper_hint(ce: &Host) -> String {
    format!("gridgate logs {} globus-gatekeeper", ce.node)
}

fn authentication(ce: &Host) -> Part {
    let script = Script::new().step("authenticate", OPERATION, &authenticate(&ce.fqdn), GoOn);
    Part { script, claim: Claim::Authenticated, hint: gatekeeper_hint(ce) }
}

fn fork(ce: &Host) -> Part {
    // The job manager keeps a log of its own for each user.
    let hint = format!("{}; on {} /var/log/globus", gatekeeper_hint(ce), ce.node);
    let command = job(&ce.fqdn, "jobmanager-fork", "/bin/hostname");
    let script = Script::new().step("job", JOB, &command, GoOn);
    Part { script, claim: Claim::RanOn { host: ce.clone() }, hint }
}

fn slurm(facts: &SiteFacts, ce: &Host) -> Result<Part, &'static str> {
    if facts.workers.is_empty() {
        return Err("no worker nodes in this site");
    }
    // A script of ours rather than words on a command line, which pass through
    // three programs' ideas of quoting.
    let where_am_i = "#!/bin/sh\necho \"host=$(hostname)\"\necho \"job=${SLURM_JOB_ID:-none}\"\n";
    let write =
        format!("sh -c 'printf %s \"$2\" >\"$1\"' sh \"$work/where\" {}", quoted(where_am_i));
    let command = staged_job(&ce.fqdn, "jobmanager-slurm", "\"$work/where\"");
    let script =
        Script::new().step("script", 5, &write, End).step("job", BATCH_JOB, &command, GoOn);
    let claim = Claim::RanOnWorker { workers: facts.workers.clone(), domain: facts.domain.clone() };
    let hint = format!(
        "gridgate logs {} slurmctld; gridgate logs {} slurmd; whether /home is mounted on the \
         workers; on {} /var/log/globus",
        ce.node, facts.workers[0], ce.node
    );
    Ok(Part { script, claim, hint })
}

fn listing(storage: Storage<'_>) -> Part {
    let script = Script::new().step("list", OPERATION, &storage.list_parent(), GoOn);
    let claim = Claim::Listed { url: storage.parent_url(), entry: storage.entry() };
    Part { script, claim, hint: storage.hint() }
}

fn put(storage: Storage<'_>) -> Part {
    let script = random_file(storage.script(), 65536)
        .step("put", OPERATION, &copy("\"file://$work/sent\"", "\"$one\""), GoOn)
        .step("list", OPERATION, &ours(), GoOn)
        .at_end(OPERATION, &delete("\"$one\""));
    Part { script, claim: Claim::Put, hint: storage.hint() }
}

fn get(storage: Storage<'_>) -> Part {
    let script = random_file(storage.script(), 65536)
        .step("put", OPERATION, &copy("\"file://$work/sent\"", "\"$one\""), End)
        .step("get", OPERATION, &copy("\"$one\"", "\"file://$work/got\""), GoOn);
    let script = checksums(script).at_end(OPERATION, &delete("\"$one\""));
    Part { script, claim: Claim::SameContent { what: "downloaded" }, hint: storage.hint() }
}

fn deletion(storage: Storage<'_>) -> Part {
    // The second file shows that a listing without the first is a true one.
    let script = random_file(storage.script(), 1024)
        .step("put", OPERATION, &copy("\"file://$work/sent\"", "\"$one\""), End)
        .step("put-other", OPERATION, &copy("\"file://$work/sent\"", "\"$two\""), End)
        .step("before", OPERATION, &ours(), GoOn)
        .step("delete", OPERATION, &delete("\"$one\""), GoOn)
        .step("after", OPERATION, &ours(), GoOn)
        .at_end(OPERATION, &delete("\"$one\""))
        .at_end(OPERATION, &delete("\"$two\""));
    Part { script, claim: Claim::Deleted { what: "the file" }, hint: storage.hint() }
}

fn third_party(storage: Storage<'_>) -> Part {
    let script = random_file(storage.script(), 65536)
        .step("put", OPERATION, &copy("\"file://$work/sent\"", "\"$one\""), End)
        .step("copy", OPERATION, &copy("\"$one\"", "\"$two\""), End)
        .step("get", OPERATION, &copy("\"$two\"", "\"file://$work/got\""), GoOn);
    let script = checksums(script)
        .at_end(OPERATION, &delete("\"$one\""))
        .at_end(OPERATION, &delete("\"$two\""));
    let what = "copied on the SE and downloaded";
    Part { script, claim: Claim::SameContent { what }, hint: storage.hint() }
}

fn replica(storage: Storage<'_>) -> Part {
    // `$one` is the replica that is deleted, `$two` the original that stays.
    let script = random_file(storage.script(), 1_000_000)
        .step("put", OPERATION, &copy("\"file://$work/sent\"", "\"$two\""), End)
        .step("copy", OPERATION, &copy("\"$two\"", "\"$one\""), End)
        .step("get", OPERATION, &copy("\"$one\"", "\"file://$work/got\""), GoOn);
    let script = checksums(script)
        .step("before", OPERATION, &ours(), GoOn)
        .step("delete", OPERATION, &delete("\"$one\""), GoOn)
        .step("after", OPERATION, &ours(), GoOn)
        .at_end(OPERATION, &delete("\"$one\""))
        .at_end(OPERATION, &delete("\"$two\""));
    Part { script, claim: Claim::Replica, hint: storage.hint() }
}

fn unmapped(facts: &SiteFacts, storage: Option<Storage<'_>>) -> Result<Part, &'static str> {
    let ce = facts.ce.as_ref();
    if ce.is_none() && storage.is_none() {
        return Err("neither CE nor SE in this site");
    }
    let init = format!(
        "grid-proxy-init -cert {} -key {} -valid 1:00 -out \"$stranger\"",
        quoted(UNMAPPED_CERTIFICATE),
        quoted(UNMAPPED_KEY)
    );
    let mut script = Script::new()
        .set("stranger=$work/stranger")
        .step("init", OPERATION, &init, End)
        .step("identity", 10, "grid-proxy-info -file \"$stranger\" -identity", GoOn)
        .step("left", 10, "grid-proxy-info -file \"$stranger\" -timeleft", GoOn);
    let mut services = Vec::new();
    let mut hints = Vec::new();
    // Each refusal is followed by the mapped user's success: the service was up.
    let try_both = |script: Script, name: &str, command: &str| {
        let stranger = format!("env X509_USER_PROXY=\"$stranger\" {command}");
        script.step(&format!("stranger-{name}"), OPERATION, &stranger, GoOn).step(
            &format!("mapped-{name}"),
            OPERATION,
            command,
            GoOn,
        )
    };
    if let Some(ce) = ce {
        script = try_both(script, "gram", &authenticate(&ce.fqdn));
        services.push(Service::Gram);
        hints.push(format!("gridgate logs {} globus-gatekeeper", ce.node));
    }
    if let Some(storage) = storage {
        script = try_both(script, "gridftp", &storage.list_parent());
        services.push(Service::GridFtp { entry: storage.entry() });
        hints.push(storage.hint());
    }
    hints.push("/etc/grid-security/grid-mapfile".to_owned());
    let identity = format!("/O={}/OU=People/CN={UNMAPPED_NAME}", facts.domain);
    let claim = Claim::Refused { identity, services };
    Ok(Part { script, claim, hint: hints.join("; ") })
}
