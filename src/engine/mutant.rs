// SPDX-License-Identifier: GPL-2.0

//! Orderings that can be broken on purpose, to prove that the crash explorer notices.
//!
//! Without the feature `mutants` (so in the module and in every tool, as they are built for use) [`Mutant::active`] is the
//! constant `false` and costs nothing. With it, in two tests and in the module's test build, one mutant can be chosen at a time.

/// One broken ordering or check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mutant {
    /// No fence between record and apply.
    NoCommitFence = 1,
    /// No fence between published data and record.
    NoDataFence,
    /// Apply first, then write the record.
    ApplyBeforeRecord,
    /// Enter a segment although its records are still needed.
    ReclaimEarly,
    /// The checkpoint number is drawn after the lanes were swept, not before.
    CheckpointTooFar,
    /// An older checkpoint number may overwrite a newer one.
    CheckpointBack,
    /// The checkpoint is stored without draining the CPUs.
    NoDrain,
    /// A freed metadata block can be reused at once.
    NoQuarantine,
    /// A freed block can be allocated before its clear was applied.
    FreeBeforeApply,
    /// The orphan record is left out.
    NoOrphan,
    /// Records are accepted without their checksum.
    AcceptForged,
    /// Replay does not write the journal back first.
    NoJournalWriteBack,
    /// Replay in the order of lanes, not of numbers.
    UnorderedReplay,
    /// Replay also what lies below the checkpoint.
    ReplayBelowCheckpoint,
    /// Apply forgets the write-back of what it stored.
    NoApplyWriteBack,
    /// The record's last line is not part of the checksum.
    ShortChecksum,
    /// An asynchronous device is not flushed between record and apply.
    NoDeviceFlush,
    /// What lies behind the end of a file is not zeroed.
    NoTailZero,
    /// Times are stored alone although a record that holds older ones may be replayed.
    TouchEarly,
    /// Blocks are moved behind the end of a file without an entry in the orphan table.
    ParkOnly,
    /// Blocks that were moved behind the end of a file are recovered together with all that is there.
    ParkAll,
    /// Blocks that are pending behind the end of a file are freed before the size is durable.
    FreeBeforeSize,
    /// The nodes of a tree that was built anew are not fenced before the record with its root.
    NoNodeFence,
    /// An inode number leads to its record by arithmetic alone. (Not about crashes: the guest test `trap-forged-handle`.)
    TrustNumber,
}

#[cfg(feature = "mutants")]
static CHOSEN: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Chooses the mutant of this process; `None` for correct behaviour.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(
        mutant.map_or(0, |m| m as u32),
        core::sync::atomic::Ordering::Relaxed,
    );
}

/// Runs something with correct behaviour.
#[cfg(feature = "mutants")]
pub fn suspended<T>(run: impl FnOnce() -> T) -> T {
    let chosen = CHOSEN.swap(0, core::sync::atomic::Ordering::Relaxed);
    let value = run();
    CHOSEN.store(chosen, core::sync::atomic::Ordering::Relaxed);
    value
}

impl Mutant {
    /// Whether this one was chosen.
    #[inline(always)]
    pub fn active(self) -> bool {
        #[cfg(feature = "mutants")]
        return CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == self as u32;
        #[cfg(not(feature = "mutants"))]
        false
    }
}
