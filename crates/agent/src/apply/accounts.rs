//! Groups and users, in the account files of the node. All four files are read
//! once, edited in memory and, when something changed, renamed into place under
//! the lock that passwd(1) and useradd(8) take too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::User;
use rustix::fs::{FileType, FlockOperation, fcntl_lock};

use super::{ApplyError, Effect, Kind, Session};
use crate::accounts::{Accounts, Table};
use crate::place::{Access, Parents, Tree};

/// The files with the mode they get when they are missing; an existing file
/// keeps its owner and mode. Groups first, so that no user ever lacks one.
const FILES: [(&str, u32); 4] = [
    ("/etc/group", 0o644),
    ("/etc/gshadow", 0o640),
    ("/etc/passwd", 0o644),
    ("/etc/shadow", 0o640),
];

/// As lckpwdf(3).
const LOCK_LIMIT: Duration = Duration::from_secs(15);

const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// Groups and users.
pub(super) struct AccountFiles;

impl Kind for AccountFiles {
    fn doing(&self) -> &'static str {
        "Adding users and groups"
    }

    fn apply(&self, session: &mut Session<'_>) {
        if session.looking() {
            return look(session);
        }
        let tree = session.tools.tree;
        let lock = match lock(tree) {
            Ok(lock) => lock,
            Err(source) => {
                let path = tree.host_path("/etc/.pwd.lock");
                let error = ApplyError::Io { path, source };
                session.record("user", "*", "", Instant::now(), Err(error));
                return;
            }
        };
        session.names = read(tree);
        let old = session.names.clone();
        edit(session);
        if session.names != old
            && let Err(error) = write(tree, &old, &session.names)
        {
            session.record("user", "*", "", Instant::now(), Err(error));
            session.names = read(tree);
        }
        drop(lock);
        homes(session);
    }
}

/// What differs is seen by editing in memory; the names are then what they are.
fn look(session: &mut Session<'_>) {
    let found = session.names.clone();
    edit(session);
    session.names = found;
    homes(session);
}

/// Groups, then users, in memory.
fn edit(session: &mut Session<'_>) {
    let profile = session.profile;
    for group in &profile.groups {
        session.resource("group", &group.name, &group.component, |session| {
            let effect = session.names.ensure_group(group)?;
            if effect == Effect::Changed {
                session.note(Difference::new("presence", "missing", "group"));
            }
            Ok(effect)
        });
    }
    for user in &profile.users {
        session.resource("user", &user.name, &user.component, |session| {
            let found = session.names.clone();
            let effect = edit_user(session, user)?;
            if effect == Effect::Changed {
                note_user(session, &found, &user.name);
            }
            Ok(effect)
        });
    }
}

/// Notes the line of passwd and the groups; nothing of the password's file.
fn note_user(session: &mut Session<'_>, found: &Accounts, user: &str) {
    let line = |names: &Accounts| names.passwd.line(user).unwrap_or("missing").to_owned();
    let groups = |names: &Accounts| names.groups_of(user).join(",");
    let wanted = &session.names;
    let lines = (line(found), line(wanted));
    let memberships = (groups(found), groups(wanted));
    for (what, (found, wanted)) in [("passwd", lines), ("groups", memberships)] {
        if found != wanted {
            session.note(Difference::new(what, found, wanted));
        }
    }
}

fn homes(session: &mut Session<'_>) {
    for user in session.profile.users.iter().filter(|user| user.create_home) {
        session.resource("home", &user.home, &user.component, |session| home(session, user));
    }
}

fn edit_user(session: &mut Session<'_>, user: &User) -> Result<Effect, ApplyError> {
    let given = session.before.members.get(&user.name).cloned().unwrap_or_default();
    let today = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() / 86_400);
    let effect = session.names.ensure_user(user, &given, today)?;
    session.state.members.insert(user.name.clone(), user.groups.clone());
    Ok(effect)
}

/// Reads the account files; a missing one is empty.
pub(crate) fn read(tree: &Tree) -> Accounts {
    let table = |path: &str| {
        let text = fs::read(tree.host_path(path)).unwrap_or_default();
        Table::parse(&String::from_utf8_lossy(&text))
    };
    Accounts {
        passwd: table("/etc/passwd"),
        group: table("/etc/group"),
        shadow: table("/etc/shadow"),
        gshadow: table("/etc/gshadow"),
    }
}

/// Takes the lock of the account files for as long as the file is open.
fn lock(tree: &Tree) -> io::Result<File> {
    let path = tree.host_path("/etc/.pwd.lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let started = Instant::now();
    loop {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if started.elapsed() > LOCK_LIMIT => return Err(error.into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn write(tree: &Tree, old: &Accounts, new: &Accounts) -> Result<(), ApplyError> {
    let tables = [
        (&old.group, &new.group),
        (&old.gshadow, &new.gshadow),
        (&old.passwd, &new.passwd),
        (&old.shadow, &new.shadow),
    ];
    for ((path, mode), (old, new)) in FILES.into_iter().zip(tables) {
        if old == new {
            continue;
        }
        let place = tree.place(path, Parents::Make)?;
        let access = match place.stat()? {
            Some(stat) => {
                Access { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }
            }
            None => Access {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                mode,
            },
        };
        if place.read(SIZE_LIMIT)?.is_some_and(|text| String::from_utf8(text).is_err()) {
            // Rewriting it would damage what is not text.
            return Err(ApplyError::Io {
                path: tree.host_path(path),
                source: io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"),
            });
        }
        place.write(new.text().as_bytes(), access)?;
    }
    Ok(())
}

/// Makes a home directory with the files of `/etc/skel`, when it is missing.
fn home(session: &mut Session<'_>, user: &User) -> Result<Effect, ApplyError> {
    let tree = session.tools.tree;
    let access = session.access(&user.name, &user.group, 0o750)?;
    let place = tree.place(&user.home, Parents::Make)?;
    if place.kind()? == Some(FileType::Directory) {
        return Ok(Effect::Unchanged);
    }
    if session.looking() {
        session.note(Difference::new("presence", "missing", "directory"));
        return Ok(Effect::Changed);
    }
    place.make_directory(access)?;
    let Ok(skeleton) = fs::read_dir(tree.host_path("/etc/skel")) else {
        return Ok(Effect::Changed);
    };
    for entry in skeleton.flatten() {
        let name = entry.file_name();
        let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else { continue };
        if kind.is_file() {
            let content = read_file(&entry.path())?;
            let path = format!("{}/{name}", user.home);
            tree.place(&path, Parents::MustExist)?
                .write(&content, Access { mode: 0o644, ..access })?;
        }
    }
    Ok(Effect::Changed)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ApplyError> {
    fs::read(path).map_err(|source| ApplyError::Io { path: path.to_owned(), source })
}
