//! The kernel proper inside a bzImage. An emulated computer takes most of a second
//! to unpack it at each boot, so it is done once here. Format: the kernel's
//! `Documentation/arch/x86/boot.rst`.

use std::io;

const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD: usize = 0x248;

/// The protocol that first has the payload's place, 2.08.
const LEAST_VERSION: u16 = 0x0208;

/// The kernel in a bzImage, as an ELF file.
pub fn vmlinux(image: &[u8]) -> io::Result<Vec<u8>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let payload = payload(image).ok_or_else(|| bad("it is no bzImage"))?;
    if !payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(bad("its kernel is not compressed with zstd"));
    }
    // One frame; the four bytes behind it tell the kernel's size to its unpacker.
    let mut unpacked = Vec::with_capacity(payload.len() * 5);
    let mut decoder = zstd::stream::read::Decoder::new(payload)?.single_frame();
    io::copy(&mut decoder, &mut unpacked)?;
    if !unpacked.starts_with(b"\x7fELF") {
        return Err(bad("what is packed in it is no ELF file"));
    }
    Ok(unpacked)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let version = u16::from_le_bytes(image.get(VERSION..VERSION + 2)?.try_into().ok()?);
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" || version < LEAST_VERSION {
        return None;
    }
    // Zero stands for four sectors.
    let sectors = match image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1) * 512 + usize::try_from(word(PAYLOAD)?).ok()?;
    image.get(start..start.checked_add(usize::try_from(word(PAYLOAD + 4)?).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(kernel: &[u8]) -> Vec<u8> {
        let mut packed = zstd::encode_all(kernel, 3).unwrap();
        packed.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        let mut image = vec![0; 3 * 512 + 16];
        image[SETUP_SECTORS] = 2;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD..PAYLOAD + 4].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(packed.len()).unwrap();
        image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&length.to_le_bytes());
        image.extend(packed);
        image
    }

    #[test]
    fn the_kernel_is_found_and_what_is_none_is_refused() {
        let kernel = b"\x7fELF and so on".repeat(100);
        assert_eq!(vmlinux(&image(&kernel)).unwrap(), kernel);
        assert!(vmlinux(&image(b"something else")).is_err());
        assert!(vmlinux(b"MZ").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0_usize..2000, byte in any::<u8>(), cut in 0_usize..2000) {
            let mut image = image(&b"\x7fELF and so on".repeat(9));
            let length = image.len();
            image[at % length] = byte;
            image.truncate(length.min(cut));
            let _ = vmlinux(&image);
        }
    }
}
