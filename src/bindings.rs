// SPDX-License-Identifier: GPL-2.0

//! Bindings to the C side of the kernel.
//!
//! What: [`c`] joins the bindings of the `kernel` crate with those that `Kbuild` generates for
//! this module from `bindings/bindings_helper.h`, and with the C functions of
//! `bindings/helpers.c`, which wrap inlines and macros.
//!
//! Why two sets: the kernel crate's headers leave out most of what a filesystem needs
//! (`fs_context`, DAX, iomap). Generating everything anew would take half a minute a build and
//! would give each C type a second, incompatible Rust type; so only what is missing is generated
//! (`bindings/bindgen_parameters`), and everything that it mentions resolves to the kernel
//! crate's own.
//!
//! Hazard: some types that the kernel crate knows by name only (`fs_context`, `kstatfs`, …) are
//! complete here and shadow it. Function pointers in structures of the kernel crate still name
//! the empty one: cast the *pointer* inside the callback.

/// Everything C.
#[allow(
    warnings,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]
pub(crate) mod c {
    pub use kernel::bindings::*;
    use kernel::ffi;
    include!(concat!(
        env!("OCHRE_OBJ"),
        "/src/bindings/bindings_generated.rs"
    ));
}
