// SPDX-License-Identifier: GPL-2.0

//! Directories: looking up, listing, making, moving and removing names.
//!
//! What: [`Operations`] is what a filesystem does in a directory. `create`, `mkdir`, `mknod` and
//! `symlink` are one call with a [`NewNode`]; the VFS has checked permissions, and that the name
//! is free (or is not, where it has to exist).
//!
//! Locks: the VFS holds the directory's `i_rwsem` for all calls, exclusively for those that change
//! names; the [`Locked`] arguments are the evidence. It also holds that of every inode that loses
//! a name, or gets one more.
//!
//! Hazard: [`Emitter::emit`] writes to user memory and may fault, on a file of this very
//! filesystem even. The filesystem must hold no lock of its own over it that a fault takes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    attributes::{self, MntIdmap},
    dentry::{Name, Negative, Positive},
    inode::{self, INode, Locked},
    memalloc::NofsScope,
    Complete, FileSystem,
};
use crate::bindings::c;
use core::{marker::PhantomData, ptr};
use kernel::{error::from_result, prelude::*, sync::aref::ARef};

/// What to make.
pub(crate) enum NewNode<'a> {
    /// A regular file with these permissions.
    Regular(u16),
    /// A directory with these permissions.
    Directory(u16),
    /// A symbolic link to this text.
    Symlink(&'a [u8]),
    /// A device, pipe or socket: `st_mode` and device number as [`inode::encode_device`] makes it.
    Special(u16, u32),
}

impl NewNode<'_> {
    /// `st_mode` before owner and set-group-id are considered.
    pub(crate) fn mode(&self) -> u16 {
        match self {
            Self::Regular(mode) => mode & 0o7777 | c::S_IFREG as u16,
            Self::Directory(mode) => mode & 0o7777 | c::S_IFDIR as u16,
            Self::Symlink(_) => 0o777 | c::S_IFLNK as u16,
            Self::Special(mode, _) => *mode,
        }
    }
}

/// One side of a rename: a name in a locked directory.
pub(crate) struct Place<'a, T: FileSystem> {
    /// The directory.
    pub(crate) dir: Locked<'a, INode<T>>,
    /// The name in it.
    pub(crate) name: &'a [u8],
}

/// What a filesystem does in its directories. Names are 1 to 255 bytes, without NUL and slash.
pub(crate) trait Operations: FileSystem {
    /// Longest name in bytes.
    const NAME_MAX: usize;

    /// The inode behind `name`; `None` if there is no such name.
    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<ARef<INode<Self>>>>;

    /// Makes an inode, and leads the entry to it.
    fn create(
        idmap: &MntIdmap,
        dir: Locked<'_, INode<Self>>,
        entry: Negative<'_, Self>,
        node: NewNode<'_>,
    ) -> Result;

    /// Makes a regular file without a name.
    fn create_unnamed(idmap: &MntIdmap, dir: &INode<Self>, mode: u16) -> Result<ARef<INode<Self>>>;

    /// Gives an inode another name.
    fn link(
        inode: Locked<'_, INode<Self>>,
        dir: Locked<'_, INode<Self>>,
        entry: Negative<'_, Self>,
    ) -> Result;

    /// Removes a name of something that is no directory.
    fn unlink(dir: Locked<'_, INode<Self>>, entry: Positive<'_, Self>) -> Result;

    /// Removes an empty directory: `ENOTEMPTY` if it is not.
    fn rmdir(dir: Locked<'_, INode<Self>>, entry: Positive<'_, Self>) -> Result;

    /// Moves `inode` from `old` to `new`, the name of `target` (if there is one), which loses it.
    ///
    /// `inode` itself is locked only if it is no directory, or changes its parent; but nobody else
    /// can change its names.
    fn rename(
        inode: &INode<Self>,
        old: Place<'_, Self>,
        new: Place<'_, Self>,
        target: Option<Locked<'_, INode<Self>>>,
    ) -> Result;

    /// Exchanges two names: `first` is called `old` and `second` is called `new` before.
    ///
    /// As for [`Operations::rename`], not all of them are locked.
    fn exchange(
        first: &INode<Self>,
        old: Place<'_, Self>,
        second: &INode<Self>,
        new: Place<'_, Self>,
    ) -> Result;

    /// Lists entries from the emitter's position on, all but `.` and `..`.
    fn list(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result;

    /// Makes durable what was changed in the directory.
    fn sync_directory(dir: &INode<Self>) -> Result;
}

/// Kinds of inodes, for listings.
#[derive(Clone, Copy)]
pub(crate) enum EntryKind {
    /// Regular file.
    Regular = c::DT_REG as isize,
    /// Directory.
    Directory = c::DT_DIR as isize,
    /// Symbolic link.
    Symlink = c::DT_LNK as isize,
    /// Character device.
    CharDevice = c::DT_CHR as isize,
    /// Block device.
    BlockDevice = c::DT_BLK as isize,
    /// Pipe.
    Fifo = c::DT_FIFO as isize,
    /// Socket.
    Socket = c::DT_SOCK as isize,
}

/// Takes the entries of a directory.
///
/// Positions are 63 bits. A caller that can keep 31 only (`FMODE_32BITHASH`: NFS version 2, 32-bit
/// programs) is given the upper ones; entries that share them come again when such a caller comes
/// back in their midst.
pub(crate) struct Emitter<'a> {
    context: &'a mut c::dir_context,
    /// How far positions are shifted down for the caller.
    shift: u32,
}

impl Emitter<'_> {
    /// Where to begin: the first entry at or after this position.
    pub(crate) fn position(&self) -> u64 {
        match self.context.pos.max(0) as u64 {
            position @ 0..=2 => position,
            position => position << self.shift,
        }
    }

    /// Hands out an entry; false if there is no room, and the listing has to end.
    ///
    /// `next` is the position behind it.
    pub(crate) fn emit(
        &mut self,
        name: &[u8],
        ino: u64,
        kind: EntryKind,
        position: u64,
        next: u64,
    ) -> bool {
        self.set_position(position);
        // SAFETY: Context and name are alive; the name is at most 255 bytes long.
        let taken = unsafe {
            c::ochre_dir_emit(
                self.context,
                name.as_ptr().cast(),
                name.len() as c_int,
                ino,
                kind as u32,
            )
        };
        if taken {
            self.set_position(next);
        }
        taken
    }

    /// There are no more entries.
    pub(crate) fn finish(&mut self) {
        self.set_position(i64::MAX as u64);
    }

    fn set_position(&mut self, position: u64) {
        let position = position >> self.shift;
        // 0, 1 and 2 mean the start, whatever the shift.
        self.context.pos = position.clamp(2, i64::MAX as u64) as i64;
    }
}

struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    const INODE: c::inode_operations = c::inode_operations {
        lookup: Some(Self::lookup),
        create: Some(Create::<T>::FUNCTION),
        link: Some(Self::link),
        unlink: Some(Self::unlink),
        symlink: Some(Self::symlink),
        mkdir: Some(Self::mkdir),
        rmdir: Some(Self::rmdir),
        mknod: Some(Self::mknod),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        ..attributes::Tables::<T>::COMMON
    };

    const FILE: c::file_operations = c::file_operations {
        llseek: Some(Self::llseek),
        read: Some(c::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(Self::fsync),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// For the kernel to call, as the `lookup` that it documents.
    unsafe extern "C" fn lookup(
        dir: *mut c::inode,
        dentry: *mut c::dentry,
        _flags: c_uint,
    ) -> *mut c::dentry {
        let _scope = NofsScope::enter();
        // SAFETY: The directory's `i_rwsem` is held, at least shared: neither it nor the name goes.
        let (dir, name) = unsafe { (INode::<T>::from_raw(dir), Name::from_raw(dentry).bytes()) };
        if name.len() > T::NAME_MAX {
            return ENAMETOOLONG().to_ptr();
        }
        let inode = match T::lookup(dir, name) {
            Ok(None) => ptr::null_mut(),
            Ok(Some(inode)) => inode::into_raw(inode),
            Err(error) => return error.to_ptr(),
        };
        // SAFETY: The dentry is unhashed or in lookup; the call takes over the reference.
        unsafe { c::d_splice_alias(inode, dentry) }
    }

    /// # Safety
    ///
    /// As the VFS guarantees for `create`: `dir` is locked exclusively, `dentry` is negative.
    unsafe fn make(
        idmap: *mut c::mnt_idmap,
        dir: *mut c::inode,
        dentry: *mut c::dentry,
        node: NewNode<'_>,
    ) -> Result {
        let _scope = NofsScope::enter();
        // SAFETY: By the caller's promise.
        unsafe {
            T::create(
                MntIdmap::from_raw(idmap),
                Locked::new(INode::from_raw(dir)),
                Negative::from_raw(dentry),
                node,
            )
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `mkdir` that it documents.
    unsafe extern "C" fn mkdir(
        idmap: *mut c::mnt_idmap,
        dir: *mut c::inode,
        dentry: *mut c::dentry,
        mode: u16,
    ) -> *mut c::dentry {
        // SAFETY: The VFS guarantees what `make` wants.
        match unsafe { Self::make(idmap, dir, dentry, NewNode::Directory(mode)) } {
            Ok(()) => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `mknod` that it documents.
    unsafe extern "C" fn mknod(
        idmap: *mut c::mnt_idmap,
        dir: *mut c::inode,
        dentry: *mut c::dentry,
        mode: u16,
        device: c::dev_t,
    ) -> c_int {
        let node = if u32::from(mode) & c::S_IFMT == c::S_IFREG {
            NewNode::Regular(mode)
        } else {
            NewNode::Special(mode, inode::encode_device(device))
        };
        // SAFETY: The VFS guarantees what `make` wants.
        from_result(|| unsafe { Self::make(idmap, dir, dentry, node).map(|()| 0) })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `symlink` that it documents.
    unsafe extern "C" fn symlink(
        idmap: *mut c::mnt_idmap,
        dir: *mut c::inode,
        dentry: *mut c::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: The VFS guarantees what `make` wants; the target is a string.
        from_result(|| unsafe {
            let target = CStr::from_char_ptr(target).to_bytes();
            Self::make(idmap, dir, dentry, NewNode::Symlink(target)).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `tmpfile` that it documents.
    unsafe extern "C" fn tmpfile(
        idmap: *mut c::mnt_idmap,
        dir: *mut c::inode,
        file: *mut c::file,
        mode: u16,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the directory. The file's dentry is negative, and this task's;
        // `d_tmpfile` (which takes the link count down) takes over the reference.
        unsafe {
            let mode = mode & 0o7777 | c::S_IFREG as u16;
            let result =
                match T::create_unnamed(MntIdmap::from_raw(idmap), INode::from_raw(dir), mode) {
                    Ok(inode) => {
                        let inode = inode::into_raw(inode);
                        c::set_nlink(inode, 1);
                        c::d_tmpfile(file, inode);
                        0
                    }
                    Err(error) => error.to_errno(),
                };
            c::ochre_finish_open_simple(file, result)
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `link` that it documents.
    unsafe extern "C" fn link(
        old: *mut c::dentry,
        dir: *mut c::inode,
        dentry: *mut c::dentry,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds `old`, and the locks of its inode and of `dir` exclusively; the
        // new dentry is negative.
        from_result(|| unsafe {
            T::link(
                Locked::new(INode::from_raw((*old).d_inode)),
                Locked::new(INode::from_raw(dir)),
                Negative::from_raw(dentry),
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `unlink` that it documents.
    unsafe extern "C" fn unlink(dir: *mut c::inode, dentry: *mut c::dentry) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the locks of both inodes exclusively.
        from_result(|| unsafe {
            T::unlink(
                Locked::new(INode::from_raw(dir)),
                Positive::from_raw(dentry),
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `rmdir` that it documents.
    unsafe extern "C" fn rmdir(dir: *mut c::inode, dentry: *mut c::dentry) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the locks of both inodes exclusively.
        from_result(|| unsafe {
            T::rmdir(
                Locked::new(INode::from_raw(dir)),
                Positive::from_raw(dentry),
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `rename` that it documents.
    unsafe extern "C" fn rename(
        _idmap: *mut c::mnt_idmap,
        old_dir: *mut c::inode,
        old: *mut c::dentry,
        new_dir: *mut c::inode,
        new: *mut c::dentry,
        flags: c_uint,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds both directories exclusively, and the target if it is to lose its
        // name. The dentries keep names and inodes; `old` is positive, and in an exchange `new` is.
        from_result(|| unsafe {
            let place = |dir: *mut c::inode, dentry: *mut c::dentry| Place {
                dir: Locked::new(INode::<T>::from_raw(dir)),
                name: Name::from_raw(dentry).bytes(),
            };
            let inode = INode::from_raw((*old).d_inode);
            let target = (*new).d_inode;
            let (old, new) = (place(old_dir, old), place(new_dir, new));
            match flags {
                // That the new name is free the VFS has seen to.
                0 | c::RENAME_NOREPLACE => {
                    let target = (!target.is_null()).then(|| Locked::new(INode::from_raw(target)));
                    T::rename(inode, old, new, target)?;
                }
                c::RENAME_EXCHANGE => {
                    T::exchange(inode, old, INode::from_raw(target), new)?;
                }
                _ => return Err(EINVAL),
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `iterate_shared` that it documents.
    unsafe extern "C" fn iterate_shared(file: *mut c::file, context: *mut c::dir_context) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the file and the directory's lock, shared; the context is this
        // task's.
        from_result(|| unsafe {
            if !c::ochre_dir_emit_dots(file, context) {
                return Ok(0);
            }
            let narrow = (*file).f_mode & c::ochre_flags_OCHRE_FMODE_32BITHASH != 0;
            let mut emitter = Emitter {
                context: &mut *context,
                shift: if narrow { 32 } else { 0 },
            };
            T::list(INode::from_raw((*file).f_inode), &mut emitter)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `llseek` that it documents.
    unsafe extern "C" fn llseek(file: *mut c::file, offset: i64, whence: c_int) -> i64 {
        // SAFETY: The VFS holds the file.
        unsafe { c::generic_file_llseek_size(file, offset, whence, i64::MAX, i64::MAX) }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `fsync` that it documents.
    unsafe extern "C" fn fsync(file: *mut c::file, _: i64, _: i64, _: c_int) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            // SAFETY: The VFS holds the file, and so its inode.
            T::sync_directory(unsafe { INode::from_raw((*file).f_inode) })?;
            Ok(0)
        })
    }
}

#[expect(
    non_snake_case,
    reason = "stands for a constant that the kernel crate lacks"
)]
fn ENAMETOOLONG() -> Error {
    Error::from_errno(-(c::ENAMETOOLONG as c_int))
}

/// The `create` operation, in the shape that the table has room for: Linux 7.3 dropped its last
/// argument. Which one it is follows from the type of the table's field.
trait Create<T> {
    /// A function of this shape.
    const FUNCTION: Self;
}

impl<T: Complete> Create<T>
    for unsafe extern "C" fn(*mut c::mnt_idmap, *mut c::inode, *mut c::dentry, u16) -> c_int
{
    const FUNCTION: Self = {
        /// # Safety
        ///
        /// For the kernel to call, as the `create` that it documents.
        unsafe extern "C" fn create<T: Complete>(
            idmap: *mut c::mnt_idmap,
            dir: *mut c::inode,
            dentry: *mut c::dentry,
            mode: u16,
        ) -> c_int {
            // SAFETY: The VFS guarantees what `make` wants.
            from_result(|| unsafe {
                Tables::<T>::make(idmap, dir, dentry, NewNode::Regular(mode)).map(|()| 0)
            })
        }
        create::<T>
    };
}

impl<T: Complete> Create<T>
    for unsafe extern "C" fn(*mut c::mnt_idmap, *mut c::inode, *mut c::dentry, u16, bool) -> c_int
{
    const FUNCTION: Self = {
        /// # Safety
        ///
        /// For the kernel to call, as the `create` that it documents.
        unsafe extern "C" fn create<T: Complete>(
            idmap: *mut c::mnt_idmap,
            dir: *mut c::inode,
            dentry: *mut c::dentry,
            mode: u16,
            _exclusive: bool,
        ) -> c_int {
            // SAFETY: The VFS guarantees what `make` wants.
            from_result(|| unsafe {
                Tables::<T>::make(idmap, dir, dentry, NewNode::Regular(mode)).map(|()| 0)
            })
        }
        create::<T>
    };
}

/// For directories.
pub(super) fn inode_operations<T: Complete>() -> *const c::inode_operations {
    &Tables::<T>::INODE
}

/// For open directories.
pub(super) fn file_operations<T: Complete>() -> *const c::file_operations {
    &Tables::<T>::FILE
}
