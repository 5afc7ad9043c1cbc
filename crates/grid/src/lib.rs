//! What makes a group of nodes a Grid site: its certification authority, its
//! secrets, and the checks that prove that the grid operations work.
//!
//! | module | what |
//! |---|---|
//! | [`ca`] | the site's certification authority, on the host |
//! | [`secrets`] | secrets of the site (munge key …), made once |
//! | [`checks`] | site checks as data, their order, and how their output is judged |
//!
//! It knows nothing of machines and never runs anything: the server runs the
//! checks' scripts in the nodes and brings back what they printed.

pub mod ca;
pub mod checks;
pub mod secrets;
mod store;
