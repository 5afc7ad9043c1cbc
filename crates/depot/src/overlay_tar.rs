//! What a role image has beside its packages, as a tar archive: for nodes that install themselves from packages.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use crate::error::DepotError;
use crate::finish;
use crate::image::RoleImageRequest;
use crate::modules::Modules;

/// Writes the overlay of a role: kernel modules, then files, then links. Everything belongs to root.
pub fn write_overlay(request: &RoleImageRequest, out: &mut dyn Write) -> Result<(), DepotError> {
    let what = request.modules.clone().unwrap_or_default();
    let mut archive = Builder::new(out);
    archive.follow_symlinks(false);
    if let Some(path) = &request.modules {
        let release = path.file_name().unwrap_or_default();
        let target = std::path::Path::new("usr/lib/modules").join(release);
        archive.append_dir_all(target, path).map_err(DepotError::io("pack", path))?;
    }
    add(&mut archive, request).map_err(DepotError::io("pack the overlay with", &what))?;
    archive.finish().map_err(DepotError::io("pack the overlay with", &what))
}

/// The release of the kernel whose modules the overlay of `request` holds; empty when it holds none.
pub fn overlay_release(request: &RoleImageRequest) -> Result<String, DepotError> {
    match &request.modules {
        Some(path) => Ok(Modules::measure(path)?.release),
        None => Ok(String::new()),
    }
}

fn add(archive: &mut Builder<&mut dyn Write>, request: &RoleImageRequest) -> io::Result<()> {
    let overlay = &request.overlay;
    for file in &overlay.files {
        let mut header = header(EntryType::Regular, file.mode & 0o7777);
        header.set_size(file.content.len() as u64);
        archive.append_data(&mut header, relative(&file.path), file.content.as_slice())?;
    }
    let is_there = |path: &str| overlay.files.iter().any(|file| file.path == path);
    for (path, target) in finish::links(overlay, &is_there) {
        let mut header = header(EntryType::Symlink, 0o777);
        archive.append_link(&mut header, relative(&path), target)?;
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::OverlayFile;

    #[test]
    fn files_and_links_are_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("6.1-x");
        std::fs::create_dir_all(modules.join("kernel")).unwrap();
        std::fs::write(modules.join("kernel/a.ko"), b"module").unwrap();
        let mut request =
            RoleImageRequest { modules: Some(modules), ..RoleImageRequest::default() };
        request.overlay.files.push(OverlayFile {
            path: "/etc/systemd/system/a.service".to_owned(),
            mode: 0o640,
            content: b"unit".to_vec(),
        });
        let wants = "multi-user.target.wants".to_owned();
        request.overlay.enabled_units =
            vec![("a.service".to_owned(), wants.clone()), ("b.service".to_owned(), wants)];
        let mut bytes = Vec::new();
        write_overlay(&request, &mut bytes).unwrap();
        assert_eq!(overlay_release(&request).unwrap(), "6.1-x");
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            found.push((entry.path().unwrap().display().to_string(), link.unwrap_or_default()));
        }
        let link = |path: &str, target: &str| (path.to_owned(), target.to_owned());
        assert!(found.contains(&link("usr/lib/modules/6.1-x/kernel/a.ko", "")), "{found:?}");
        assert!(found.contains(&link("etc/systemd/system/a.service", "")));
        let wants = "etc/systemd/system/multi-user.target.wants";
        let own = link(&format!("{wants}/a.service"), "/etc/systemd/system/a.service");
        let other = link(&format!("{wants}/b.service"), "/usr/lib/systemd/system/b.service");
        assert!(found.contains(&own) && found.contains(&other), "{found:?}");
    }
}
