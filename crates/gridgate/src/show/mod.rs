//! Everything that is written on the screen. Pure functions from data to text, but for [`screen`] and [`live`].
//!
//! | module | shows |
//! |---|---|
//! | [`style`] | colour by meaning |
//! | [`table`] | aligned columns |
//! | [`figures`] | durations, sizes, text from guests |
//! | [`nodes`], [`checks`], [`plan`] | the tables of a site |
//! | [`depot`], [`update`] | what came of work in the depot and on the lock |
//! | [`error`] | a failure |
//! | [`plain`], [`live`] | a stream of events, as lines or on a moving terminal |
//! | [`screen`] | the only writer to standard output and standard error |

pub mod checks;
pub mod depot;
pub mod drift;
pub mod error;
pub mod figures;
pub mod live;
pub mod nodes;
pub mod plain;
pub mod plan;
pub mod screen;
mod style;
pub mod table;
pub mod update;

pub use style::{Paint, Style};

#[cfg(test)]
mod tests;
