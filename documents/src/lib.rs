//! What every part of the program that writes something down needs, and only one of each may exist.
//!
//! [`characters`] knows which characters hide, move or steer what is shown, and spells them out. [`write`] puts a file in its
//! place whole or not at all, and never through a link that somebody else laid there. [`page`] forbids the pages that are written to
//! run or load anything but what they are made with. The crate knows no model and no report.

pub mod characters;
pub mod page;
pub mod write;
