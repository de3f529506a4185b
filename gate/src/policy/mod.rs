//! What a repository of adapters accepts: [`Policy`] says what follows from the findings of the
//! [`rules`](crate::rules), for which paths, and what is asked of base and adapters besides.

mod file;
mod paths;
mod read;

pub use file::{
    AllowedSection, BaseSection, CompareSection, DEFAULT_POLICY, Policy, PolicyError, ProfileSection, QuestionsSection,
    Settings, Waiver,
};
