// SPDX-License-Identifier: GPL-2.0

//! Large filesystems for tests and measurements.
//!
//! [`Sparse`] is memory of any size that holds only what was stored; [`tree::populate`] fills a filesystem on it with a tree as
//! people have them, and [`Sparse::save`] writes that to a sparse image file. [`Counting`] counts what is done to a medium.
//!
//! What a file holds does not matter to mount and check, so no data is stored: an image of a million files is as large as its
//! metadata.

pub mod counting;
pub mod sparse;
pub mod tree;
pub mod wear;

pub use counting::{Accesses, Counting};
pub use sparse::Sparse;
