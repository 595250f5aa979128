// SPDX-License-Identifier: GPL-2.0

//! Mount contexts: from the first option to the mounted super block, and remounts.
//!
//! What: a filesystem lists its options as [`Parameter`]s, gets each through
//! [`Operations::parse`], and finally [`Operations::fill`] or [`Operations::reconfigure`].
//! [`Log`] is where messages to the person who mounts go: into the kernel log *and* into the
//! context, from which `fsopen(2)` callers (mount(8) is one) read it.
//!
//! Why both: `mount(2)` callers have nothing but an errno and the kernel log, and a boot script's
//! mount error is looked for in the log as well.
//!
//! Hazard: an option that the parser does not know is not an error yet (`ENOPARAM`): it may be one
//! that the VFS handles, of which `source` is the only one. Everything else is refused here, by
//! name, since the VFS would tell the context only.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h),
//! [`include/linux/fs_parser.h`](srctree/include/linux/fs_parser.h).

use super::{
    inode::INode,
    memalloc::NofsScope,
    super_block::{self, SuperBlock},
    Complete, FileSystem,
};
use crate::bindings::c;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    error::{from_result, to_result},
    fmt,
    prelude::*,
    str::BStr,
    sync::aref::ARef,
    types::ForeignOwnable,
};

/// Most options a filesystem may have.
const PARAMETERS_MAX: usize = 15;

/// A mount option.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: &'static CStr,
    /// What [`Operations::parse`] is given to tell it by.
    pub(crate) token: u8,
    /// Whether it has a value. A name may be listed once with and once without.
    pub(crate) kind: ParameterKind,
}

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    /// `name`
    Flag,
    /// `name=text`
    String,
}

/// The value of an option.
pub(crate) enum Value<'a> {
    /// There is none.
    Flag,
    /// Text.
    String(&'a [u8]),
}

/// What a filesystem does to be mounted.
pub(crate) trait Operations: FileSystem {
    /// The options it knows.
    const PARAMETERS: &'static [Parameter];

    /// Takes one option.
    fn parse(options: &mut Self::Options, token: u8, value: Value<'_>, log: &Log<'_>) -> Result;

    /// Mounts what is on the block device; returns the root directory.
    fn fill(
        new: super_block::New<'_, Self>,
        options: &Self::Options,
        log: &Log<'_>,
    ) -> Result<ARef<INode<Self>>>;

    /// Changes options of a mounted filesystem.
    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &Self::Options,
        read_only: bool,
        log: &Log<'_>,
    ) -> Result;
}

/// Where messages about a mount go.
pub(crate) struct Log<'a> {
    context: *mut c::fs_context,
    device: &'a CStr,
}

impl Log<'_> {
    /// Says why the mount fails.
    pub(crate) fn error(&self, message: fmt::Arguments<'_>) {
        self.message(b'e', &message);
    }

    /// Says what the mount goes on in spite of.
    pub(crate) fn warn(&self, message: fmt::Arguments<'_>) {
        self.message(b'w', &message);
    }

    fn message(&self, level: u8, message: &fmt::Arguments<'_>) {
        // SAFETY: The context is alive by the type's construction; `%pA` takes a pointer to
        // `Arguments`.
        unsafe {
            c::ochre_mount_message(
                self.context,
                level,
                self.device.as_char_ptr(),
                ptr::from_ref(message).cast(),
            );
        }
    }
}

/// The log of a context.
///
/// # Safety
///
/// `context` is alive for `'a`, and its source does not change.
unsafe fn log_of<'a>(context: *mut c::fs_context) -> Log<'a> {
    // SAFETY: By the caller's promise: `source` is null or a string.
    let device = unsafe {
        let source = (*context).source;
        let root = (*context).root;
        if !root.is_null() {
            CStr::from_char_ptr((*(*root).d_sb).s_id.as_ptr())
        } else if source.is_null() {
            c"mount"
        } else {
            CStr::from_char_ptr(source)
        }
    };
    Log { context, device }
}

/// The tables of C functions.
struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    const CONTEXT: c::fs_context_operations = c::fs_context_operations {
        free: Some(Self::free),
        dup: None,
        parse_param: Some(Self::parse_param),
        parse_monolithic: None,
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
    };

    /// Ends with an empty entry.
    const PARAMETERS: [c::fs_parameter_spec; PARAMETERS_MAX + 1] = {
        let mut table = [const { Self::spec(ptr::null(), None, 0) }; PARAMETERS_MAX + 1];
        assert!(T::PARAMETERS.len() <= PARAMETERS_MAX);
        let mut i = 0;
        while i < T::PARAMETERS.len() {
            let parameter = T::PARAMETERS[i];
            table[i] = Self::spec(
                kernel::str::as_char_ptr_in_const_context(parameter.name),
                match parameter.kind {
                    ParameterKind::Flag => None,
                    ParameterKind::String => Some(c::fs_param_is_string),
                },
                parameter.token,
            );
            i += 1;
        }
        table
    };

    const fn spec(name: *const c_char, type_: c::fs_param_type, opt: u8) -> c::fs_parameter_spec {
        c::fs_parameter_spec {
            name,
            type_,
            opt,
            flags: 0,
            data: ptr::null(),
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `free` that it documents.
    unsafe extern "C" fn free(context: *mut c::fs_context) {
        // SAFETY: The VFS calls this once, at the end; the options are as `init_fs_context` set
        // them.
        unsafe {
            let options = ptr::replace(&raw mut (*context).fs_private, ptr::null_mut());
            if !options.is_null() {
                drop(<KBox<T::Options> as ForeignOwnable>::from_foreign(options));
            }
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `parse_param` that it documents.
    unsafe extern "C" fn parse_param(
        context: *mut c::fs_context,
        parameter: *mut c::fs_parameter,
    ) -> c_int {
        // SAFETY: The VFS holds the context's lock. `fs_private` is set by `init_fs_context`. The
        // parameter's string is one where its type says so.
        from_result(|| unsafe {
            let mut result = core::mem::MaybeUninit::<c::fs_parse_result>::zeroed();
            let log = log_of(context);
            let token = c::__fs_parse(
                &raw mut (*context).log,
                &raw const Self::PARAMETERS_REF[0],
                parameter,
                result.as_mut_ptr(),
            );
            let key = CStr::from_char_ptr((*parameter).key);
            if token == ENOPARAM.to_errno() {
                let source = c::vfs_parse_fs_param_source(context, parameter);
                if source == ENOPARAM.to_errno() {
                    log.error(fmt!(
                        "unknown mount option '{}'",
                        BStr::from_bytes(key.to_bytes())
                    ));
                    return Err(EINVAL);
                }
                return to_result(source).map(|()| 0);
            }
            to_result(token)?;
            let value = match (*parameter).type_() {
                c::fs_value_type_fs_value_is_string => Value::String(
                    CStr::from_char_ptr((*parameter).__bindgen_anon_1.string).to_bytes(),
                ),
                _ => Value::Flag,
            };
            let options = <KBox<T::Options> as ForeignOwnable>::borrow_mut((*context).fs_private);
            T::parse(options, token as u8, value, &log)?;
            Ok(0)
        })
    }

    const PARAMETERS_REF: &'static [c::fs_parameter_spec; PARAMETERS_MAX + 1] = &Self::PARAMETERS;

    /// # Safety
    ///
    /// For the kernel to call, as the `get_tree` that it documents.
    unsafe extern "C" fn get_tree(context: *mut c::fs_context) -> c_int {
        // SAFETY: The context is alive; `fill_super` is what the call asks for.
        unsafe { c::get_tree_bdev(context, Some(Self::fill_super)) }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `fill_super` that it documents.
    unsafe extern "C" fn fill_super(sb: *mut c::super_block, context: *mut c::fs_context) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            let sb = NonNull::new(sb).ok_or(EINVAL)?;
            // SAFETY: `get_tree_bdev` passes a super block that is new, locked, and has its block
            // device; context and options stay as they are during the call.
            unsafe {
                let options = <KBox<T::Options> as ForeignOwnable>::borrow((*context).fs_private);
                super_block::fill::<T>(sb, |new| T::fill(new, options, &log_of(context)))?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `reconfigure` that it documents.
    unsafe extern "C" fn reconfigure(context: *mut c::fs_context) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds `s_umount` of the mounted super block that `root` leads to.
        from_result(|| unsafe {
            let sb = (*(*context).root).d_sb;
            super_block::sync_filesystem(sb)?;
            let options = <KBox<T::Options> as ForeignOwnable>::borrow((*context).fs_private);
            // Flags that the caller did not mention stay as they are.
            let read_only = if (*context).sb_flags_mask & c::ochre_flags_OCHRE_SB_RDONLY != 0 {
                (*context).sb_flags & c::ochre_flags_OCHRE_SB_RDONLY != 0
            } else {
                (*sb).s_flags & c::ochre_flags_OCHRE_SB_RDONLY as usize != 0
            };
            let sb = SuperBlock::from_raw(sb);
            // See the hazard of `background`.
            let pause = sb.background().pause();
            let result = T::reconfigure(sb, options, read_only, &log_of(context));
            drop(pause);
            result.map(|()| 0)
        })
    }
}

/// `init_fs_context` of the filesystem type.
///
/// # Safety
///
/// For the kernel to call, as the `init_fs_context` that it documents.
pub(super) unsafe extern "C" fn init_fs_context<T: Complete>(
    context: *mut kernel::bindings::fs_context,
) -> c_int {
    let context = context.cast::<c::fs_context>();
    from_result(|| {
        let options = KBox::new(T::Options::default(), GFP_KERNEL)?;
        // SAFETY: The VFS passes a context that only this task works on.
        unsafe {
            (*context).fs_private = options.into_foreign();
            (*context).ops = &Tables::<T>::CONTEXT;
        }
        Ok(0)
    })
}

/// The table of options, for the filesystem type.
pub(super) fn parameters<T: Complete>() -> *const c::fs_parameter_spec {
    Tables::<T>::PARAMETERS_REF.as_ptr()
}
