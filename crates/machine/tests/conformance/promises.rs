//! The promises, by what they are about.

pub mod console;
pub mod domain;
pub mod failure;
pub mod isolation;
pub mod life;
pub mod live;
pub mod network;
