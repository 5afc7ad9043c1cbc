//! Reads what a check printed.

use gridgate_protocol::agent_api::RunResult;

use super::expectation::Expectation;
use super::{SiteCheck, Verdict};

/// What the output of a check shows. Exit codes prove nothing here.
pub fn judge(check: &SiteCheck, result: &RunResult) -> Verdict {
    match check.expectation {
        Expectation::Nothing => {
            Verdict::Failed { what: result.stdout.clone(), hint: String::new() }
        }
    }
}
