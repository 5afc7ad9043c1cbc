//! Times the build of the four roles of a usual site, or of given packages.
//!
//! `cargo run --release -p gridgate-depot --example build -- DEPOT [--mirror BASE] [--lock FILE] [--no-uml] [--apt] [PACKAGE…]`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use gridgate_depot::{
    Depot, DepotEvent, Lock, Mirrors, Overlay, OverlayFile, Progress, RoleImageRequest, Silent,
    chamber_main,
};

const ALL: &str = "systemd-sysv udev dbus kmod openssh-server iproute2 iputils-ping procps \
    ca-certificates openssl hostname netbase";

const ROLES: [(&str, &str); 4] = [
    (
        "ce",
        "nfs-kernel-server munge slurmctld slurm-client globus-gatekeeper globus-gram-job-manager \
         globus-gram-job-manager-fork globus-gram-job-manager-fork-setup-poll \
         globus-gram-job-manager-slurm globus-gass-cache-program globus-gass-copy-progs \
         globus-gsi-cert-utils-progs globus-common-progs globus-gss-assist-progs \
         nordugrid-arc-arex nordugrid-arc-arcctl nordugrid-arc-plugins-gridftp \
         nordugrid-arc-plugins-xrootd voms-clients fetch-crl",
    ),
    (
        "se",
        "globus-gridftp-server-progs globus-gsi-cert-utils-progs globus-gss-assist-progs \
         xrootd-server xrootd-client xrootd-voms-plugins xrootd-scitokens-plugins voms-clients",
    ),
    (
        "ui",
        "globus-gram-client-tools globus-gass-copy-progs globus-gass-server-ez-progs \
         globus-proxy-utils globus-gsi-cert-utils-progs nordugrid-arc-client \
         nordugrid-arc-plugins-needed nordugrid-arc-plugins-gridftp nordugrid-arc-plugins-xrootd \
         voms-clients xrootd-client myproxy gfal2-util-scripts gfal2-plugin-http \
         gfal2-plugin-xrootd gfal2-plugin-gridftp gfal2-plugin-file curl",
    ),
    (
        "wn",
        "nfs-common munge slurmd slurm-client globus-gass-copy-progs globus-proxy-utils \
         globus-gass-cache-program nordugrid-arc-wn xrootd-client",
    ),
];

struct Printed {
    began: Instant,
    sums: Mutex<BTreeMap<(String, &'static str), u64>>,
}

impl Progress for Printed {
    fn event(&self, event: DepotEvent) {
        let at = self.began.elapsed().as_secs_f64();
        match event {
            DepotEvent::StageStarted { subject, stage, detail } => {
                println!("{at:7.2}  {subject} {} … {detail}", stage.word());
            }
            DepotEvent::StageFinished { subject, stage, millis } => {
                println!("{at:7.2}  {subject} {} took {millis} ms", stage.word());
                if let Ok(mut sums) = self.sums.lock() {
                    *sums.entry((subject, stage.word())).or_default() += millis;
                }
            }
            DepotEvent::Warning { subject, message } => println!("{at:7.2}  {subject}: {message}"),
            DepotEvent::StageProgress { .. } => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "chamber") {
        std::process::exit(chamber_main(&arguments[1..]));
    }
    let (mut mirror, mut lock_path, mut uml, mut apt) = (None, None, true, false);
    let mut words = Vec::new();
    let mut rest = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--mirror" => mirror = rest.next(),
            "--lock" => lock_path = rest.next().map(PathBuf::from),
            "--no-uml" => uml = false,
            "--apt" => apt = true,
            _ => words.push(word),
        }
    }
    let (dir, packages) = words.split_first().ok_or("which depot?")?;
    let depot = Depot::open(Path::new(dir))?;
    let depot = if apt { depot.with_apt_alone() } else { depot };
    let mirrors = Mirrors::discover(mirror.as_deref(), None)?;
    let text = lock_path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let lock = text.map(|text| Lock::parse(&text)).transpose()?;
    let began = Instant::now();
    let progress = Printed { began, sums: Mutex::default() };
    let kernel = if uml { Some(depot.uml(&mirrors, lock.as_ref(), &progress)?) } else { None };
    let modules = kernel.as_ref().map(|kernel| kernel.modules.clone());
    let requests = requests(packages, modules.as_deref());
    let built = depot.role_images(&mirrors, &requests, lock.as_ref(), &progress)?;
    println!("{:7.2}  done", began.elapsed().as_secs_f64());
    for image in &built.images {
        let (size, used) = (image.size >> 20, image.used >> 20);
        let reused = if image.reused { ", reused" } else { "" };
        let count = image.packages.len();
        println!(
            "{}: {count} packages, {used} of {size} MiB{reused}, {}",
            image.role,
            image.path.display()
        );
    }
    let mut lock = built.lock;
    if let Some(kernel) = kernel {
        lock.set_uml(&kernel.packages);
    }
    if let Some(path) = lock_path {
        std::fs::write(path, lock.to_text())?;
    }
    let again = Instant::now();
    depot.role_images(&mirrors, &requests, Some(&lock), &Silent)?;
    println!("again, all reused: {} ms", again.elapsed().as_millis());
    Ok(())
}

fn requests(packages: &[String], modules: Option<&Path>) -> Vec<RoleImageRequest> {
    let request = |role: &str, packages: BTreeSet<String>| RoleImageRequest {
        role: role.to_owned(),
        packages,
        overlay: Overlay {
            files: vec![OverlayFile {
                path: "/etc/gridgate-role".to_owned(),
                mode: 0o644,
                content: format!("{role}\n").into_bytes(),
            }],
            ..Overlay::default()
        },
        modules: modules.map(Path::to_owned),
    };
    if !packages.is_empty() {
        return vec![request("given", packages.iter().cloned().collect())];
    }
    let names = |own: &str| {
        let all = ALL.split_whitespace().chain(own.split_whitespace());
        all.map(str::to_owned).collect()
    };
    ROLES.iter().map(|(role, own)| request(role, names(own))).collect()
}
