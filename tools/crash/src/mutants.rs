// SPDX-License-Identifier: GPL-2.0

//! The engine's broken orderings, by name: only with the feature `mutants`.

use ochre::engine::mutant::Mutant;

/// All of them.
pub const ALL: [Mutant; 23] = [
    Mutant::NoCommitFence,
    Mutant::NoDataFence,
    Mutant::ApplyBeforeRecord,
    Mutant::ReclaimEarly,
    Mutant::CheckpointTooFar,
    Mutant::CheckpointBack,
    Mutant::NoDrain,
    Mutant::NoQuarantine,
    Mutant::FreeBeforeApply,
    Mutant::NoOrphan,
    Mutant::AcceptForged,
    Mutant::NoJournalWriteBack,
    Mutant::UnorderedReplay,
    Mutant::ReplayBelowCheckpoint,
    Mutant::NoApplyWriteBack,
    Mutant::ShortChecksum,
    Mutant::NoDeviceFlush,
    Mutant::NoTailZero,
    Mutant::TouchEarly,
    Mutant::ParkOnly,
    Mutant::ParkAll,
    Mutant::FreeBeforeSize,
    Mutant::NoNodeFence,
];

/// By name.
pub fn parse(name: &str) -> Option<Mutant> {
    ALL.into_iter().find(|m| format!("{m:?}") == name)
}
