// SPDX-License-Identifier: GPL-2.0

//! The Ochre engine for userspace: the same files that the kernel module is built from.
#![no_std]

pub mod engine;
pub mod platform;

/// For an `impl Media` of a medium whose every store is there at once and for good: what follows from that.
#[macro_export]
macro_rules! stores_are_immediate {
    () => {
        fn store_u64(&self, address: u64, value: u64) {
            self.store(address, &value.to_le_bytes());
        }

        fn store_through(&self, address: u64, bytes: &[u8]) {
            self.store(address, bytes);
        }

        fn zero_through(&self, address: u64, len: u64) {
            self.zero(address, len);
        }

        fn write_back(&self, _address: u64, _len: u64) {}

        fn fence(&self) {}

        fn drain(&self) {}

        fn is_synchronous(&self) -> bool {
            true
        }

        fn sync_device(&self) -> $crate::engine::error::Result {
            Ok(())
        }
    };
}
