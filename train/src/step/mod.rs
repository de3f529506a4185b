//! The parts of a training step, in the order in which they run.
//!
//! [`format`](mod@format) spells the prompt, [`scaffold`] plans where the expert speaks, [`rollout`] lets expert and
//! model write together, [`group`] has them judged and compares them by [`advantage`], [`credit`] weighs each token,
//! [`gradient`] walks back through the layers, [`optimizer`] steps.

pub mod advantage;
pub mod credit;
pub mod format;
pub mod gradient;
pub mod group;
pub mod optimizer;
pub mod rollout;
pub mod scaffold;
