//! Notices changes of what a profile keeps: inotify on the folders that hold its files and links, on the account
//! files, on dpkg's list and on systemd's list of running units. It sleeps until the kernel says something, and
//! says "disturbed" once things have been quiet for a moment; what differs is found by the look that follows.
//! What inotify does not show (a folder that was made later, a change through another mount) is found by the same
//! look, which is taken every quarter of an hour in any case.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use gridgate_protocol::node_profile::{NodeProfile, UnitState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::place::Tree;
use crate::work::Task;

/// Between looks that nothing has called for.
const SLOW: Duration = Duration::from_secs(900);

/// Quiet for so long, a change is taken as complete …
const QUIET: Duration = Duration::from_millis(300);

/// … and after so long in any case.
const LONGEST: Duration = Duration::from_secs(3);

/// systemd links each running unit here, `invocation:NAME`, and removes the link when it stops (systemd v254,
/// `unit_unlink_state_files`).
const RUNNING_UNITS: &str = "/run/systemd/units";

const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const STACK: usize = 128 * 1024;

/// A watch; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Closing it wakes and ends the thread.
    _stop: OwnedFd,
}

/// Names of interest by folder; and whether their coming is of interest, or only their going.
type Folders = BTreeMap<String, BTreeSet<String>>;

impl Watch {
    /// Watches what `profile` keeps; tells `tasks`.
    pub(crate) fn start(
        tree: &Tree,
        profile: &NodeProfile,
        tasks: Sender<Task>,
    ) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut names = HashMap::new();
        for (folder, wanted) in folders(profile) {
            let path = tree.host_path(&folder);
            match inotify::add_watch(&inotify, &path, mask(&folder)) {
                Ok(number) => names.entry(number).or_insert_with(BTreeSet::new).extend(wanted),
                // What is missing is seen by the look.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (ends, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let work = move || {
            if let Err(error) = run(&inotify, &ends, &names, &tasks) {
                tracing::error!(%error, "the watch for changes by hand ended");
            }
        };
        thread::Builder::new().name("watch".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { _stop: stop })
    }
}

/// Which names in which folders matter.
fn folders(profile: &NodeProfile) -> Folders {
    let mut folders = Folders::new();
    let mut add = |path: &str| {
        let path = Path::new(path);
        let parts = path.parent().and_then(Path::to_str).zip(path.file_name());
        if let Some((folder, name)) = parts {
            let names = folders.entry(folder.to_owned()).or_default();
            names.insert(name.to_string_lossy().into_owned());
        }
    };
    let files = profile.files.iter().map(|file| &file.path);
    let links = profile.links.iter().map(|link| &link.path);
    let directories = profile.directories.iter().map(|directory| &directory.path);
    let homes = profile.users.iter().filter(|user| user.create_home).map(|user| &user.home);
    files.chain(links).chain(directories).chain(homes).for_each(|path| add(path));
    for certificate in &profile.certificates {
        let copies = certificate.copies.iter().map(|c| (&c.certificate_path, &c.key_path));
        let own = (&certificate.certificate_path, &certificate.key_path);
        for (certificate, key) in std::iter::once(own).chain(copies) {
            add(certificate);
            add(key);
        }
    }
    ACCOUNTS.into_iter().chain([DPKG_STATUS]).for_each(&mut add);
    for unit in &profile.units {
        add(&format!("/etc/systemd/system/{}", unit.name));
        add(&format!("/etc/systemd/system/multi-user.target.wants/{}", unit.name));
        if unit.state == UnitState::Running {
            add(&format!("{RUNNING_UNITS}/invocation:{}", unit.name));
        }
    }
    folders
}

/// A unit that starts is no disturbance, one that stops may be.
fn mask(folder: &str) -> WatchFlags {
    if folder == RUNNING_UNITS {
        return WatchFlags::DELETE | WatchFlags::ONLYDIR;
    }
    WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::MOVE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
}

/// Until the other end of `ends` is closed or nobody takes tasks any more.
fn run(
    inotify: &OwnedFd,
    ends: &OwnedFd,
    names: &HashMap<i32, BTreeSet<String>>,
    tasks: &Sender<Task>,
) -> io::Result<()> {
    let mut since: Option<Instant> = None;
    loop {
        let wait = since.map_or(SLOW, |_| QUIET);
        let (ended, more) = wait_for(inotify, ends, wait)?;
        if ended {
            return Ok(());
        }
        if more && disturbed(inotify, names)? {
            since.get_or_insert_with(Instant::now);
        }
        let complete = since.is_none_or(|since| since.elapsed() > LONGEST);
        if !more || (since.is_some() && complete) {
            if tasks.send(Task::Disturbed).is_err() {
                return Ok(());
            }
            since = None;
        }
    }
}

/// Sleeps; whether the watch ends, and whether inotify has something.
fn wait_for(inotify: &OwnedFd, ends: &OwnedFd, wait: Duration) -> io::Result<(bool, bool)> {
    let mut watched = [PollFd::new(ends, PollFlags::IN), PollFd::new(inotify, PollFlags::IN)];
    let timeout = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) => {
            let [ended, more] = &watched;
            Ok((!ended.revents().is_empty(), !more.revents().is_empty()))
        }
        Err(Errno::INTR) => Ok((false, true)),
        Err(error) => Err(error.into()),
    }
}

/// Reads what inotify has; whether something of it matters.
fn disturbed(inotify: &OwnedFd, names: &HashMap<i32, BTreeSet<String>>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut matters = false;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(matters),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let whole = ReadFlags::QUEUE_OVERFLOW | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        let name = event.file_name().map(CStr::to_string_lossy);
        matters |= event.events().intersects(whole)
            || name.is_some_and(|name| {
                names.get(&event.wd()).is_some_and(|names| names.contains(name.as_ref()))
            });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;
    use crate::tests::machine::{PATIENCE, root};
    use crate::tests::profile::{empty, text};

    #[test]
    fn a_change_of_what_the_profile_keeps_is_told_once_and_other_changes_are_not() {
        let root = root();
        let mut profile = empty();
        profile.files.push(text("/etc/motd", "welcome\n"));
        let motd = root.path().join("etc/motd");
        fs::write(&motd, "welcome\n").unwrap();
        let (sender, tasks) = mpsc::channel();
        let watch = Watch::start(&Tree::new(root.path()), &profile, sender).unwrap();
        fs::write(root.path().join("etc/other"), "x").unwrap();
        assert!(tasks.try_recv().is_err());
        fs::write(&motd, "one").unwrap();
        fs::write(&motd, "two").unwrap();
        assert_eq!(tasks.recv_timeout(PATIENCE), Ok(Task::Disturbed));
        assert!(tasks.try_recv().is_err(), "two changes at once are one disturbance");
        fs::remove_file(&motd).unwrap();
        assert_eq!(tasks.recv_timeout(PATIENCE), Ok(Task::Disturbed));
        drop(watch);
        assert!(tasks.recv().is_err(), "the thread ends with its watch");
    }
}
