// SPDX-License-Identifier: GPL-2.0

//! Ochre, a filesystem for persistent memory: the kernel module.
//!
//! This is the root of the module's crate; `lib.rs` is that of the same engine in user space. The
//! layers, from the top: [`fs`] joins the engine to the kernel; [`vfs`] and [`media`] are the safe
//! side of the kernel's filesystem and memory interfaces; [`engine`] is the filesystem proper,
//! over [`platform`]; [`bindings`] is C. [`testing`] is empty but in the test build.

use kernel::prelude::*;

pub mod engine;
pub mod platform;

mod bindings;
mod fs;
mod media;
mod testing;
mod vfs;

module! {
    type: OchreModule,
    name: "ochre",
    authors: ["The Ochre developers"],
    description: "Ochre, a DAX filesystem for persistent memory",
    license: "GPL",
    alias: ["fs-ochre"],
}

/// The module, as long as it is loaded.
#[pin_data]
struct OchreModule {
    #[pin]
    registration: vfs::registration::Registration<fs::Ochre>,
    /// Memory of inodes; goes after the last of them.
    _cores: platform::Cores,
    /// What tests turn.
    #[cfg(ochre_test)]
    _controls: Pin<KBox<testing::Controls>>,
}

impl kernel::InPlaceModule for OchreModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _cores: platform::Cores::new()?,
            registration <- vfs::registration::Registration::new(module),
            #[cfg(ochre_test)]
            _controls: testing::Controls::new()?,
        })
    }
}
