//! The lock: every package of every role, pinned by version and hash.
//!
//! As text it is TOML: sets refer to packages as `name=version`, and each package
//! stands once, in order, so that two locks can be compared line by line.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::archive::index::{is_pool_path, is_sha256};

/// The form of lock that this build writes and reads.
const VERSION: u32 = 1;

/// One package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedPackage {
    /// Debian package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the `.deb`, hex.
    pub sha256: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// Path below the mirror's base, `pool/…`.
    pub filename: String,
}

impl PinnedPackage {
    fn reference(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// The lock of a site (`site.lock`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Debian suite that the images are made of.
    pub suite: String,
    /// Packages of the base root, sorted.
    pub base: Vec<PinnedPackage>,
    /// Packages that the User Mode Linux kernel is taken from, sorted.
    pub uml: Vec<PinnedPackage>,
    /// Packages that the kernel of other VMMs' guests is taken from, sorted.
    pub linux: Vec<PinnedPackage>,
    /// Packages that QEMU is taken from, sorted.
    pub qemu: Vec<PinnedPackage>,
    /// Roles by name.
    pub roles: BTreeMap<String, RoleLock>,
}

/// One role in the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleLock {
    /// Package names for which the pins were made; other names need other pins.
    pub requested: BTreeSet<String>,
    /// Every package of the role, the base's included, sorted.
    pub packages: Vec<PinnedPackage>,
}

/// Why a lock's text was refused.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not TOML, or not of the lock's form.
    #[error("the lock cannot be read: {0}")]
    Form(#[from] toml::de::Error),
    /// Written by another version of gridgate.
    #[error("the lock has form {0}, this gridgate reads {VERSION}")]
    Version(u32),
    /// A set names a package that has no entry.
    #[error("the lock names {reference} in {set} but has no such package")]
    Missing {
        /// Which set.
        set: String,
        /// The package.
        reference: String,
    },
    /// An entry that cannot be used.
    #[error("the lock's package {name}: {field} {value:?} is not valid")]
    Field {
        /// The package.
        name: String,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The lock is of another Debian release.
    #[error("the lock is for Debian {0:?}, images are made of {1:?}")]
    Suite(String, &'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    suite: String,
    #[serde(default)]
    base: Vec<String>,
    #[serde(default)]
    uml: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    linux: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    qemu: Vec<String>,
    #[serde(default)]
    roles: BTreeMap<String, RoleDocument>,
    #[serde(default)]
    package: Vec<PinnedPackage>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleDocument {
    requested: BTreeSet<String>,
    /// Without those that are in the base at the same version.
    packages: Vec<String>,
}

impl Lock {
    /// Reads a lock's text.
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        let document: Document = toml::from_str(text)?;
        if document.version != VERSION {
            return Err(LockError::Version(document.version));
        }
        let mut known = BTreeMap::new();
        for package in document.package {
            check(&package)?;
            known.insert(package.reference(), package);
        }
        let find = |set: &str, references: Vec<String>| {
            let find = |reference: String| match known.get(&reference) {
                Some(package) => Ok(package.clone()),
                None => Err(LockError::Missing { set: set.to_owned(), reference }),
            };
            references.into_iter().map(find).collect::<Result<Vec<_>, _>>()
        };
        let base = find("base", document.base)?;
        let mut roles = BTreeMap::new();
        for (name, role) in document.roles {
            let packages = with_base(&base, find(&name, role.packages)?);
            roles.insert(name, RoleLock { requested: role.requested, packages });
        }
        Ok(Lock {
            suite: document.suite,
            uml: find("uml", document.uml)?,
            linux: find("linux", document.linux)?,
            qemu: find("qemu", document.qemu)?,
            base,
            roles,
        })
    }

    /// The lock's text; equal locks give equal texts.
    pub fn to_text(&self) -> String {
        let packages = self.packages();
        let mut roles = BTreeMap::new();
        for (name, role) in &self.roles {
            let added = role.packages.iter().filter(|package| !self.base.contains(package));
            let packages = added.map(PinnedPackage::reference).collect();
            let requested = role.requested.clone();
            roles.insert(name.clone(), RoleDocument { requested, packages });
        }
        let references = |set: &[PinnedPackage]| set.iter().map(PinnedPackage::reference).collect();
        let document = Document {
            version: VERSION,
            suite: self.suite.clone(),
            base: references(&self.base),
            uml: references(&self.uml),
            linux: references(&self.linux),
            qemu: references(&self.qemu),
            roles,
            package: packages.into_iter().cloned().collect(),
        };
        let body = toml::to_string_pretty(&document).unwrap_or_default();
        format!(
            "# Written by gridgate. Keep it with site.toml: same profile and lock, same software.\n{body}"
        )
    }

    /// Every package of the lock, each once.
    pub fn packages(&self) -> BTreeSet<&PinnedPackage> {
        let roles = self.roles.values().flat_map(|role| &role.packages);
        let others = [&self.base, &self.uml, &self.linux, &self.qemu];
        others.into_iter().flatten().chain(roles).collect()
    }

    /// Notes the packages that the User Mode Linux kernel was taken from.
    pub fn set_uml(&mut self, packages: &[PinnedPackage]) {
        self.uml = sorted(packages.to_vec());
    }

    /// Notes the packages that the kernel of other VMMs' guests was taken from.
    pub fn set_linux(&mut self, packages: &[PinnedPackage]) {
        self.linux = sorted(packages.to_vec());
    }

    /// Notes the packages that QEMU was taken from.
    pub fn set_qemu(&mut self, packages: &[PinnedPackage]) {
        self.qemu = sorted(packages.to_vec());
    }

    /// A role's pins, if they were made for exactly these package names.
    pub fn pins(&self, role: &str, requested: &BTreeSet<String>) -> Option<&[PinnedPackage]> {
        let role = self.roles.get(role).filter(|role| role.requested == *requested)?;
        Some(&role.packages)
    }
}

/// `packages` and those of the base that have no other version in it.
pub(crate) fn with_base(
    base: &[PinnedPackage],
    packages: Vec<PinnedPackage>,
) -> Vec<PinnedPackage> {
    let mut all: BTreeMap<String, PinnedPackage> =
        base.iter().map(|package| (package.name.clone(), package.clone())).collect();
    all.extend(packages.into_iter().map(|package| (package.name.clone(), package)));
    all.into_values().collect()
}

/// Sorted, each once.
pub(crate) fn sorted(mut packages: Vec<PinnedPackage>) -> Vec<PinnedPackage> {
    packages.sort();
    packages.dedup();
    packages
}

/// Hashes and file names become paths, so they are looked at closely.
fn check(package: &PinnedPackage) -> Result<(), LockError> {
    let wrong = |field, value: &str| {
        Err(LockError::Field { name: package.name.clone(), field, value: value.to_owned() })
    };
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:~".contains(&b))
    };
    if !plain(&package.name) {
        return wrong("name", &package.name);
    }
    if !plain(&package.version) {
        return wrong("version", &package.version);
    }
    if !is_sha256(&package.sha256) || package.sha256 != package.sha256.to_ascii_lowercase() {
        return wrong("sha256", &package.sha256);
    }
    if !is_pool_path(&package.filename) {
        return wrong("filename", &package.filename);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str, version: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "all".to_owned(),
            sha256: crate::hash::of_bytes(format!("{name}{version}").as_bytes()),
            size: 7,
            filename: format!("pool/main/{name}_{version}.deb"),
        }
    }

    fn lock(names: &BTreeSet<String>) -> Lock {
        let base = vec![package("base", "1"), package("libc", "2")];
        let role = |version: &str| RoleLock {
            requested: names.clone(),
            packages: with_base(&base, names.iter().map(|n| package(n, version)).collect()),
        };
        let roles = [("a".to_owned(), role("3")), ("b".to_owned(), role("4"))];
        let [uml, linux] = ["uml", "linux"].map(|name| vec![package(name, "5")]);
        let qemu = vec![package("libc", "2"), package("qemu", "6")];
        Lock { suite: "trixie".to_owned(), uml, linux, qemu, roles: roles.into(), base }
    }

    #[test]
    fn refuses_what_leaves_the_archive() {
        let text = lock(&BTreeSet::from(["x".to_owned()])).to_text();
        assert!(Lock::parse(&text).is_ok());
        let bad = text.replace("pool/main/x_3.deb", "../../etc/passwd");
        assert!(matches!(Lock::parse(&bad), Err(LockError::Field { field: "filename", .. })));
        let bad = text.replace("version = 1\n", "version = 2\n");
        assert!(matches!(Lock::parse(&bad), Err(LockError::Version(2))));
        let bad = text.replace("\"x=3\"", "\"x=9\"");
        assert!(matches!(Lock::parse(&bad), Err(LockError::Missing { .. })));
    }

    #[test]
    fn a_lock_from_before_qemu_is_read_and_stays_as_it_was() {
        let old = Lock { linux: Vec::new(), qemu: Vec::new(), ..lock(&BTreeSet::new()) };
        let text = old.to_text();
        assert!(!text.contains("linux") && !text.contains("qemu"), "{text}");
        assert_eq!(Lock::parse(&text).unwrap(), old);
    }

    proptest! {
        #[test]
        fn text_and_back(names in proptest::collection::btree_set("[a-z][a-z0-9+.-]{1,9}", 0..8)) {
            let lock = lock(&names);
            let read = Lock::parse(&lock.to_text()).unwrap();
            prop_assert_eq!(&read, &lock);
            prop_assert_eq!(read.to_text(), lock.to_text());
            prop_assert!(lock.pins("a", &names).is_some());
            prop_assert!(lock.pins("c", &names).is_none());
        }
    }
}
