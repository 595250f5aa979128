// SPDX-License-Identifier: GPL-2.0

//! The crash explorer: cuts the power of a simulated machine wherever it may hurt, and judges what the engine makes of what is
//! left. docs/crash-consistency.md says what is promised, what is tried, and what came out.
//!
//! [`plan`] chooses sequences of operations ([`op`]) on filesystems ([`stage`]). [`world`] runs them on the engine beside a
//! model ([`model`]); [`arena`] is the medium, which records ([`trace`]). [`explore`] forms the images, [`judge`] judges them,
//! [`run`] spreads it over the machine's CPUs.

pub mod arena;
pub mod directed;
pub mod explore;
pub mod judge;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod op;
pub mod plan;
mod populate;
pub mod run;
pub mod stage;
pub mod trace;
pub mod world;
