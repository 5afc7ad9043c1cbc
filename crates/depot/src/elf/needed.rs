//! What a dynamically linked program or library needs to be loaded: its dynamic
//! linker and the names of its libraries. Format: the System V ABI's chapter
//! "Program Loading and Dynamic Linking", elf(5).

use super::{u16_at, u32_at, u64_at};

const SEGMENT: usize = 56;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// What one file needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Absolute path of the dynamic linker; libraries have none.
    pub(crate) linker: Option<String>,
    /// Names of libraries, as searched for in the linker's folders.
    pub(crate) libraries: Vec<String>,
}

/// Reads it; none when the file is no 64-bit little-endian ELF file or is damaged.
pub(crate) fn needed(elf: &[u8]) -> Option<Needed> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" || usize::from(u16_at(elf, 54)?) != SEGMENT {
        return None;
    }
    let (table, count) = (usize::try_from(u64_at(elf, 32)?).ok()?, usize::from(u16_at(elf, 56)?));
    let segments: Vec<&[u8]> =
        elf.get(table..table.checked_add(count * SEGMENT)?)?.chunks_exact(SEGMENT).collect();
    let of_kind = |kind| segments.iter().find(move |segment| u32_at(segment, 0) == Some(kind));
    let mut found = Needed::default();
    if let Some(segment) = of_kind(PT_INTERP) {
        found.linker = Some(text(elf, offset(segment)?)?);
    }
    let Some(dynamic) = of_kind(PT_DYNAMIC) else { return Some(found) };
    let (start, size) = (offset(dynamic)?, usize::try_from(u64_at(dynamic, 32)?).ok()?);
    let entries: Vec<(u64, u64)> = elf
        .get(start..start.checked_add(size)?)?
        .chunks_exact(16)
        .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
        .collect();
    let value = |tag| entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
    let Some(strings) = value(DT_STRTAB) else { return Some(found) };
    let strings = in_file(&segments, strings)?;
    for (_, name) in entries.iter().filter(|(tag, _)| *tag == DT_NEEDED) {
        found.libraries.push(text(elf, strings.checked_add(usize::try_from(*name).ok()?)?)?);
    }
    Some(found)
}

fn offset(segment: &[u8]) -> Option<usize> {
    usize::try_from(u64_at(segment, 8)?).ok()
}

/// Where the loaded address stands in the file.
fn in_file(segments: &[&[u8]], address: u64) -> Option<usize> {
    segments.iter().find_map(|segment| {
        let (start, size) = (u64_at(segment, 16)?, u64_at(segment, 32)?);
        let inside = address.checked_sub(start)?;
        (u32_at(segment, 0)? == PT_LOAD && inside < size)
            .then(|| offset(segment)?.checked_add(usize::try_from(inside).ok()?))?
    })
}

fn text(elf: &[u8], at: usize) -> Option<String> {
    let bytes = elf.get(at..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_real_program_names_its_linker_and_libraries() {
        // Every host has a shell, and Debian's is linked to the C library alone.
        let shell = needed(&std::fs::read("/bin/sh").unwrap()).unwrap();
        assert_eq!(shell.linker.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(shell.libraries.contains(&"libc.so.6".to_owned()), "{shell:?}");
        assert_eq!(needed(b"#!/bin/sh\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(cut in 0_usize..40_000, at in 0_usize..40_000, byte in any::<u8>()) {
            let mut elf = std::fs::read("/bin/sh").unwrap();
            let length = elf.len();
            elf[at % length] = byte;
            elf.truncate(length.min(cut + 64));
            let _ = needed(&elf);
        }
    }
}
