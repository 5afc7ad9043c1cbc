//! A node profile in the making: takes resources one by one and finds those that
//! contradict each other.

use std::collections::BTreeMap;

use gridgate_protocol::node_profile as protocol;

use super::Port;
use super::shelf::{Resource, Secrets, Shelf, add, who};
use crate::fault::{FaultCode, FaultSink, Spot};

/// What is asked for at a path.
#[derive(Clone, Debug)]
struct Claim {
    kind: &'static str,
    component: String,
    spot: Spot,
}

/// A node profile in the making.
pub(super) struct Draft<'a> {
    node: &'a str,
    sink: &'a FaultSink,
    pub groups: Shelf<protocol::Group>,
    pub users: Shelf<protocol::User>,
    pub directories: Shelf<protocol::Directory>,
    pub files: Shelf<protocol::File>,
    pub links: Shelf<protocol::Link>,
    pub certificates: Shelf<protocol::Certificate>,
    pub commands: Shelf<protocol::Command>,
    pub units: Shelf<protocol::Unit>,
    pub checks: Shelf<protocol::HealthCheck>,
    pub ports: Shelf<Port>,
    /// Secrets declared by the node's components.
    pub secrets: Secrets,
    paths: BTreeMap<String, Claim>,
    group_ids: BTreeMap<u32, (String, Spot)>,
    user_ids: BTreeMap<u32, (String, Spot)>,
}

impl<'a> Draft<'a> {
    /// An empty draft.
    pub(super) fn new(node: &'a str, sink: &'a FaultSink) -> Self {
        Self {
            node,
            sink,
            groups: Shelf::default(),
            users: Shelf::default(),
            directories: Shelf::default(),
            files: Shelf::default(),
            links: Shelf::default(),
            certificates: Shelf::default(),
            commands: Shelf::default(),
            units: Shelf::default(),
            checks: Shelf::default(),
            ports: Shelf::default(),
            secrets: Secrets::default(),
            paths: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            user_ids: BTreeMap::new(),
        }
    }

    /// Takes a group.
    pub(super) fn group(&mut self, group: protocol::Group, spot: &Spot) {
        let id = (group.gid, group.name.clone());
        self.one_id("group", &id, spot, |draft| &mut draft.group_ids);
        let what = format!("the group {}", group.name);
        add(&mut self.groups, group.name.clone(), group, spot, &what, (self.node, self.sink));
    }

    /// Takes a user.
    pub(super) fn user(&mut self, user: protocol::User, spot: &Spot) {
        let id = (user.uid, user.name.clone());
        self.one_id("user", &id, spot, |draft| &mut draft.user_ids);
        let what = format!("the user {}", user.name);
        add(&mut self.users, user.name.clone(), user, spot, &what, (self.node, self.sink));
    }

    /// Takes a directory.
    pub(super) fn directory(&mut self, directory: protocol::Directory, spot: &Spot) {
        let (path, component) = (directory.path.clone(), directory.component.clone());
        if self.claim(&path, "directory", &component, spot) {
            add(
                &mut self.directories,
                path.clone(),
                directory,
                spot,
                &path,
                (self.node, self.sink),
            );
        }
    }

    /// Takes a file.
    pub(super) fn file(&mut self, file: protocol::File, spot: &Spot) {
        let (path, component) = (file.path.clone(), file.component.clone());
        if self.claim(&path, "file", &component, spot) {
            add(&mut self.files, path.clone(), file, spot, &path, (self.node, self.sink));
        }
    }

    /// Takes a link.
    pub(super) fn link(&mut self, link: protocol::Link, spot: &Spot) {
        let (path, component) = (link.path.clone(), link.component.clone());
        if self.claim(&path, "link", &component, spot) {
            add(&mut self.links, path.clone(), link, spot, &path, (self.node, self.sink));
        }
    }

    /// Takes a certificate.
    pub(super) fn certificate(&mut self, certificate: protocol::Certificate, spot: &Spot) {
        let new = self.certificates.get(&certificate.name).is_none();
        if new {
            let own = [&certificate.certificate_path, &certificate.key_path];
            let copies =
                certificate.copies.iter().flat_map(|copy| [&copy.certificate_path, &copy.key_path]);
            let paths: Vec<String> = own.into_iter().chain(copies).cloned().collect();
            for path in paths {
                self.claim_alone(&path, &certificate.component, spot);
            }
        }
        let (key, what) =
            (certificate.name.clone(), format!("the certificate {}", certificate.name));
        add(&mut self.certificates, key, certificate, spot, &what, (self.node, self.sink));
    }

    /// Takes a command.
    pub(super) fn command(&mut self, command: protocol::Command, spot: &Spot) {
        let (key, what) = (command.name.clone(), format!("the command {}", command.name));
        add(&mut self.commands, key, command, spot, &what, (self.node, self.sink));
    }

    /// Takes a unit. Several components may want one unit in the same state; then
    /// it restarts for the files of each.
    pub(super) fn unit(&mut self, unit: protocol::Unit, spot: &Spot) {
        match self.units.get_mut(&unit.name) {
            Some(known) if known.state == unit.state => {
                for path in unit.restart_on {
                    if !known.restart_on.contains(&path) {
                        known.restart_on.push(path);
                    }
                }
                known.reload &= unit.reload;
            }
            _ => {
                let (key, what) = (unit.name.clone(), format!("the unit {}", unit.name));
                add(&mut self.units, key, unit, spot, &what, (self.node, self.sink));
            }
        }
    }

    /// Takes a health check; every name once.
    pub(super) fn check(&mut self, check: protocol::HealthCheck, spot: &Spot) {
        if let Some((first, first_spot)) = self.checks.get(&check.name) {
            let rule = format!(
                "{} and {} both have a check named “{}”",
                who(first.component()),
                who(&check.component),
                check.name
            );
            let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
            let fault = fault.related(first_spot, "the other stands at");
            self.sink.push(fault.on_node(self.node));
            return;
        }
        self.checks.push(check.name.clone(), check, spot);
    }

    /// Takes a port.
    pub(super) fn port(&mut self, port: Port, spot: &Spot) {
        let key = format!("{:05}/{:?}", port.number, port.protocol);
        let what = format!("port {}", port.number);
        if let Some((first, first_spot)) = self.ports.get(&key) {
            let rule = format!(
                "{} and {} both serve {what}",
                who(first.component()),
                who(&port.component)
            );
            let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
            let fault = fault.related(first_spot, "the other stands at");
            self.sink.push(fault.on_node(self.node));
            return;
        }
        self.ports.push(key, port, spot);
    }

    /// Says that no file may stand where another path needs a directory.
    pub(super) fn check_parents(&self) {
        for (path, claim) in &self.paths {
            let mut parent = path.as_str();
            while let Some(end) = parent.rfind('/').filter(|end| *end > 0) {
                parent = &path[..end];
                let Some(above) = self.paths.get(parent) else { continue };
                if !matches!(above.kind, "file" | "certificate") {
                    continue;
                }
                let rule = format!(
                    "{path} ({}) cannot be below {parent}, which is a {} ({})",
                    who(&claim.component),
                    above.kind,
                    who(&above.component)
                );
                let fault = claim.spot.fault(FaultCode::Conflict, rule).found_nothing();
                let fault = fault.related(&above.spot, "the other stands at");
                self.sink.push(fault.on_node(self.node));
            }
        }
    }

    /// Notes who wants a path; false when another kind of thing is wanted there.
    fn claim(&mut self, path: &str, kind: &'static str, component: &str, spot: &Spot) -> bool {
        let Some(first) = self.paths.get(path) else {
            let claim = Claim { kind, component: component.to_owned(), spot: spot.clone() };
            self.paths.insert(path.to_owned(), claim);
            return true;
        };
        if first.kind == kind {
            return true;
        }
        let rule = format!(
            "{path} is a {} for {} and a {kind} for {}",
            first.kind,
            who(&first.component),
            who(component)
        );
        let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
        let fault = fault.related(&first.spot, "the other stands at");
        self.sink.push(fault.on_node(self.node));
        false
    }

    /// [`Draft::claim`] for what can be there only once.
    fn claim_alone(&mut self, path: &str, component: &str, spot: &Spot) {
        match self.paths.get(path) {
            Some(first) if first.kind == "certificate" => {
                let rule = format!(
                    "{} and {} both put a certificate or key at {path}",
                    who(&first.component),
                    who(component)
                );
                let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
                let fault = fault.related(&first.spot, "the other stands at");
                self.sink.push(fault.on_node(self.node));
            }
            _ => {
                self.claim(path, "certificate", component, spot);
            }
        }
    }

    fn one_id(
        &mut self,
        kind: &str,
        (id, name): &(u32, String),
        spot: &Spot,
        ids: fn(&mut Self) -> &mut BTreeMap<u32, (String, Spot)>,
    ) {
        let known = ids(self);
        let first = known.entry(*id).or_insert_with(|| (name.clone(), spot.clone())).clone();
        if first.0 != *name {
            let rule = format!("the {kind}s {} and {name} would both have the id {id}", first.0);
            let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
            self.sink.push(fault.related(&first.1, "the other stands at").on_node(self.node));
        }
    }
}
