//! SPDX licence expressions, as far as Cargo manifests use them: `AND`, `OR`,
//! `WITH`, parentheses, and the old `/` for `OR`.
//!
//! Grammar, loosest first:
//! ```text
//! either := both (("OR" | "/") both)*
//! both   := one ("AND" one)*
//! one    := "(" either ")" | name ["WITH" name]
//! ```

use std::iter::Peekable;
use std::vec::IntoIter;

use anyhow::{Result, bail};

/// Whether a choice among `accepted` satisfies the expression. A licence with an
/// exception is written `Apache-2.0 WITH LLVM-exception` there.
pub fn satisfied(expression: &str, accepted: &[&str]) -> Result<bool> {
    let mut parser = Parser { words: words(expression).into_iter().peekable(), accepted };
    let answer = parser.either()?;
    match parser.words.next() {
        None => Ok(answer),
        Some(word) => bail!("`{word}` is not expected there"),
    }
}

fn words(expression: &str) -> Vec<String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

struct Parser<'a> {
    words: Peekable<IntoIter<String>>,
    accepted: &'a [&'a str],
}

impl Parser<'_> {
    fn either(&mut self) -> Result<bool> {
        let mut answer = self.both()?;
        while self.takes("OR") {
            answer |= self.both()?;
        }
        Ok(answer)
    }

    fn both(&mut self) -> Result<bool> {
        let mut answer = self.one()?;
        while self.takes("AND") {
            answer &= self.one()?;
        }
        Ok(answer)
    }

    fn one(&mut self) -> Result<bool> {
        if self.takes("(") {
            let answer = self.either()?;
            if !self.takes(")") {
                bail!("a `)` is missing");
            }
            return Ok(answer);
        }
        let mut licence = self.name()?;
        if self.takes("WITH") {
            licence = format!("{licence} WITH {}", self.name()?);
        }
        Ok(self.accepted.contains(&licence.as_str()))
    }

    fn name(&mut self) -> Result<String> {
        match self.words.next() {
            Some(word) if !["AND", "OR", "WITH", "(", ")"].contains(&word.as_str()) => Ok(word),
            Some(word) => bail!("a licence is expected, not `{word}`"),
            None => bail!("it ends where a licence is expected"),
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &[&str] = &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];

    #[test]
    fn expressions_mean_what_they_say() {
        for (expression, answer) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only/MIT", true),
            ("GPL-3.0-only AND MIT", false),
            ("ISC AND (GPL-2.0 OR MIT)", true),
            ("ISC AND GPL-2.0 OR MIT", true),
            ("GPL-2.0 AND (ISC OR MIT)", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(satisfied(expression, ACCEPTED).unwrap(), answer, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND", "MIT WITH"] {
            assert!(satisfied(expression, ACCEPTED).is_err(), "{expression}");
        }
    }
}
