// SPDX-License-Identifier: GPL-2.0

//! The calls that sequences are made of.

use proptest::prelude::*;

/// One call; the numbers choose among what there is when its turn comes.
#[derive(Clone, Debug)]
pub enum Op {
    Create(u8, u8),
    Mkdir(u8, u8),
    Symlink(u8, u8, u16),
    Tmpfile(u8, u8, bool),
    Link(u8, u8, u8),
    Remove(u8, u8),
    Rename(u8, u8, u8, u8, bool),
    Open(u8),
    CloseAll,
    Write(u8, u32, u32),
    Truncate(u8, u32),
    Punch(u8, u8, u8),
    Preallocate(u8, u8, u8, bool),
    Collapse(u8, u8, u8),
    Insert(u8, u8, u8),
    ZeroRange(u8, u32, u32, bool),
    Shatter(u8, u8),
    Fault(u8, u8),
    Fill(u8, u8),
    Attributes(u8, u32),
    Remount,
}

/// Any of them.
pub fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        6 => (n(), n()).prop_map(|(d, s)| Op::Create(d, s)),
        3 => (n(), n()).prop_map(|(d, s)| Op::Mkdir(d, s)),
        2 => (n(), n(), 1u16..4200).prop_map(|(d, s, l)| Op::Symlink(d, s, l)),
        1 => (n(), n(), any::<bool>()).prop_map(|(d, s, l)| Op::Tmpfile(d, s, l)),
        2 => (n(), n(), n()).prop_map(|(d, s, f)| Op::Link(d, s, f)),
        5 => (n(), n()).prop_map(|(d, s)| Op::Remove(d, s)),
        5 => (n(), n(), n(), n(), any::<bool>()).prop_map(|(a, b, c, d, x)| Op::Rename(a, b, c, d, x)),
        1 => n().prop_map(Op::Open),
        1 => Just(Op::CloseAll),
        8 => (n(), 0u32..400_000, 1u32..40_000).prop_map(|(f, o, l)| Op::Write(f, o, l)),
        4 => (n(), 0u32..400_000).prop_map(|(f, s)| Op::Truncate(f, s)),
        4 => (n(), 0u8..100, 1u8..40).prop_map(|(f, o, l)| Op::Punch(f, o, l)),
        3 => (n(), 0u8..100, 1u8..40, any::<bool>()).prop_map(|(f, o, l, k)| Op::Preallocate(f, o, l, k)),
        4 => (n(), 0u8..100, 1u8..40).prop_map(|(f, o, l)| Op::Collapse(f, o, l)),
        4 => (n(), 0u8..100, 1u8..40).prop_map(|(f, o, l)| Op::Insert(f, o, l)),
        4 => (n(), 0u32..400_000, 1u32..100_000, any::<bool>()).prop_map(|(f, o, l, k)| Op::ZeroRange(f, o, l, k)),
        1 => (n(), n()).prop_map(|(f, c)| Op::Shatter(f, c)),
        4 => (n(), 0u8..100).prop_map(|(f, o)| Op::Fault(f, o)),
        1 => (n(), n()).prop_map(|(d, c)| Op::Fill(d, c)),
        2 => (n(), any::<u32>()).prop_map(|(f, v)| Op::Attributes(f, v)),
        1 => Just(Op::Remount),
    ]
}
