//! The manager on runs of blocks, for whole traces whose forest is known.
//!
//! What a replay counts does not depend on which slot holds a block, only on the order of the free queue
//! and on which copy of a block is the oldest. Blocks of one segment of the forest that were taken, used
//! and released together stay together in both, so that one [`pool::RunPool`] entry stands for all of
//! them, and a request costs as many steps as its path has segments.

mod pool;
mod replay;
mod run;

pub(super) use replay::replay;
