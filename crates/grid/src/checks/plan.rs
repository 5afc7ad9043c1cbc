//! The checks of a site: from facts to scripts.

use super::expectation::{Claim, Expectation, Service};
use super::operation::{
    FOLDER, authenticate, copies, copy, copy_all, delete, job, list, staged_job,
};
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
/// for nodes that are busy with something else, and [`SiteFacts::pace`] for those that are slow.
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
            (Ok((ui, user)), Ok(part)) => Planned::Check(part.check(&draft, ui, user, facts.pace)),
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
    fn check(self, draft: &Draft, ui: &Host, user: &GridUser, pace: u32) -> SiteCheck {
        let (script, limit_s) = self.script.build(pace);
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
    fn list_parent(self, script: Script, step: &str) -> Script {
        let command = list(&quoted(&self.parent_url()));
        script.step_showing(step, OPERATION, &command, &quoted(&self.entry()))
    }

    fn url(self) -> String {
        format!("{}{}/", self.parent_url(), self.name)
    }

    /// A script in which `$storage` is the URL of a directory of its own, which is not
    /// there yet, and `$one` and `$two` are those of two files in it: the server refuses to
    /// list a directory of which a file goes just then, so nobody else may be in it. At
    /// its end it removes the files which `$put_one` and `$put_two` say may be there.
    fn script(self) -> Script {
        let rest = delete("${put_one:+\"$one\"} ${put_two:+\"$two\"} \"$storage\"");
        Script::new()
            // The deleting tool's settings folder goes where it is removed again.
            .set("HOME=$work")
            .set(&format!("storage={}$unique/", quoted(&self.url())))
            .set("one=$storage$unique.one")
            .set("two=$storage$unique.two")
            .set("put_one= put_two=")
            .local("names", "printf '%s\\n' \"$unique.one\" \"$unique.two\"", End)
            .at_end_if("[ -n \"$put_one$put_two\" ]", 2 * OPERATION, &rest)
    }

    fn hint(self) -> String {
        format!("gridgate exec {} -- tail /var/log/gridftp.log", self.se.node)
    }
}

/// A local file of random bytes, `$work/sent`.
fn random_file(script: Script, bytes: u32) -> Script {
    script.local("random", &format!("head -c {bytes} /dev/urandom >\"$work/sent\""), End)
}

/// The file of random bytes, and what is fetched to compare with it.
const SENT: &str = "\"file://$work/sent\"";
const GOT: &str = "\"file://$work/got\"";
const ONE: &str = "\"$one\"";
const TWO: &str = "\"$two\"";

/// The step `transfers`: copies in this order, ended by the first that fails.
fn transfers(script: Script, pairs: &[(&str, &str)]) -> Script {
    let list = "\"$work/transfers\"";
    let put = |url: &str| pairs.iter().any(|(_, to)| *to == url);
    let mut script = script.local("list", &copies(list, pairs), End);
    for (url, mark) in [(ONE, "put_one=yes"), (TWO, "put_two=yes")] {
        if put(url) {
            script = script.set(mark);
        }
    }
    script.step("transfers", pairs.len() as u32 * OPERATION, &copy_all(list), End)
}

/// Lists what this run of the check has on the SE.
fn ours(script: Script, step: &str) -> Script {
    script.step_showing(step, OPERATION, &list("\"$storage\""), "\"$unique\"")
}

/// Removes `$one`, and lists before and after.
fn delete_one(script: Script) -> Script {
    let script = ours(script, "before").step("delete", OPERATION, &delete(ONE), GoOn);
    // What was removed needs no clean-up.
    ours(script.set("[ \"$code\" -ne 0 ] || put_one="), "after")
}

fn checksums(script: Script) -> Script {
    script.local("checksums", "sha256sum \"$work/sent\" \"$work/got\"", GoOn)
}

/// Whose proxy a file is, and how many seconds it has left: a line each.
fn info(script: Script, file: &str) -> Script {
    script.step("info", 10, &format!("grid-proxy-info -file {file} -identity -timeleft"), GoOn)
}

fn proxy(facts: &SiteFacts) -> Result<Part, &'static str> {
    let (ui, user) = origin(facts)?;
    // Made aside and moved, so that checks of another run never meet half a proxy.
    let script = Script::new()
        .set(&format!("folder=$HOME/{FOLDER}"))
        .set("new=$folder/.new-$unique")
        .local("folder", "mkdir -p \"$folder\" && chmod 0700 \"$folder\"", End)
        .step("init", OPERATION, "grid-proxy-init -valid 12:00 -out \"$new\"", End)
        .local("move", "mv -f \"$new\" \"$X509_USER_PROXY\"", End)
        .at_end_if("[ -e \"$new\" ]", 5, "rm -f \"$new\"");
    let script = info(script, "\"$X509_USER_PROXY\"");
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
    let write = format!("printf %s {} >\"$work/where\"", quoted(where_am_i));
    let command = staged_job(&ce.fqdn, "jobmanager-slurm", "$work/where");
    let script = Script::new().local("script", &write, End).step("job", BATCH_JOB, &command, GoOn);
    let claim = Claim::RanOnWorker { workers: facts.workers.clone(), domain: facts.domain.clone() };
    let hint = format!(
        "gridgate logs {} slurmctld; gridgate logs {} slurmd; whether /home is mounted on the \
         workers; on {} /var/log/globus",
        ce.node, facts.workers[0], ce.node
    );
    Ok(Part { script, claim, hint })
}

fn listing(storage: Storage<'_>) -> Part {
    let script = storage.list_parent(Script::new(), "list");
    let claim = Claim::Listed { url: storage.parent_url(), entry: storage.entry() };
    Part { script, claim, hint: storage.hint() }
}

fn put(storage: Storage<'_>) -> Part {
    let script = random_file(storage.script(), 65536).set("put_one=yes").step(
        "put",
        OPERATION,
        &copy(SENT, ONE),
        GoOn,
    );
    Part { script: ours(script, "list"), claim: Claim::Put, hint: storage.hint() }
}

fn get(storage: Storage<'_>) -> Part {
    let script = transfers(random_file(storage.script(), 65536), &[(SENT, ONE), (ONE, GOT)]);
    let claim = Claim::SameContent { what: "downloaded" };
    Part { script: checksums(script), claim, hint: storage.hint() }
}

fn deletion(storage: Storage<'_>) -> Part {
    // The second file shows that a listing without the first is a true one.
    let script = transfers(random_file(storage.script(), 1024), &[(SENT, ONE), (SENT, TWO)]);
    let claim = Claim::Deleted { what: "the file" };
    Part { script: delete_one(script), claim, hint: storage.hint() }
}

fn third_party(storage: Storage<'_>) -> Part {
    let pairs = [(SENT, ONE), (ONE, TWO), (TWO, GOT)];
    let script = checksums(transfers(random_file(storage.script(), 65536), &pairs));
    let what = "copied on the SE and downloaded";
    Part { script, claim: Claim::SameContent { what }, hint: storage.hint() }
}

fn replica(storage: Storage<'_>) -> Part {
    // `$one` is the replica that is deleted, `$two` the original that stays.
    let pairs = [(SENT, TWO), (TWO, ONE), (ONE, GOT)];
    let script = checksums(transfers(random_file(storage.script(), 1_000_000), &pairs));
    Part { script: delete_one(script), claim: Claim::Replica, hint: storage.hint() }
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
    let script = Script::new()
        .set("stranger=$work/stranger")
        .set("mapped=$X509_USER_PROXY")
        .step("init", OPERATION, &init, End);
    let mut script = info(script, "\"$stranger\"");
    let mut services = Vec::new();
    let mut hints = Vec::new();
    // Each refusal is followed by the mapped user's success: the service was up.
    let try_both = |mut script: Script, name: &str, step: &dyn Fn(Script, &str) -> Script| {
        for person in ["stranger", "mapped"] {
            let script_as = script.set(&format!("X509_USER_PROXY=${person}"));
            script = step(script_as, &format!("{person}-{name}"));
        }
        script
    };
    if let Some(ce) = ce {
        script = try_both(script, "gram", &|script, name| {
            script.step(name, OPERATION, &authenticate(&ce.fqdn), GoOn)
        });
        services.push(Service::Gram);
        hints.push(format!("gridgate logs {} globus-gatekeeper", ce.node));
    }
    if let Some(storage) = storage {
        script = try_both(script, "gridftp", &|script, name| storage.list_parent(script, name));
        services.push(Service::GridFtp { entry: storage.entry() });
        hints.push(storage.hint());
    }
    hints.push("/etc/grid-security/grid-mapfile".to_owned());
    let identity = format!("/O={}/OU=People/CN={UNMAPPED_NAME}", facts.domain);
    let claim = Claim::Refused { identity, services };
    Ok(Part { script, claim, hint: hints.join("; ") })
}
