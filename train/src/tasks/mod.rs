//! What is learned from: problems with their expert traces, and the lines of behaviour that go with them.

pub mod anchors;
pub mod dataset;
