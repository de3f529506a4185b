//! The gate from the command line to its files: scan, policies, waivers, baselines, comparison, verification, batches;
//! and the Action, the hook and the examples, run as a runner would.

#![cfg(unix)]

mod support;

mod gate {
    pub(crate) mod action;
    pub(crate) mod attesting;
    pub(crate) mod baselines;
    pub(crate) mod batches;
    pub(crate) mod bench;
    pub(crate) mod comparing;
    pub(crate) mod discovering;
    pub(crate) mod fleet;
    pub(crate) mod formats;
    pub(crate) mod hook;
    pub(crate) mod interrupted;
    pub(crate) mod outcomes;
    pub(crate) mod policies;
    pub(crate) mod printing;
    pub(crate) mod resumed;
    pub(crate) mod scanning;
    pub(crate) mod settings;
    pub(crate) mod tensors;
    pub(crate) mod verifying;
    pub(crate) mod waivers;
}
