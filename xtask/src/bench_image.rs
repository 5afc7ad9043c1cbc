//! Builds the same root of about 700 packages twice, with the depot and with mmdebstrap, and compares the times.
//!
//! ```text
//! list ─depot▶ lock, packages ─┬─▶ the depot: packages → ext4 image on disk ──────────┐
//!                              └─▶ repository ─▶ mmdebstrap: → folder ─▶ mke2fs: → image ├─▶ ratios
//! mmdebstrap itself ─depot▶ a tree of loose packages ──────┘                             ┘
//! ```
//!
//! Both read the same package files, which are there before, and end with the same packages in the same versions,
//! which is checked. mmdebstrap runs in one of the depot's chambers, where flushing to disk does nothing: it is spared
//! what the depot spares itself. Nothing of the host is used.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use gridgate_depot::{
    Depot, DepotEvent, Lock, Loose, LooseRequest, Mirrors, PinnedPackage, Progress,
    RoleImageRequest,
};
use sha2::{Digest, Sha256};

/// Where unfinished trees are put by both, when there is room.
const MEMORY: &str = "/dev/shm";

/// Room that a tree of the list takes, in bytes, with some to spare.
const ROOM: u64 = 5 << 30;

/// What both leave out, as options of mmdebstrap for dpkg: the depot's own rules.
const LEFT_OUT: [&str; 10] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/gnome/help/*",
];

/// Builds an image of a list of packages with the depot and with mmdebstrap, and compares the times
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench-image", bin_name = "cargo xtask bench-image")]
struct Cli {
    /// Package names, with comments from `#` to the end of a line
    #[arg(default_value = "examples/bench/ui-700.txt")]
    list: PathBuf,
    /// How often each builds; who begins changes
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Where packages come from; else what this host's apt uses
    #[arg(long)]
    mirror: Option<String>,
    /// Folder of this benchmark; its images and roots are removed before each round
    #[arg(long, default_value = "target/bench-image")]
    folder: PathBuf,
}

/// What one build took.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: Duration,
    /// Time on cores, of this program and all that it started.
    cores: Duration,
}

struct Quiet;

impl Progress for Quiet {
    fn event(&self, event: DepotEvent) {
        if let DepotEvent::StageFinished { subject, stage, millis } = event {
            eprintln!("    {subject} {} {}", stage.word(), seconds(Duration::from_millis(millis)));
        }
    }
}

/// All of it.
pub(crate) fn main(arguments: &[std::ffi::OsString]) -> Result<i32> {
    let own = [std::ffi::OsString::from("bench-image")];
    let cli = match Cli::try_parse_from(own.iter().chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            error.print()?;
            return Ok(error.exit_code());
        }
    };
    fs::create_dir_all(&cli.folder)?;
    let bench = Bench::prepare(&cli)?;
    let mut rounds = Vec::new();
    for round in 1..=cli.rounds {
        eprintln!("round {round} of {}", cli.rounds);
        let (ours, theirs) = if round % 2 == 1 {
            let ours = bench.ours()?;
            (ours, bench.theirs()?)
        } else {
            let theirs = bench.theirs()?;
            (bench.ours()?, theirs)
        };
        rounds.push((ours, theirs));
    }
    report(&bench, &rounds);
    Ok(0)
}

struct Bench {
    depot: Depot,
    dir: PathBuf,
    mirrors: Mirrors,
    request: RoleImageRequest,
    lock: Lock,
    pins: Vec<PinnedPackage>,
    mmdebstrap: Loose,
    /// Where mmdebstrap's tree is made.
    scratch: PathBuf,
}

/// mmdebstrap's tree, and the same with an image of it.
struct Theirs {
    tree: Took,
    image: Took,
}

impl Bench {
    fn prepare(cli: &Cli) -> Result<Bench> {
        let text = fs::read_to_string(&cli.list).with_context(|| cli.list.display().to_string())?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let packages = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let request =
            RoleImageRequest { role: "bench".to_owned(), packages, ..RoleImageRequest::default() };
        let dir = cli.folder.canonicalize()?;
        let depot = Depot::open(&dir.join("depot"))?;
        let mirrors = Mirrors::discover(cli.mirror.as_deref(), None)?;
        eprintln!("mmdebstrap with what it needs, from the mirror, unless it is there");
        let mmdebstrap = depot.loose(&mirrors, &mmdebstrap_request(), &Quiet)?;
        let kept = fs::read_to_string(dir.join("lock")).ok();
        let kept = kept.map(|text| Lock::parse(&text)).transpose()?;
        eprintln!("packages, from the mirror, unless they are there");
        let built =
            depot.role_images(&mirrors, std::slice::from_ref(&request), kept.as_ref(), &Quiet)?;
        fs::write(dir.join("lock"), built.lock.to_text())?;
        let pins = built.images.first().context("no image")?.packages.clone();
        let space = rustix::fs::statvfs(MEMORY)?;
        let in_memory = space.f_bavail * space.f_frsize > ROOM;
        let scratch = if in_memory { Path::new(MEMORY) } else { &dir }.join("gridgate-bench-image");
        let bench =
            Bench { depot, dir, mirrors, request, lock: built.lock, pins, mmdebstrap, scratch };
        bench.make_repository()?;
        Ok(bench)
    }

    /// The package files by other names, with an index of just these.
    fn make_repository(&self) -> Result<()> {
        let folder = self.dir.join("repository");
        remove(&folder)?;
        fs::create_dir(&folder)?;
        let mut index = String::new();
        for PinnedPackage { sha256, size, .. } in &self.pins {
            let file = self.dir.join(format!("depot/packages/{}/{sha256}.deb", &sha256[..2]));
            let control = gridgate_deb::Deb::new(File::open(&file)?)?.control()?;
            index +=
                &format!("{control}Filename: ./{sha256}.deb\nSize: {size}\nSHA256: {sha256}\n\n");
            fs::hard_link(&file, folder.join(format!("{sha256}.deb")))?;
        }
        // mmdebstrap takes packages of the suite that it was told, which only this file tells.
        let (hash, size) = (hex::encode(Sha256::digest(&index)), index.len());
        let suite = "Suite: trixie\nCodename: trixie\nArchitectures: amd64\nSHA256:\n";
        fs::write(folder.join("Release"), format!("{suite} {hash} {size} Packages\n"))?;
        fs::write(folder.join("Packages"), index)?;
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        for name in ["images", "roots"] {
            for entry in fs::read_dir(self.dir.join("depot").join(name))? {
                remove(&entry?.path())?;
            }
        }
        // What earlier work left to be written is not this one's.
        rustix::fs::sync();
        Ok(())
    }

    fn ours(&self) -> Result<Took> {
        self.forget()?;
        eprintln!("  the depot:");
        timed(|| {
            let requests = std::slice::from_ref(&self.request);
            self.depot.role_images(&self.mirrors, requests, Some(&self.lock), &Quiet)?;
            Ok(())
        })
    }

    fn theirs(&self) -> Result<Theirs> {
        let out = &self.scratch;
        remove(out)?;
        fs::create_dir(out)?;
        rustix::fs::sync();
        eprintln!("  mmdebstrap, into a folder in {}:", out.parent().unwrap_or(out).display());
        let made = timed(|| self.run_mmdebstrap(out)).and_then(|tree| {
            self.check(&out.join("tree"))?;
            eprintln!("    folder {}", seconds(tree.wall));
            let image = timed(|| self.run_mke2fs(out))?;
            eprintln!("    image {}", seconds(image.wall));
            Ok(Theirs { tree, image })
        });
        remove(out)?;
        made
    }

    fn run_mmdebstrap(&self, out: &Path) -> Result<()> {
        let names: Vec<&str> = self.pins.iter().map(|pin| pin.name.as_str()).collect();
        let mut command = chamber(&self.mmdebstrap.root);
        command.arg("--bind").arg(bind(&self.dir.join("repository"), "repository:ro"));
        command.arg("--bind").arg(bind(out, "out")).args(["--", "mmdebstrap", "--quiet"]);
        command.args(["--mode=root", "--variant=minbase", "--format=directory"]);
        command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount");
        command.arg("--aptopt=Acquire::Languages \"none\"");
        let options = ["force-unsafe-io", "force-confold"].into_iter().chain(LEFT_OUT);
        command.args(options.map(|option| format!("--dpkgopt={option}")));
        let manuals = "for n in 1 2 3 4 5 6 7 8; do mkdir -p \"$1/usr/share/man/man$n\"; done";
        command.arg(format!("--setup-hook={manuals}"));
        command.arg(format!("--include={}", names.join(",")));
        command.args(["trixie", "/mnt/out/tree"]);
        command.arg("deb [trusted=yes] file:///mnt/repository ./");
        run(&mut command)
    }

    /// An image of mmdebstrap's tree, on disk as the depot's is.
    fn run_mke2fs(&self, out: &Path) -> Result<()> {
        let roots = fs::read_dir(self.dir.join("depot/roots"))?.next();
        let tools = match roots {
            Some(root) => root?.path().join("tree"),
            None => out.join("tree"),
        };
        let image = self.dir.join("theirs.ext4");
        let file = File::create(&image)?;
        file.set_len(8 << 30)?;
        let mut command = chamber(&tools);
        command.arg("--bind").arg(bind(&out.join("tree"), "tree:ro"));
        command.arg("--bind").arg(bind(&self.dir, "out"));
        command.args(["--", "mke2fs", "-q", "-F", "-t", "ext4", "-E"]);
        command.arg("nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1");
        command.args(["-d", "/mnt/tree", "/mnt/out/theirs.ext4"]);
        run(&mut command)?;
        file.sync_all()?;
        fs::remove_file(&image)?;
        Ok(())
    }

    /// Refuses a tree that has other packages than the depot's image.
    fn check(&self, tree: &Path) -> Result<()> {
        let status = fs::read_to_string(tree.join("var/lib/dpkg/status"))?;
        let mut found = BTreeMap::new();
        for paragraph in status.split("\n\n") {
            let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(name), Some(version)) = (field("Package: "), field("Version: ")) {
                let installed = field("Status: ") == Some("install ok installed");
                ensure!(installed, "mmdebstrap left {name} unfinished");
                found.insert(name, version);
            }
        }
        let wanted = self.pins.iter().map(|pin| (pin.name.as_str(), pin.version.as_str()));
        let wanted: BTreeMap<_, _> = wanted.collect();
        ensure!(found == wanted, "mmdebstrap installed other packages than the depot");
        Ok(())
    }
}

/// What mmdebstrap runs with, besides what it says that it depends on: what every Debian has.
const PROGRAMS: &[&str] = &[
    "mmdebstrap",
    "apt",
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "mount",
    "perl",
    "sed",
    "tar",
    "util-linux",
];

fn mmdebstrap_request() -> LooseRequest<'static> {
    LooseRequest {
        name: "mmdebstrap",
        suite: "trixie",
        packages: PROGRAMS,
        takes: |_| true,
        keeps: |_| true,
        recipe: "1",
        pins: &[],
    }
}

fn chamber(root: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["chamber", "--root"]).arg(root);
    command
}

fn bind(source: &Path, name: &str) -> std::ffi::OsString {
    let mut text = source.as_os_str().to_owned();
    text.push(":");
    text.push(name);
    text
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<String> =
            text.lines().map(|line| line.chars().take(300).collect()).collect();
        bail!("{}\n{}", output.status, lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (began, before) = (Instant::now(), on_cores()?);
    work()?;
    Ok(Took { wall: began.elapsed(), cores: on_cores()?.saturating_sub(before) })
}

/// Time on cores so far, of this program and of what it started and waited for: proc_pid_stat(5).
fn on_cores() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').context("/proc/self/stat")?.1.split_whitespace();
    // utime, stime, cutime, cstime: fields 14 to 17; the state, which comes first here, is field 3.
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn report(bench: &Bench, rounds: &[(Took, Theirs)]) {
    println!("{} packages, the same in both; wall time (time on cores)", bench.pins.len());
    println!(
        "round  depot: image    mmdebstrap: folder  and image of it   folder/depot  image/depot"
    );
    let cell = |took: &Took| format!("{} ({})", seconds(took.wall), seconds(took.cores));
    for (number, (ours, theirs)) in rounds.iter().enumerate() {
        let ratio = |their: Duration| their.as_secs_f64() / ours.wall.as_secs_f64();
        let both = Took {
            wall: theirs.tree.wall + theirs.image.wall,
            cores: theirs.tree.cores + theirs.image.cores,
        };
        println!(
            "{:<6} {:<16} {:<19} {:<17} {:<13.2} {:.2}",
            number + 1,
            cell(ours),
            cell(&theirs.tree),
            cell(&both),
            ratio(theirs.tree.wall),
            ratio(both.wall),
        );
    }
}
