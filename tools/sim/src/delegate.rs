// SPDX-License-Identifier: GPL-2.0

//! Media that are another one but for a few of their methods.

/// Within `impl Media for`: the methods named are those of a field.
///
/// ```ignore
/// impl Media for Slow {
///     ochre_sim::delegate!(media: size read read_u64);
///     // ... and the others
/// }
/// ```
#[macro_export]
macro_rules! delegate {
    ($field:ident: $($method:ident)*) => {
        $($crate::delegate!(@ $field $method);)*
    };
    (@ $field:ident size) => {
        fn size(&self) -> u64 {
            self.$field.size()
        }
    };
    (@ $field:ident read) => {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
            self.$field.read(address, buffer)
        }
    };
    (@ $field:ident read_u64) => {
        fn read_u64(&self, address: u64) -> Result<u64> {
            self.$field.read_u64(address)
        }
    };
    (@ $field:ident store) => {
        fn store(&self, address: u64, bytes: &[u8]) {
            self.$field.store(address, bytes);
        }
    };
    (@ $field:ident store_u64) => {
        fn store_u64(&self, address: u64, value: u64) {
            self.$field.store_u64(address, value);
        }
    };
    (@ $field:ident store_through) => {
        fn store_through(&self, address: u64, bytes: &[u8]) {
            self.$field.store_through(address, bytes);
        }
    };
    (@ $field:ident zero) => {
        fn zero(&self, address: u64, len: u64) {
            self.$field.zero(address, len);
        }
    };
    (@ $field:ident zero_through) => {
        fn zero_through(&self, address: u64, len: u64) {
            self.$field.zero_through(address, len);
        }
    };
    (@ $field:ident write_back) => {
        fn write_back(&self, address: u64, len: u64) {
            self.$field.write_back(address, len);
        }
    };
    (@ $field:ident fence) => {
        fn fence(&self) {
            self.$field.fence();
        }
    };
    (@ $field:ident drain) => {
        fn drain(&self) {
            self.$field.drain();
        }
    };
    (@ $field:ident is_synchronous) => {
        fn is_synchronous(&self) -> bool {
            self.$field.is_synchronous()
        }
    };
    (@ $field:ident sync_device) => {
        fn sync_device(&self) -> Result {
            self.$field.sync_device()
        }
    };
    (@ $field:ident phase) => {
        fn phase(&self) -> u64 {
            self.$field.phase()
        }
    };
}
