//! Pairs of activations and of weights to numbers.
//!
//! Base and adapted model run through the layers together ([`lockstep`] yields both at every tap); each metric module
//! reduces such a pair to the plain result types of [`audit`]. This crate does not know how a result is drawn or judged.

pub mod audit;
