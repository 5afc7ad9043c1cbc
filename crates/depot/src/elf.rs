//! Looks into ELF files, and takes debugging sections out of a kernel module (a relocatable 64-bit little-endian
//! ELF file). Section numbers stay, so symbols and relocations need no change: the
//! debugging sections become empty null sections and the rest moves together.

mod needed;

pub(crate) use needed::needed;

const HEADER: usize = 64;
const SECTION: usize = 64;

const NULL: u32 = 0;
const NOBITS: u32 = 8;

/// The file without debugging data; none when it is not such a file or has none.
pub(crate) fn without_debug(elf: &[u8]) -> Option<Vec<u8>> {
    let relocatable_64_le = elf.get(..6)? == b"\x7fELF\x02\x01" && u16_at(elf, 16)? == 1;
    if !relocatable_64_le || usize::from(u16_at(elf, 58)?) != SECTION {
        return None;
    }
    let table = usize::try_from(u64_at(elf, 40)?).ok()?;
    let (count, names) = (usize::from(u16_at(elf, 60)?), usize::from(u16_at(elf, 62)?));
    let sections: Vec<&[u8]> =
        elf.get(table..table.checked_add(count * SECTION)?)?.chunks_exact(SECTION).collect();
    let names = content(elf, sections.get(names)?)?;
    let mut out = elf.get(..HEADER)?.to_vec();
    let mut new_table = Vec::with_capacity(count * SECTION);
    let mut found = false;
    for section in sections {
        let name = names.get(usize::try_from(u32_at(section, 0)?).ok()?..)?;
        let kind = u32_at(section, 4)?;
        let mut section = section.to_vec();
        if name.starts_with(b".debug_") || name.starts_with(b".rela.debug_") {
            found = true;
            // The name stays; type, flags, place, size and links go.
            section[4..].fill(0);
        } else if kind != NULL && kind != NOBITS {
            let alignment = usize::try_from(u64_at(&section, 48)?).ok()?.clamp(1, 4096);
            let data = content(elf, &section)?;
            out.resize(out.len().next_multiple_of(alignment), 0);
            section[24..32].copy_from_slice(&(out.len() as u64).to_le_bytes());
            out.extend_from_slice(data);
        }
        new_table.extend_from_slice(&section);
    }
    out.resize(out.len().next_multiple_of(8), 0);
    let at = out.len() as u64;
    out[40..48].copy_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&new_table);
    found.then_some(out)
}

fn content<'a>(elf: &'a [u8], section: &[u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(u64_at(section, 24)?).ok()?;
    let size = usize::try_from(u64_at(section, 32)?).ok()?;
    elf.get(start..start.checked_add(size)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file of sections: (name, type, content).
    fn file(sections: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[..6].copy_from_slice(b"\x7fELF\x02\x01");
        out[16] = 1;
        out[58] = SECTION as u8;
        let mut names = vec![0];
        let mut table = vec![0; SECTION];
        for (name, kind, data) in sections.iter().chain([&(".shstrtab", 3, &b""[..])]) {
            let mut section = [0; SECTION];
            section[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            let data = if *name == ".shstrtab" { &names[..] } else { data };
            section[24..32].copy_from_slice(&(out.len() as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
            section[48] = 8;
            out.extend_from_slice(data);
            table.extend_from_slice(&section);
        }
        let (at, count) = (out.len() as u64, table.len() / SECTION);
        out[40..48].copy_from_slice(&at.to_le_bytes());
        out[60] = count as u8;
        out[62] = count as u8 - 1;
        out.extend_from_slice(&table);
        out
    }

    #[test]
    fn takes_only_debugging_sections() {
        let big = [7; 900];
        let elf = file(&[(".text", 1, b"code"), (".debug_info", 1, &big), (".data", 1, b"data!")]);
        let small = without_debug(&elf).unwrap();
        assert!(small.len() < elf.len() - 800);
        let table = u64_at(&small, 40).unwrap() as usize;
        let section = |n: usize| &small[table + n * SECTION..table + (n + 1) * SECTION];
        assert_eq!(content(&small, section(1)), Some(&b"code"[..]));
        assert_eq!((u32_at(section(2), 4), u64_at(section(2), 32)), (Some(0), Some(0)));
        assert_eq!(content(&small, section(3)), Some(&b"data!"[..]));
        assert_eq!(without_debug(b"\x7fELF\x02\x01"), None);
        assert_eq!(without_debug(&file(&[(".text", 1, b"code")])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(cut in 0_usize..1400, at in 0_usize..1400, byte in any::<u8>()) {
            let mut elf = file(&[(".text", 1, b"code"), (".debug_x", 1, &[1; 900])]);
            let length = elf.len();
            elf[at % length] = byte;
            elf.truncate(length.min(cut + 60));
            let _ = without_debug(&elf);
        }
    }
}
