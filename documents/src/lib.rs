//! What every part of the program that writes something down needs, and only one of each may exist.
//!
//! [`characters`] knows which characters hide, move or steer what is shown, and spells them out. [`write`] puts a file in its
//! place whole or not at all, and never through a link that somebody else laid there. [`page`] forbids the pages that are written to
//! run or load anything but what they are made with. [`read`] takes plain files only, [`lock`] lets one process at a time into a folder,
//! [`paths`] tells paths apart that are no text, and [`steps`] ends a process where a test wants it to. The crate knows no model and no
//! report.

pub mod characters;
pub mod lock;
pub mod page;
pub mod paths;
pub mod read;
pub mod steps;
pub mod write;
