//! One component on one node: its tables with templates filled in, into the draft.

use gridgate_protocol::node_profile as protocol;
use minijinja::Value;

use super::draft::Draft;
use super::{Port, SecretSpec};
use crate::component::{CheckTest, Component, Entry, FileContent, Ownership, PairPaths, Text};
use crate::fault::{Fault, FaultCode, FaultSink, Spot};
use crate::names::{self, Rule};
use crate::template::{Context, Renderer};

/// A component being expanded.
pub(super) struct Expansion<'a> {
    pub node: &'a str,
    pub component: &'a Component,
    pub renderer: &'a Renderer<'a>,
    pub context: Context,
    pub sink: &'a FaultSink,
}

/// Renders with the context of one entry.
struct Fill<'a> {
    expansion: &'a Expansion<'a>,
    context: Context,
}

type Filled<T> = Result<T, Box<Fault>>;

impl Expansion<'_> {
    /// Puts everything the component wants into the draft.
    pub(super) fn expand(&self, draft: &mut Draft<'_>) {
        let resources = &self.component.resources;
        let name = &self.component.name;
        self.each(&resources.secrets, |fill, body, spot| {
            let secret_name = fill.ruled(&body.name, names::hyphenated)?;
            let spec = SecretSpec { name: secret_name, bytes: body.bytes, format: body.format };
            draft.secrets.add(&spec, name, spot, self.sink);
            Ok(())
        });
        self.each(&resources.groups, |fill, body, spot| {
            let group_name = fill.ruled(&body.name, names::account)?;
            let gid = fill.number(&body.gid, u32::MAX - 2)?;
            let group = protocol::Group { name: group_name, gid, component: name.clone() };
            draft.group(group, spot);
            Ok(())
        });
        self.each(&resources.users, |fill, body, spot| {
            draft.user(fill.user(body)?, spot);
            Ok(())
        });
        self.each(&resources.directories, |fill, body, spot| {
            let path = fill.path(&body.path)?;
            let (owner, group) = fill.owner(&body.ownership)?;
            let mode = body.ownership.mode;
            let component = name.clone();
            draft.directory(protocol::Directory { path, owner, group, mode, component }, spot);
            Ok(())
        });
        self.each(&resources.links, |fill, body, spot| {
            let (path, target) = (fill.path(&body.path)?, fill.line(&body.target)?);
            draft.link(protocol::Link { path, target, component: name.clone() }, spot);
            Ok(())
        });
        self.each(&resources.certificates, |fill, body, spot| {
            draft.certificate(fill.certificate(body)?, spot);
            Ok(())
        });
        self.each(&resources.commands, |fill, body, spot| {
            draft.command(fill.command(body)?, spot);
            Ok(())
        });
        self.each(&resources.units, |fill, body, spot| {
            let unit = protocol::Unit {
                name: fill.ruled(&body.name, unit_name)?,
                state: body.state,
                restart_on: fill.list(&body.restart_on)?,
                reload: body.reload,
                component: name.clone(),
            };
            draft.unit(unit, spot);
            Ok(())
        });
        self.each(&resources.checks, |fill, body, spot| {
            let check_name = fill.ruled(&body.name, shown_name)?;
            let test = fill.test(&body.test)?;
            let check = protocol::HealthCheck { name: check_name, test, component: name.clone() };
            draft.check(check, spot);
            Ok(())
        });
        self.each(&resources.ports, |fill, body, spot| {
            let port = Port {
                number: fill.port(&body.number)?,
                protocol: body.protocol,
                description: fill.optional(&body.description, "")?,
                component: name.clone(),
            };
            draft.port(port, spot);
            Ok(())
        });
    }

    /// Puts the component's files into the draft: after all components' secrets
    /// are known.
    pub(super) fn expand_files(&self, draft: &mut Draft<'_>) {
        self.each(&self.component.resources.files, |fill, body, spot| {
            let path = fill.path(&body.path)?;
            let (owner, group) = fill.owner(&body.ownership)?;
            let content = match &body.content {
                FileContent::Template(template) => {
                    protocol::Content::Text(self.renderer.file(template, &fill.context)?)
                }
                FileContent::Text(text) => protocol::Content::Text(fill.text(text)?),
                FileContent::Secret(text) => {
                    let secret = fill.text(text)?;
                    if !draft.secrets.contains(&secret) {
                        let rule = "no component of this node declares such a secret";
                        let fault = text.spot.fault(FaultCode::UnknownName, rule);
                        let fault = fault.found(secret).suggest("declare it with [[secrets]]");
                        return Err(Box::new(fault));
                    }
                    protocol::Content::Secret(secret)
                }
            };
            let mode = body.ownership.mode;
            let component = self.component.name.clone();
            draft.file(protocol::File { path, content, owner, group, mode, component }, spot);
            Ok(())
        });
    }

    /// Calls `make` for every entry that counts, as often as its `each` says.
    fn each<T>(
        &self,
        entries: &[Entry<T>],
        mut make: impl FnMut(&Fill<'_>, &T, &Spot) -> Filled<()>,
    ) {
        for entry in entries {
            let items: Vec<Option<Value>> = match &entry.each {
                None => vec![None],
                Some(each) => match self.renderer.list(each, &self.context) {
                    Ok(items) => items.into_iter().map(Some).collect(),
                    Err(fault) => {
                        self.sink.push((*fault).on_node(self.node));
                        continue;
                    }
                },
            };
            for item in items {
                let mut context = self.context.clone();
                if let Some(item) = item {
                    context.insert("item".to_owned(), item);
                }
                let fill = Fill { expansion: self, context };
                if let Err(fault) = fill.made(entry, &mut make) {
                    self.sink.push((*fault).on_node(self.node));
                    break;
                }
            }
        }
    }
}

impl Fill<'_> {
    fn made<T>(
        &self,
        entry: &Entry<T>,
        make: &mut impl FnMut(&Fill<'_>, &T, &Spot) -> Filled<()>,
    ) -> Filled<()> {
        if let Some(when) = &entry.when
            && !self.expansion.renderer.condition(when, &self.context)?
        {
            return Ok(());
        }
        make(self, &entry.body, &entry.spot)
    }

    fn text(&self, text: &Text) -> Filled<String> {
        self.expansion.renderer.text(text, &self.context)
    }

    fn optional(&self, text: &Option<Text>, otherwise: &str) -> Filled<String> {
        text.as_ref().map_or_else(|| Ok(otherwise.to_owned()), |text| self.text(text))
    }

    /// Strings of a list; one that comes out empty is left out.
    fn list(&self, texts: &[Text]) -> Filled<Vec<String>> {
        let mut list = Vec::new();
        for text in texts {
            let value = self.text(text)?;
            if !value.is_empty() {
                list.push(value);
            }
        }
        Ok(list)
    }

    /// Text that keeps to a rule.
    fn ruled(&self, text: &Text, rule: fn(&str) -> Rule) -> Filled<String> {
        let value = self.text(text)?;
        match rule(&value) {
            Ok(()) => Ok(value),
            Err(rule) => Err(bad(text, rule, value)),
        }
    }

    fn path(&self, text: &Text) -> Filled<String> {
        self.ruled(text, names::path)
    }

    /// Text on one line, not empty.
    fn line(&self, text: &Text) -> Filled<String> {
        self.ruled(text, |value| {
            let good = !value.is_empty() && !value.chars().any(char::is_control);
            if good { Ok(()) } else { Err("this must be one line, not empty") }
        })
    }

    fn number(&self, text: &Text, maximum: u32) -> Filled<u32> {
        let value = self.text(text)?;
        let number = value.trim().parse::<u32>().ok().filter(|number| *number <= maximum);
        number.ok_or_else(|| {
            let rule = format!("this must be a number from 0 to {maximum}");
            bad(text, &rule, value)
        })
    }

    fn port(&self, text: &Text) -> Filled<u16> {
        let number = self.number(text, u32::from(u16::MAX))?;
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        port.ok_or_else(|| bad(text, "a port is from 1 to 65535", number))
    }

    fn account(&self, text: &Option<Text>, otherwise: &str) -> Filled<String> {
        match text {
            Some(text) => self.ruled(text, names::account),
            None => Ok(otherwise.to_owned()),
        }
    }

    fn owner(&self, ownership: &Ownership) -> Filled<(String, String)> {
        Ok((self.account(&ownership.owner, "root")?, self.account(&ownership.group, "root")?))
    }

    fn user(&self, body: &crate::component::User) -> Filled<protocol::User> {
        let name = self.ruled(&body.name, names::account)?;
        let passwd = |text: &Option<Text>, otherwise: &str| -> Filled<String> {
            let value = self.optional(text, otherwise)?;
            match text {
                Some(text) if value.contains([':', '\n']) => {
                    let rule = "what stands in /etc/passwd has no colon and no line end";
                    Err(bad(text, rule, value))
                }
                _ => Ok(value),
            }
        };
        Ok(protocol::User {
            uid: self.number(&body.uid, u32::MAX - 2)?,
            group: self.account(&body.group, &name)?,
            groups: self.list(&body.groups)?,
            home: passwd(&body.home, "/nonexistent")?,
            create_home: body.create_home,
            shell: passwd(&body.shell, "/usr/sbin/nologin")?,
            full_name: passwd(&body.full_name, "")?,
            component: self.expansion.component.name.clone(),
            name,
        })
    }

    fn pair(&self, paths: &PairPaths) -> Filled<protocol::CertificateCopy> {
        Ok(protocol::CertificateCopy {
            certificate_path: self.path(&paths.certificate_path)?,
            key_path: self.path(&paths.key_path)?,
            owner: self.account(&paths.owner, "root")?,
            group: self.account(&paths.group, "root")?,
        })
    }

    fn certificate(&self, body: &crate::component::Certificate) -> Filled<protocol::Certificate> {
        let pair = self.pair(&body.paths)?;
        let mut subject = Vec::new();
        for (key, text) in &body.subject {
            subject.push((key.clone(), self.line(text)?));
        }
        let copies = body.copies.iter().map(|copy| self.pair(copy)).collect::<Filled<Vec<_>>>()?;
        Ok(protocol::Certificate {
            name: self.ruled(&body.name, certificate_name)?,
            kind: body.kind,
            subject,
            dns: self.list(&body.dns)?,
            certificate_path: pair.certificate_path,
            key_path: pair.key_path,
            owner: pair.owner,
            group: pair.group,
            copies,
            component: self.expansion.component.name.clone(),
        })
    }

    fn run(&self, words: &[Text]) -> Filled<Vec<String>> {
        words.iter().map(|word| self.text(word)).collect()
    }

    fn command(&self, body: &crate::component::Command) -> Filled<protocol::Command> {
        Ok(protocol::Command {
            name: self.ruled(&body.name, shown_name)?,
            run: self.run(&body.run)?,
            creates: body.creates.as_ref().map(|path| self.path(path)).transpose()?,
            on_change: self.list(&body.on_change)?,
            component: self.expansion.component.name.clone(),
        })
    }

    fn test(&self, test: &CheckTest) -> Filled<protocol::HealthTest> {
        Ok(match test {
            CheckTest::Unit(unit) => protocol::HealthTest::Unit(self.ruled(unit, unit_name)?),
            CheckTest::Listening(port) => protocol::HealthTest::Listening(self.port(port)?),
            CheckTest::Run { run, user, expect } => protocol::HealthTest::Command {
                run: self.run(run)?,
                user: self.account(user, "root")?,
                expect: expect.as_ref().map(|text| self.text(text)).transpose()?,
            },
            CheckTest::Mounted { path, filesystem } => protocol::HealthTest::Mounted {
                path: self.path(path)?,
                filesystem: self.line(filesystem)?,
            },
        })
    }
}

/// A fault about what a template gave.
fn bad(text: &Text, rule: &str, value: impl std::fmt::Display) -> Box<Fault> {
    Box::new(text.spot.fault(FaultCode::BadValue, rule).found(value))
}

fn unit_name(name: &str) -> Rule {
    const KINDS: [&str; 10] = [
        "service",
        "socket",
        "target",
        "timer",
        "mount",
        "automount",
        "path",
        "slice",
        "swap",
        "scope",
    ];
    let good = |b: u8| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b);
    let kind =
        name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind));
    if kind && name.len() < 256 && name.bytes().all(good) {
        return Ok(());
    }
    Err(
        "a unit name ends in its kind (.service, .mount, …) and has letters, digits and : _ . \\ @ - only",
    )
}

/// A name that is part of a request's path.
fn certificate_name(name: &str) -> Rule {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(good) {
        return Ok(());
    }
    Err("a certificate's name is at most 64 letters, digits and _ . - , no dot first")
}

/// A name shown to people.
fn shown_name(name: &str) -> Rule {
    if !name.is_empty() && name.len() <= 100 && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err("such a name has 1 to 100 characters on one line")
}
