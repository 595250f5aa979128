// SPDX-License-Identifier: GPL-2.0

//! Simulated persistent memory.
//!
//! [`MemoryMedia`] is plain memory: for tests of what the engine does. [`SimMedia`] knows stores, write-backs and fences, and
//! forms the images that a power cut may leave: for tests of when the engine does it. [`persistency`] has its rules alone.

pub mod crash;
mod delegate;
pub mod image;
pub mod memory;
pub mod persistency;
pub mod seed;

pub use crash::SimMedia;
pub use memory::MemoryMedia;
