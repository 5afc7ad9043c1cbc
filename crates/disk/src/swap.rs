//! The header that makes a partition a swap space; format as in the kernel's
//! `include/linux/swap.h` (`union swap_header`), version 1, 4 KiB pages.

/// Bytes of the header: one page.
pub(crate) const PAGE: usize = 4096;

/// Where the fields stand.
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const UUID: usize = 1036;
const LABEL: usize = 1052;
const MAGIC: usize = PAGE - SIGNATURE.len();
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";

/// Bytes that the field for the label has.
const LABEL_LENGTH: usize = 16;

/// The first page of a swap space of `length` bytes; `None` when it has more pages than
/// the header can count.
pub(crate) fn header(length: u64, label: &str, uuid: [u8; 16]) -> Option<[u8; PAGE]> {
    let last_page = u32::try_from((length / PAGE as u64).checked_sub(1)?).ok()?;
    let mut page = [0; PAGE];
    page[VERSION..VERSION + 4].copy_from_slice(&1_u32.to_le_bytes());
    page[LAST_PAGE..LAST_PAGE + 4].copy_from_slice(&last_page.to_le_bytes());
    page[UUID..UUID + 16].copy_from_slice(&uuid);
    let label = &label.as_bytes()[..label.len().min(LABEL_LENGTH)];
    page[LABEL..LABEL + label.len()].copy_from_slice(label);
    page[MAGIC..].copy_from_slice(SIGNATURE);
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_pages_than_the_header_can_count_are_refused() {
        assert!(header((1 << 32) * PAGE as u64, "x", [0; 16]).is_some());
        assert!(header((1 << 32) * PAGE as u64 + PAGE as u64, "x", [0; 16]).is_none());
        assert!(header(0, "x", [0; 16]).is_none());
    }
}
