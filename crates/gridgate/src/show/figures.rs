//! Durations, sizes, and text that came from a guest.

/// `240 ms`, `3.2 s`, `2 min 05 s`, `3 h 12 min`.
pub fn millis(millis: u64) -> String {
    let seconds = millis / 1000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `512 B`, `1.5 KiB`, `84 MiB`, `20 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 && value.fract() > 0.04 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Part and whole of a progress: `34 MiB of 210 MiB`, `12 of 266 packages`.
pub fn progress(done: u64, total: u64, unit: &str) -> String {
    match (unit, total) {
        ("bytes", 0) => bytes(done),
        ("bytes", _) => format!("{} of {}", bytes(done), bytes(total)),
        (_, 0) => format!("{done} {unit}"),
        _ => format!("{done} of {total} {unit}"),
    }
}

/// Text from a guest without what could move the cursor or colour the screen: escape sequences and other
/// control characters vanish, tabs become blanks, blanks at the end go.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\u{1b}' => skip_escape(&mut rest),
            '\t' => clean.push(' '),
            '\n' => clean.push('\n'),
            _ if next.is_control() => {}
            _ => clean.push(next),
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// Skips what follows ESC: a CSI sequence up to its final byte, an OSC string up to its end, else one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => {
            while rest.next().is_some_and(|next| !('\u{40}'..='\u{7e}').contains(&next)) {}
        }
        Some(']') => {
            while let Some(next) = rest.next() {
                if next == '\u{7}' || (next == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(millis(0), "0 ms");
        assert_eq!(millis(999), "999 ms");
        assert_eq!(millis(4_370), "4.3 s");
        assert_eq!(millis(125_000), "2 min 05 s");
        assert_eq!(millis(11_520_000), "3 h 12 min");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(84 << 20), "84 MiB");
        assert_eq!(bytes(20 << 30), "20 GiB");
        assert_eq!(progress(12, 266, "packages"), "12 of 266 packages");
        assert_eq!(progress(12, 0, "files"), "12 files");
    }

    #[test]
    fn guests_cannot_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m\tx\r\n"), "red x");
        assert_eq!(printable("\u{1b}]0;title\u{7}after\u{8}"), "after");
        assert_eq!(printable("cut \u{1b}[3"), "cut");
    }
}
