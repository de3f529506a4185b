//! What an adapter makes of a change to its input or to its inside, tried out: not what it is, but what it does.

pub mod sweep;
