//! The account files (passwd, group, shadow, gshadow) as text: looking up names
//! and adding what a profile wants. Pure; lines that it does not understand and
//! lines of other accounts stay as they are. It never removes an account and
//! never changes an id, because files may belong to it.

use gridgate_protocol::node_profile::{Group, User};

use crate::login::Login;

/// Why an account cannot be as wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("{what} {value:?} cannot stand in an account file")]
    Invalid { what: &'static str, value: String },
    #[error(
        "{name} exists with id {found}, wanted is {wanted}; ids are not changed because files belong to them"
    )]
    OtherId { name: String, found: String, wanted: u32 },
    #[error("id {id} of {name} already belongs to {taken_by}")]
    Taken { id: u32, name: String, taken_by: String },
    #[error("group {group} of user {user} does not exist")]
    NoGroup { user: String, group: String },
}

/// Whether something had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was as wanted.
    Unchanged,
    /// It was made so.
    Changed,
}

/// Lines of one colon-separated file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.split(':').next() == Some(name))
    }

    /// Field `field` of the line of `name`.
    fn get(&self, name: &str, field: usize) -> Option<&str> {
        self.lines[self.find(name)?].split(':').nth(field)
    }

    /// The whole line of `name`.
    pub(crate) fn line(&self, name: &str) -> Option<&str> {
        Some(&self.lines[self.find(name)?])
    }

    /// Name of the first line whose third field is `id`.
    fn owner_of(&self, id: u32) -> Option<&str> {
        let id = id.to_string();
        let line = self.lines.iter().find(|line| line.split(':').nth(2) == Some(&id))?;
        line.split(':').next()
    }

    /// Sets a field; a missing field or line leaves all as it is.
    fn set(&mut self, name: &str, field: usize, value: &str) -> Effect {
        let Some(index) = self.find(name) else { return Effect::Unchanged };
        let mut fields: Vec<&str> = self.lines[index].split(':').collect();
        match fields.get_mut(field) {
            Some(old) if *old != value => *old = value,
            _ => return Effect::Unchanged,
        }
        self.lines[index] = fields.join(":");
        Effect::Changed
    }
}

/// The four files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// `/etc/passwd`.
    pub passwd: Table,
    /// `/etc/group`.
    pub group: Table,
    /// `/etc/shadow`.
    pub shadow: Table,
    /// `/etc/gshadow`.
    pub gshadow: Table,
}

/// Fields of passwd(5).
mod field {
    pub(super) const ID: usize = 2;
    pub(super) const PASSWD_GID: usize = 3;
    pub(super) const PASSWD_NAME: usize = 4;
    pub(super) const PASSWD_HOME: usize = 5;
    pub(super) const PASSWD_SHELL: usize = 6;
    pub(super) const GROUP_MEMBERS: usize = 3;
}

impl Accounts {
    /// A user's id.
    pub(crate) fn uid(&self, name: &str) -> Option<u32> {
        self.passwd.get(name, field::ID)?.parse().ok()
    }

    /// A group's id.
    pub(crate) fn gid(&self, name: &str) -> Option<u32> {
        self.group.get(name, field::ID)?.parse().ok()
    }

    /// Name of the user with this id.
    pub(crate) fn user_of(&self, uid: u32) -> Option<&str> {
        self.passwd.owner_of(uid)
    }

    /// Name of the group with this id.
    pub(crate) fn group_of(&self, gid: u32) -> Option<&str> {
        self.group.owner_of(gid)
    }

    /// Groups whose list of members holds the user.
    pub(crate) fn groups_of(&self, user: &str) -> Vec<&str> {
        let member = |line: &str| {
            let members = line.split(':').nth(field::GROUP_MEMBERS)?;
            members.split(',').any(|member| member == user).then_some(())
        };
        let lines = self.group.lines.iter().filter(|line| member(line).is_some());
        lines.filter_map(|line| line.split(':').next()).collect()
    }

    /// All that is needed to become a user.
    pub(crate) fn login(&self, name: &str) -> Option<Login> {
        let gid: u32 = self.passwd.get(name, field::PASSWD_GID)?.parse().ok()?;
        let mut groups = vec![gid];
        for line in &self.group.lines {
            let fields: Vec<&str> = line.split(':').collect();
            let [_, _, id, members] = fields[..] else { continue };
            if let Ok(id) = id.parse()
                && members.split(',').any(|member| member == name)
                && !groups.contains(&id)
            {
                groups.push(id);
            }
        }
        let shell = self.passwd.get(name, field::PASSWD_SHELL).filter(|shell| !shell.is_empty());
        Some(Login {
            name: name.to_owned(),
            uid: self.uid(name)?,
            gid,
            groups,
            home: self.passwd.get(name, field::PASSWD_HOME)?.to_owned(),
            shell: shell.unwrap_or("/bin/sh").to_owned(),
        })
    }

    /// Adds a group, or sees that it is there.
    pub(crate) fn ensure_group(&mut self, group: &Group) -> Result<Effect, AccountError> {
        check_name("group name", &group.name)?;
        let other = |found: &str| AccountError::OtherId {
            name: group.name.clone(),
            found: found.to_owned(),
            wanted: group.gid,
        };
        if let Some(found) = self.group.get(&group.name, field::ID) {
            return if found == group.gid.to_string() {
                Ok(Effect::Unchanged)
            } else {
                Err(other(found))
            };
        }
        self.check_free(&self.group, &group.name, group.gid)?;
        self.group.lines.push(format!("{}:x:{}:", group.name, group.gid));
        if self.gshadow.find(&group.name).is_none() {
            self.gshadow.lines.push(format!("{}:!::", group.name));
        }
        Ok(Effect::Changed)
    }

    /// Adds a user or changes all but its id. `left` names the groups that an
    /// earlier profile put it in and this one does not; `today` is days since 1970.
    pub(crate) fn ensure_user(
        &mut self,
        user: &User,
        left: &[String],
        today: u64,
    ) -> Result<Effect, AccountError> {
        check_user(user)?;
        let no_group = |group: &str| AccountError::NoGroup {
            user: user.name.clone(),
            group: group.to_owned(),
        };
        let gid = self.gid(&user.group).ok_or_else(|| no_group(&user.group))?;
        if let Some(group) = user.groups.iter().find(|group| self.gid(group).is_none()) {
            return Err(no_group(group));
        }
        let mut effect = match self.passwd.get(&user.name, field::ID) {
            Some(found) if found == user.uid.to_string() => self.update_user(user, gid),
            Some(found) => {
                return Err(AccountError::OtherId {
                    name: user.name.clone(),
                    found: found.to_owned(),
                    wanted: user.uid,
                });
            }
            None => self.add_user(user, gid)?,
        };
        if self.shadow.find(&user.name).is_none() {
            // No password fits `*`, while a key for ssh is still accepted.
            self.shadow.lines.push(format!("{}:*:{today}:0:99999:7:::", user.name));
            effect = Effect::Changed;
        }
        for group in &user.groups {
            effect = effect.and(self.set_member(group, &user.name, Membership::In));
        }
        for group in left.iter().filter(|group| !user.groups.contains(group)) {
            effect = effect.and(self.set_member(group, &user.name, Membership::Out));
        }
        Ok(effect)
    }

    fn add_user(&mut self, user: &User, gid: u32) -> Result<Effect, AccountError> {
        self.check_free(&self.passwd, &user.name, user.uid)?;
        self.passwd.lines.push(format!(
            "{}:x:{}:{gid}:{}:{}:{}",
            user.name, user.uid, user.full_name, user.home, user.shell
        ));
        Ok(Effect::Changed)
    }

    fn update_user(&mut self, user: &User, gid: u32) -> Effect {
        let gid = gid.to_string();
        [
            (field::PASSWD_GID, gid.as_str()),
            (field::PASSWD_NAME, &user.full_name),
            (field::PASSWD_HOME, &user.home),
            (field::PASSWD_SHELL, &user.shell),
        ]
        .into_iter()
        .map(|(field, value)| self.passwd.set(&user.name, field, value))
        .fold(Effect::Unchanged, Effect::and)
    }

    fn check_free(&self, table: &Table, name: &str, id: u32) -> Result<(), AccountError> {
        match table.owner_of(id) {
            None => Ok(()),
            Some(taken_by) => Err(AccountError::Taken {
                id,
                name: name.to_owned(),
                taken_by: taken_by.to_owned(),
            }),
        }
    }

    fn set_member(&mut self, group: &str, user: &str, membership: Membership) -> Effect {
        [&mut self.group, &mut self.gshadow]
            .into_iter()
            .map(|table| {
                let Some(old) = table.get(group, field::GROUP_MEMBERS) else {
                    return Effect::Unchanged;
                };
                let mut members: Vec<&str> = old.split(',').filter(|m| !m.is_empty()).collect();
                match membership {
                    Membership::In if !members.contains(&user) => members.push(user),
                    Membership::In => {}
                    Membership::Out => members.retain(|member| *member != user),
                }
                let new = members.join(",");
                table.set(group, field::GROUP_MEMBERS, &new)
            })
            .fold(Effect::Unchanged, Effect::and)
    }
}

#[derive(Clone, Copy)]
enum Membership {
    In,
    Out,
}

impl Effect {
    /// Changed when either is.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Changed { self } else { other }
    }
}

fn check_user(user: &User) -> Result<(), AccountError> {
    check_name("user name", &user.name)?;
    for (what, value) in
        [("home directory", &user.home), ("shell", &user.shell), ("full name", &user.full_name)]
    {
        if value.contains([':', '\n', '\0']) {
            return Err(AccountError::Invalid { what, value: value.clone() });
        }
    }
    Ok(())
}

/// What useradd(8) accepts.
fn check_name(what: &'static str, name: &str) -> Result<(), AccountError> {
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-' || c == '.';
    let fits = name.len() <= 32 && name.starts_with(first) && name.chars().all(rest);
    if fits { Ok(()) } else { Err(AccountError::Invalid { what, value: name.to_owned() }) }
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
