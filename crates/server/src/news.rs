//! What counts as news from a node that is waited for.
//!
//! Who waits repeats himself and counts: `waiting for the disk (11 s)`, then `(21 s)`. Words that hold a figure and signs
//! between words (a moving star, dots) are therefore left out before what is said is compared with what was said.

use std::time::{Duration, Instant};

/// What a node last said that it had not said just before, and when.
#[derive(Debug)]
pub struct News {
    gist: String,
    at: Instant,
}

impl News {
    /// Nothing was said yet, from now on.
    pub fn none() -> News {
        News { gist: String::new(), at: Instant::now() }
    }

    /// Takes note of a node's state and of the last line on its console; says whether they are news.
    pub fn look(&mut self, detail: &str, line: &str) -> bool {
        let gist = format!("{}\n{}", gist(detail), gist(line));
        let new = gist != self.gist;
        if new {
            *self = News { gist, at: Instant::now() };
        }
        new
    }

    /// Time since the last news.
    pub fn silence(&self) -> Duration {
        self.at.elapsed()
    }
}

/// The words without a figure in them, one space between two.
fn gist(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let plain = words.filter(|word| !word.contains(|c: char| c.is_numeric()));
    plain.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the second line is news after the first.
    fn is_news(first: &str, second: &str) -> bool {
        let mut news = News::none();
        news.look("its agent's first word", first);
        news.look("its agent's first word", second)
    }

    #[test]
    fn a_wait_that_counts_says_nothing_new() {
        let waits = [
            (
                "waiting for the partition gridgate-root (1 s)",
                "waiting for the partition gridgate-root (11 s)",
            ),
            ("[    2.104] waiting for root", "[   62.731] waiting for root"),
            (
                "[*     ] A start job is running (59s / 1min 30s)",
                "[ ***  ] A start job is running (1min 1s / 1min 30s)",
            ),
            ("fsck: 4.0% ...", "fsck: 62.5% .."),
        ];
        for (first, second) in waits {
            assert!(!is_news(first, second), "{first} | {second}");
        }
    }

    #[test]
    fn another_line_or_state_is_news() {
        assert!(is_news("waiting for root (1 s)", "waiting for modules (1 s)"));
        assert!(is_news("", "[    0.000000] Linux version"));
        let mut news = News::none();
        assert!(news.look("its agent's first word", "login:"));
        assert!(news.look("its agent applies the profile", "login:"));
    }
}
