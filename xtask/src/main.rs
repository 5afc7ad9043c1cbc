//! The developer's entry: `cargo xtask <task>`.
//!
//! | task | what |
//! |---|---|
//! | `licences` | fails when a dependency has a licence that the project does not accept |

mod licences;
mod spdx;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask licences";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["licences"] => licences::check(),
        [] => bail!("no task given; {USAGE}"),
        _ => bail!("there is no task `{}`; {USAGE}", arguments.join(" ")),
    }
}
