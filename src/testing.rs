// SPDX-License-Identifier: GPL-2.0

//! Races on demand: what the *test build* of the module has, and the product has not.
//!
//! What: [`pause`] marks a place at which a test can hold a task; [`without`] asks whether a test
//! has taken a protection away; [`fail`] is a place at which a test can make a call fail. The test
//! build (`TEST=1 scripts/build-module`, which sets `cfg(ochre_test)`) offers three files in
//! `/sys/kernel/debug/ochre-test`:
//!
//! | file | write | read |
//! |---|---|---|
//! | `without` | names of protections, instead of those before (one of the engine's at most); nothing: all are back | those that are gone |
//! | `fail` | names of failures, which happen from now on | those that happen |
//! | `pause` | `POINT`, `POINT TID`: the next task (this one) that comes by is held; `go POINT` | each point: how often it was passed, and `armed` or the task that is held |
//!
//! Why: a race of a fault and a truncate has a window of some hundred instructions. A test that
//! only tries may run for a day without meeting it, and says nothing then. With the one task held
//! in the window the race happens each time; and with the protection away the harm must show, or
//! the test has no eyes.
//!
//! In the product all of this is constant and empty: no instruction and no string of it is left.
//!
//! Hazard: without a protection, files get each other's bytes. The test build says so when it is
//! loaded, and marks the kernel as tainted by a test.
//!
//! Hazard: a task is held with whatever locks it has at that place. After a minute or so
//! it goes on by itself, and the log says so.
#![forbid(unsafe_code)]

/// An enumeration whose members a test calls by name.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$member_doc])* $member,)* }

        #[cfg(ochre_test)]
        impl $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$member),)*];
        }
    };
}

named! {
    /// A place at which a test can hold a task.
    Point {
        /// A fault, with `invalidate_lock`, that met no claim; before fs/dax.c is called.
        FaultChecked = "fault-checked",
        /// A fault inside fs/dax.c that has looked up its block.
        FaultLookedUp = "fault-looked-up",
        /// A fault inside fs/dax.c that has given the file a block.
        FaultAllocated = "fault-allocated",
        /// A write that has reserved blocks; before the bytes are copied.
        WriteReserved = "write-reserved",
        /// A write that has copied its bytes; before they are published.
        WriteCopied = "write-copied",
        /// A write that has published its blocks; before stale entries go.
        WritePublished = "write-published",
        /// A write whose stale entries and claim are gone.
        WriteReleased = "write-released",
        /// Pages are unmapped and idle, and their entries gone; before the blocks go.
        LayoutBroken = "layout-broken",
        /// Blocks were freed; before anything else is done, and faults let in.
        BlocksFreed = "blocks-freed",
        /// A call that waited for a page has slept, and holds no lock yet.
        WaitOver = "wait-over",
        /// A mount's thread, before it looks at what it has; with no lock held.
        ThreadPass = "thread-pass",
        /// The mount's thread is about to look for a file that a crash left on the orphan table.
        Orphan = "orphan",
        /// The mount's thread has seen that something of an inode is pending, and holds none of its locks.
        Settle = "settle",
        /// A memory failure has been dealt with, but for the reference to the inode; the failure mutex is held.
        FailureTold = "failure-told",
        /// A new access or modification time is in memory; before it is stored.
        TimesChosen = "times-chosen",
        /// A call has failed, and what was stored to the pages that it unmapped is written back.
        WrittenBack = "written-back",
        /// The mount's thread has found nothing more to do for an inode, and will let go of it.
        Settled = "settled",
        /// The number of a directory's parent was read, on behalf of a handle; before that inode is looked for.
        ParentRead = "parent-read",
        /// The parent's inode is in the cache, locked; before its record is read.
        ParentNew = "parent-new",
    }
}

named! {
    /// What keeps a race from doing harm.
    Protection {
        /// Faults take `invalidate_lock`.
        FaultLock = "fault-lock",
        /// Claims on ranges that get blocks exclude each other.
        Claims = "claims",
        /// A fault looks for a claim again after it has looked up its block.
        LookAgain = "look-again",
        /// A write drops the entries of zero pages that it has replaced.
        Invalidate = "invalidate",
        /// A write's claim ends after stale entries are gone, not before.
        ReleaseLast = "release-last",
        /// A fault waits for a claim outside of fs/dax.c.
        WaitOutside = "wait-outside",
        /// A write copies its bytes with page faults disabled.
        CopyWithoutFaults = "copy-without-faults",
        /// Faults do without `i_rwsem`.
        NoRwsemInFaults = "no-rwsem-in-faults",
        /// Copies in private mappings are unmapped when a file becomes shorter.
        UnmapCopies = "unmap-copies",
        /// Pages that somebody holds are looked for before their blocks go.
        LookForHolders = "look-for-holders",
        /// Only pages of the range that changes are waited for.
        OnlyTheRange = "only-the-range",
        /// `i_rwsem` is not held while a call waits for a page.
        WaitUnlocked = "wait-unlocked",
        /// An inode with held pages is kept from eviction.
        DeferEviction = "defer-eviction",
        /// Mapping entries are deleted before their inode goes.
        DeleteAtEvict = "delete-at-evict",
        /// A range is rounded out to 2 MiB where a page crosses its edge.
        RoundOut = "round-out",
        /// What stays of a page across the edge is written back before its entry goes.
        KeepEdges = "keep-edges",
        /// Entries of held pages stay when a truncate does not wait for them.
        KeepHeldEntries = "keep-held-entries",
        /// A block is zeroed before the file gets it from a fault.
        Zero = "zero",
        /// An error of the end of a write is carried past fs/iomap.
        CarryErrors = "carry-errors",
        /// What a write puts into a hole is not called new.
        NeverNew = "never-new",
        /// A fault that writes holds off a freeze.
        HoldFreeze = "hold-freeze",
        /// A fault that has to wait lets a freeze go on.
        LetFreeze = "let-freeze",
        /// The sleep for a held page has an end.
        WaitLimit = "wait-limit",
        /// After a sleep for a held page everything is unmapped and looked at again.
        LookAfterWait = "look-after-wait",
        /// Entries of a file that nobody uses are dropped.
        DropIdle = "drop-idle",
        /// An inode that is kept loses the mark that it is not to be cached.
        ClearDontcache = "clear-dontcache",
        /// A folio counts as shared while its entry is moved.
        ShareWhileMoved = "share-while-moved",
        /// A held page that reaches over the edge of a hole is not moved.
        ParkInside = "park-inside",
    }
}

named! {
    /// A failure that a test can have.
    Failure {
        /// A fault that has given the file a block, before the page is mapped: `EIO`.
        FaultAfterAllocation = "fault-after-allocation",
        /// The publication of what a write has copied: `EIO`.
        Publish = "publish",
        /// No failure, but a mark that any part of the kernel may set: an inode that is opened is not to be cached.
        Dontcache = "dontcache",
        /// The intent of a truncate that does not wait, as if the orphan table were full: it waits.
        TruncateIntent = "truncate-intent",
        /// The second place of a held page's entry: `ENOMEM`.
        Move = "move",
        /// What a zero-range call does after it has given holes blocks: `EIO`.
        Unwrite = "unwrite",
        /// The transaction of a truncate, when nothing of what goes is mapped any more: `ENOMEM`.
        Truncate = "truncate",
        /// No failure of the call: a truncate sets the size, and has no memory to free what is behind it.
        FreeBehind = "free-behind",
        /// The transaction of a punch, as of a truncate.
        Punch = "punch",
        /// The size that a write sets at its end: `ENOMEM`.
        Finish = "finish",
    }
}

#[cfg(not(ochre_test))]
mod product {
    use super::{Failure, Point, Protection};

    /// A place at which a test can hold the task.
    #[inline(always)]
    pub(crate) fn pause(_point: Point) {}

    /// Whether a test has taken this protection away.
    #[inline(always)]
    pub(crate) fn without(_protection: Protection) -> bool {
        false
    }

    /// Whether a test wants this to fail.
    #[inline(always)]
    pub(crate) fn fails(_failure: Failure) -> bool {
        false
    }

    /// Sleeps until `condition` holds. `EINTR`: a signal, or it took too long.
    #[inline(always)]
    pub(crate) fn poll(_condition: impl FnMut() -> bool) -> kernel::error::Result {
        Ok(())
    }
}

#[cfg(not(ochre_test))]
pub(crate) use product::{fails, pause, poll, without};

#[cfg(ochre_test)]
mod build;

#[cfg(ochre_test)]
pub(crate) use build::{fails, pause, poll, without, Controls};

/// Whether something was taken that a test can have left out: what a guard remembers for its drop.
pub(crate) struct Taken {
    #[cfg(ochre_test)]
    yes: bool,
}

impl Taken {
    /// Takes it by `take`, unless `protection` is away.
    #[inline(always)]
    pub(crate) fn unless_without(protection: Protection, take: impl FnOnce()) -> Self {
        let yes = !without(protection);
        if yes {
            take();
        }
        Self {
            #[cfg(ochre_test)]
            yes,
        }
    }

    /// It was.
    #[inline(always)]
    pub(crate) fn yes(&self) -> bool {
        #[cfg(ochre_test)]
        return self.yes;
        #[cfg(not(ochre_test))]
        true
    }
}
