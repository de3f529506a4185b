//! What is written down: the types of the audit, and what every part of the program that writes needs, of which only
//! one may exist.
//!
//! [`audit`] has the types of `report.json`, and reads and writes it. [`number`] and [`text`] put numbers and
//! strangers' words as a person reads them.
//!
//! [`characters`] knows which characters hide, move or steer what is shown, and spells them out. [`mod@write`] puts a
//! file in its place whole or not at all, and never through a link that somebody else laid there. [`page`] forbids the
//! pages that are written to run or load anything but what they are made with. [`read`] takes plain files only,
//! [`lock`] lets one process at a time into a folder, [`paths`] tells paths apart that are no text, and [`steps`] ends
//! a process where a test wants it to. The crate knows no model, and not how a number is measured, drawn or judged.
//!
//! ```
//! use lcr_documents::characters::{first_deceptive, visible};
//!
//! // A mark that turns the direction of text: a terminal would show another name than the file's.
//! let name = "report\u{202e}gpj.exe";
//! assert_eq!(first_deceptive(name), Some('\u{202e}'));
//! assert_eq!(visible(name), "report\\u{202e}gpj.exe");
//! ```

// What this crate reads is a stranger's: nothing in a file may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod audit;
pub mod characters;
pub mod digest;
mod error;
pub mod lock;
pub mod number;
pub mod page;
pub mod paths;
pub mod profile;
pub mod read;
pub mod rollout;
pub mod selftest;
pub mod statistics;
pub mod steps;
pub mod text;
pub mod write;

pub use error::DocumentError;
