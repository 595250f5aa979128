// SPDX-License-Identifier: GPL-2.0

//! Damaged images, made on purpose.
//!
//! What: [`image`] walks a whole filesystem and lists its live structures, [`damage`] changes one of them and makes the
//! checksums right again, [`base`] makes small filesystems with every kind of structure in them, [`cow`] is a medium that
//! shares a base between many images, and [`trial`] lets the engine loose on one and says what came of it.
//!
//! Why with valid checksums: plain noise is caught by the checksum nearly always, and what stands behind it is never
//! reached. But a checksum says only that the bytes are those that someone wrote. A bug, or whoever made an image on
//! purpose, writes wrong ones with a right sum.
//!
//! Everything follows from a seed; a damage prints as one line, and the seed makes it again.

pub mod base;
pub mod cow;
pub mod damage;
pub mod field;
pub mod image;
pub mod pack;
pub mod runner;
pub mod shape;
pub mod targets;
pub mod trial;
