//! The real thing: sites in real machines, each a story of its own home, whose chapters are named in the output with their
//! times. Needs root and the Debian archive. They stand in one program so that two of them run at once: much of
//! each is waiting.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the chapters' names and times are this test's report"
)]

mod convert;
mod depot;
mod install;
mod lab;
mod life;
mod overdue;
mod stay;
mod traces;
