//! Kernel modules and what they need, in the order in which they can be loaded. What a
//! module needs stands in the module itself, in its section `.modinfo` as `depends=a,b`:
//! `scripts/mod/modpost.c` of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name with underscores.
    pub(crate) name: String,
    /// The ELF file.
    pub(crate) bytes: Vec<u8>,
}

/// `wanted` with what they need, from the module folder of one kernel.
pub(crate) fn load_order(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(&folder.join("kernel"), &mut files)?;
    let mut order = Vec::new();
    for name in wanted {
        add(name, &files, &mut order)?;
    }
    Ok(order)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<Module>) -> Result<()> {
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let path = files.get(name).with_context(|| format!("this kernel has no module {name}"))?;
    let packed = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    std::io::copy(&mut liblzma::read::XzDecoder::new(packed.as_slice()), &mut bytes)
        .with_context(|| format!("cannot unpack {}", path.display()))?;
    for needed in depends(&bytes) {
        add(&needed, files, order)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// The modules by name below a folder.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".ko.xz"))
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// What a module says that it needs.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        std::io::copy(&mut liblzma::read::XzEncoder::new(text, 1), &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let drivers = folder.path().join("kernel/drivers");
        fs::create_dir_all(&drivers).unwrap();
        let file = |name: &str, text: &[u8]| fs::write(drivers.join(name), packed(text)).unwrap();
        file("xen-blkback.ko.xz", b"\x7fELF\0license=GPL\0depends=xen-privcmd,crc16\0name=x\0");
        file("xen-privcmd.ko.xz", b"\x7fELF\0depends=crc16\0");
        file("crc16.ko.xz", b"\x7fELF\0depends=\0");
        let order = load_order(folder.path(), &["xen_blkback", "crc16"]).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["crc16", "xen_privcmd", "xen_blkback"]);
        let error = load_order(folder.path(), &["nothing"]).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no module nothing");
    }
}
