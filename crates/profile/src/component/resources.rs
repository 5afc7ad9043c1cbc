//! Reading the tables of a component file: `[[files]]`, `[[units]]` and so on.

use gridgate_protocol::node_profile::{CertificateKind, UnitState};

use super::{
    Certificate, Check, CheckTest, Command, Directory, Entry, File, FileContent, Group, Link,
    Ownership, PairPaths, Port, Resources, Secret, Text, Unit, User,
};
use crate::compile::{Protocol, SecretFormat};
use crate::document::{Item, Table};
use crate::names;
use crate::template;

const SECRET_FORMATS: &[(&str, SecretFormat)] =
    &[("raw", SecretFormat::Raw), ("hex", SecretFormat::Hex), ("base64", SecretFormat::Base64)];
const CERTIFICATE_KINDS: &[(&str, CertificateKind)] =
    &[("host", CertificateKind::Host), ("user", CertificateKind::User)];
const UNIT_STATES: &[(&str, UnitState)] = &[
    ("running", UnitState::Running),
    ("enabled", UnitState::Enabled),
    ("stopped", UnitState::Stopped),
    ("masked", UnitState::Masked),
];
const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// Reads all resource tables of a component file.
pub(super) fn read(root: &Table<'_>) -> Resources {
    Resources {
        secrets: entries(root, "secrets", secret),
        groups: entries(root, "groups", group),
        users: entries(root, "users", user),
        directories: entries(root, "directories", directory),
        files: entries(root, "files", file),
        links: entries(root, "links", link),
        certificates: entries(root, "certificates", certificate),
        commands: entries(root, "commands", command),
        units: entries(root, "units", unit),
        checks: entries(root, "checks", check),
        ports: entries(root, "ports", port),
    }
}

fn entries<T>(
    root: &Table<'_>,
    key: &'static str,
    body: fn(&Table<'_>) -> Option<T>,
) -> Vec<Entry<T>> {
    let read = |table: Table<'_>| {
        let (when, each) = (table.string("when"), table.string("each"));
        for expression in [&when, &each].into_iter().flatten() {
            template::check_expression(expression, table.sink());
        }
        let body = body(&table);
        table.finish();
        Some(Entry { spot: table.spot(), when, each, body: body? })
    };
    root.tables(key).into_iter().filter_map(read).collect()
}

fn text(table: &Table<'_>, key: &'static str) -> Option<Text> {
    table.required(key, &format!("{key} = \"…\""))?.string()
}

/// A number, or a template that gives one.
fn number(item: &Item<'_>) -> Option<Text> {
    if let Some(number) = item.as_integer() {
        return Some(item.located(number.to_string()));
    }
    if item.as_str().is_none() {
        item.wrong_type("an integer or a template", None);
        return None;
    }
    item.string()
}

fn mode(table: &Table<'_>, default: u32) -> Option<u32> {
    let Some(item) = table.get("mode") else { return Some(default) };
    read_mode(&item)
}

/// Reads permission bits.
fn read_mode(item: &Item<'_>) -> Option<u32> {
    if let Some(number) = item.as_integer() {
        item.wrong_type("a string", Some(format!("write \"{number:0>4}\"")));
        return None;
    }
    let text = item.string()?;
    names::mode(&text.value).map_err(|rule| item.bad(rule, None)).ok()
}

fn ownership(table: &Table<'_>, default_mode: u32) -> Option<Ownership> {
    let (owner, group) = (table.string("owner"), table.string("group"));
    Some(Ownership { owner, group, mode: mode(table, default_mode)? })
}

fn secret(table: &Table<'_>) -> Option<Secret> {
    let name = text(table, "name");
    let bytes = table
        .required("bytes", "bytes = 32")
        .and_then(|item| item.integer(1..=65_536))
        .and_then(|bytes| u32::try_from(bytes.value).ok());
    let format = match table.get("format") {
        Some(item) => item.choice(SECRET_FORMATS).map(|format| format.value),
        None => Some(SecretFormat::Raw),
    };
    Some(Secret { name: name?, bytes: bytes?, format: format? })
}

fn group(table: &Table<'_>) -> Option<Group> {
    let name = text(table, "name");
    let gid = table.required("gid", "gid = 900").and_then(|item| number(&item));
    Some(Group { name: name?, gid: gid? })
}

fn user(table: &Table<'_>) -> Option<User> {
    let name = text(table, "name");
    let uid = table.required("uid", "uid = 900").and_then(|item| number(&item));
    let (group, groups) = (table.string("group"), table.strings("groups"));
    let (home, shell) = (table.string("home"), table.string("shell"));
    let full_name = table.string("full_name");
    let create_home = table.boolean("create_home").is_some_and(|create| create.value);
    Some(User { name: name?, uid: uid?, group, groups, home, create_home, shell, full_name })
}

fn directory(table: &Table<'_>) -> Option<Directory> {
    let (path, ownership) = (text(table, "path"), ownership(table, 0o755));
    Some(Directory { path: path?, ownership: ownership? })
}

fn file(table: &Table<'_>) -> Option<File> {
    let (path, ownership) = (text(table, "path"), ownership(table, 0o644));
    let contents: Vec<FileContent> = [
        table.string("template").map(FileContent::Template),
        table.string("content").map(FileContent::Text),
        table.string("secret").map(FileContent::Secret),
    ]
    .into_iter()
    .flatten()
    .collect();
    let content = one_of(table, contents, "template, content, secret");
    Some(File { path: path?, content: content?, ownership: ownership? })
}

fn link(table: &Table<'_>) -> Option<Link> {
    let (path, target) = (text(table, "path"), text(table, "target"));
    Some(Link { path: path?, target: target? })
}

fn pair(table: &Table<'_>) -> Option<PairPaths> {
    let (certificate_path, key_path) = (text(table, "certificate_path"), text(table, "key_path"));
    let (owner, group) = (table.string("owner"), table.string("group"));
    Some(PairPaths { certificate_path: certificate_path?, key_path: key_path?, owner, group })
}

fn certificate(table: &Table<'_>) -> Option<Certificate> {
    let name = text(table, "name");
    let kind = match table.get("kind") {
        Some(item) => item.choice(CERTIFICATE_KINDS).map(|kind| kind.value),
        None => Some(CertificateKind::Host),
    };
    let subject = table
        .required(
            "subject",
            "subject = [[\"O\", \"{{ site.domain }}\"], [\"CN\", \"{{ node.fqdn }}\"]]",
        )
        .and_then(|item| subject(&item));
    let dns = table.strings("dns");
    let paths = pair(table);
    let mut copies = Vec::new();
    for copy in table.tables("copies") {
        copies.extend(pair(&copy));
        copy.finish();
    }
    Some(Certificate { name: name?, kind: kind?, subject: subject?, dns, paths: paths?, copies })
}

fn subject(item: &Item<'_>) -> Option<Vec<(String, Text)>> {
    let parts = item.items()?;
    let read = |part: &Item<'_>| {
        let pair = part.strings();
        let [key, value] = pair.as_slice() else {
            part.bad("a part of a subject is a pair of strings, such as [\"CN\", \"…\"]", None);
            return None;
        };
        if !["C", "ST", "L", "O", "OU", "CN", "DC"].contains(&key.value.as_str()) {
            part.bad("the first of the pair must be one of: C, ST, L, O, OU, CN, DC", None);
            return None;
        }
        Some((key.value.clone(), value.clone()))
    };
    let subject: Vec<_> = parts.iter().filter_map(read).collect();
    if parts.is_empty() {
        item.bad("a subject has at least one part", None);
    }
    (!subject.is_empty() && subject.len() == parts.len()).then_some(subject)
}

/// A list of strings with at least one in it.
fn run(item: &Item<'_>) -> Option<Vec<Text>> {
    if item.as_str().is_some() {
        item.wrong_type(
            "a list of program and arguments",
            Some("for a shell line write [\"/bin/sh\", \"-c\", \"…\"]".to_owned()),
        );
        return None;
    }
    let words = item.items()?;
    if words.is_empty() {
        item.bad("the program is missing", None);
        return None;
    }
    words.iter().map(Item::string).collect()
}

fn command(table: &Table<'_>) -> Option<Command> {
    let name = text(table, "name");
    let run = table.required("run", "run = [\"/usr/bin/…\"]").and_then(|item| run(&item));
    let (creates, on_change) = (table.string("creates"), table.strings("on_change"));
    Some(Command { name: name?, run: run?, creates, on_change })
}

fn unit(table: &Table<'_>) -> Option<Unit> {
    let name = text(table, "name");
    let state = match table.get("state") {
        Some(item) => item.choice(UNIT_STATES).map(|state| state.value),
        None => Some(UnitState::Running),
    };
    let restart_on = table.strings("restart_on");
    let reload = table.boolean("reload").is_some_and(|reload| reload.value);
    Some(Unit { name: name?, state: state?, restart_on, reload })
}

fn check(table: &Table<'_>) -> Option<Check> {
    let name = text(table, "name");
    let (user, expect) = (table.string("user"), table.string("expect"));
    let filesystem = table.string("filesystem");
    let command = table.get("run");
    let asked_for = command.is_some();
    if let Some(extra) = user.as_ref().or(expect.as_ref()).filter(|_| !asked_for) {
        let rule = "`user` and `expect` go with `run`";
        table.push(extra.spot.fault(crate::fault::FaultCode::BadValue, rule));
    }
    let run = command.and_then(|item| run(&item)).map(|run| CheckTest::Run { run, user, expect });
    let mounted = table.string("mounted");
    if mounted.is_some() && filesystem.is_none() {
        table.missing("filesystem", "filesystem = \"nfs4\"");
    }
    let mount = mounted
        .clone()
        .zip(filesystem)
        .map(|(path, filesystem)| CheckTest::Mounted { path, filesystem });
    let listening = table.get("listening");
    let seen = [asked_for, mounted.is_some(), listening.is_some()].contains(&true);
    let tests: Vec<CheckTest> = [
        table.string("unit").map(CheckTest::Unit),
        listening.and_then(|item| number(&item)).map(CheckTest::Listening),
        run,
        mount,
    ]
    .into_iter()
    .flatten()
    .collect();
    if tests.is_empty() && seen {
        return None;
    }
    let test = one_of(table, tests, "unit, listening, run, mounted");
    Some(Check { name: name?, test: test? })
}

fn port(table: &Table<'_>) -> Option<Port> {
    let number = table.required("number", "number = 2119").and_then(|item| number(&item));
    let protocol = match table.get("protocol") {
        Some(item) => item.choice(PROTOCOLS).map(|protocol| protocol.value),
        None => Some(Protocol::Tcp),
    };
    let description = table.string("description");
    Some(Port { number: number?, protocol: protocol?, description })
}

fn one_of<T>(table: &Table<'_>, mut found: Vec<T>, keys: &str) -> Option<T> {
    if found.len() == 1 {
        return found.pop();
    }
    let rule = format!("exactly one of these must be given: {keys}");
    table.push(table.spot().fault(crate::fault::FaultCode::BadValue, rule));
    None
}
