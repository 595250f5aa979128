// SPDX-License-Identifier: GPL-2.0

//! The Ochre engine for userspace: the same files that the kernel module is built from.
#![no_std]

pub mod engine;
pub mod platform;
