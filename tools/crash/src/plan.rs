// SPDX-License-Identifier: GPL-2.0

//! Which sequences, in which order.
//!
//! First sequences that are made for a condition (see [`DIRECTED`]), then every operation alone on every kind of filesystem,
//! then without end: every pair of operations on every kind, in a shuffled order, with triples, long random sequences and
//! pairs that run at once on two CPUs between them. Of a pair or triple only the last operation is looked at, since a shorter sequence has shown the others: this
//! is how ACE generates workloads (Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing",
//! OSDI 2018). Sequence `n` of a seed is always the same.

use crate::explore::{mix, Sequence};
use crate::op::{number, Op, CATALOG};
use crate::stage::{Kind, KINDS};
use ochre_sim::seed::Random;

/// Sequences for conditions that pairs would meet late: a reused block, an old time, a checkpoint between.
pub const DIRECTED: &[(Kind, &[Op])] = &[
    (
        Kind::Lived,
        &[Op::SetAttributes("/foo"), Op::Checkpoint, Op::Touch("/foo")],
    ),
    (Kind::Lived, &[Op::SetAttributes("/foo"), Op::Touch("/foo")]),
    (
        Kind::Lived,
        &[
            Op::SetAttributes("/foo"),
            Op::SetAttributes("/foo"),
            Op::SetAttributes("/foo"),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Unlink("/many"),
            Op::Checkpoint,
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Unlink("/A/long"),
            Op::Append("/bar", 20_000),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Quarantine,
        &[
            Op::Append("/bar", 20_000),
            Op::Append("/foo", 200),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::UnlinkOpen("/A/foo"),
            Op::CloseAll,
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Wrapped,
        &[
            Op::Symlink("/B/tall", 4095),
            Op::SetAttributes("/foo"),
            Op::Symlink("/A/middle", 113),
        ],
    ),
    (
        Kind::Groups,
        &[
            Op::Mkdir("/M"),
            Op::Rename("/foo", "/A/renamed"),
            Op::Freeze,
        ],
    ),
    // Blocks behind the end of a file whose pages somebody holds.
    (
        Kind::Lived,
        &[
            Op::Park("/foo", 1, 1),
            Op::MapWrite("/foo", 1),
            Op::Park("/foo", 0, 3),
            Op::Truncate("/foo", 50_001),
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::LetGo("/foo"),
            Op::Write("/foo", 12 * 4096 + 77, 3000),
            Op::Park("/foo", 12, 1),
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::GrowOver("/foo"),
            Op::Append("/foo", 200),
            Op::Unlink("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::Preallocate("/foo", 8, 4, true),
            Op::Truncate("/foo", 50_001),
            Op::Punch("/foo", 0, 100),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::MapWrite("/A/pre", 4),
            Op::Park("/A/pre", 4, 1),
            Op::Preallocate("/foo", 8, 4, true),
            Op::TruncateFinish("/A/pre"),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Park("/foo", 0, 3),
            Op::Append("/bar", 20_000),
            Op::TruncateFinish("/foo"),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::Park("/A/foo", 2, 1),
            Op::UnlinkOpen("/A/foo"),
            Op::CloseAll,
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::Park("/many", 20, 1),
            Op::TruncateBegin("/many", 4096),
            Op::LetGo("/many"),
            Op::ReadOnlyAndBack,
            Op::Remount,
        ],
    ),
    (
        Kind::Asynchronous,
        &[
            Op::Park("/foo", 0, 3),
            Op::TruncateBegin("/foo", 100),
            Op::Sync,
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Asynchronous,
        &[Op::Write("/foo", 100, 5000), Op::Create("/new"), Op::Sync],
    ),
    (Kind::Lived, &[Op::Insert("/many", 250, 7)]),
    (
        Kind::Lived,
        &[Op::Insert("/many", 250, 7), Op::Collapse("/many", 101, 40)],
    ),
    (
        Kind::Full,
        &[
            Op::Collapse("/many", 101, 40),
            Op::Append("/bar", 20_000),
            Op::Insert("/A/foo", 1, 1),
        ],
    ),
];

/// The plan of a run.
pub struct Plan {
    seed: u64,
    kinds: Vec<Kind>,
}

impl Plan {
    /// On some kinds of filesystems.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self {
            seed,
            kinds: kinds.to_vec(),
        }
    }

    /// All of them.
    pub fn all(seed: u64) -> Self {
        Self::new(seed, &KINDS)
    }

    /// Sequence number `n`.
    pub fn sequence(&self, n: u64) -> Sequence {
        let seed = mix(self.seed, n) >> 16;
        let directed = DIRECTED.len() as u64;
        if n < directed {
            let (kind, ops) = DIRECTED[n as usize];
            return Sequence {
                kind,
                ops: ops.iter().filter_map(|&op| number(op)).collect(),
                seed,
                from: 0,
                moment: None,
            };
        }
        let n = n - directed;
        let (kinds, ops) = (self.kinds.len() as u64, CATALOG.len() as u64);
        let kind = |n: u64| self.kinds[(n % kinds) as usize];
        if n < kinds * ops {
            return Sequence {
                kind: kind(n),
                ops: vec![(n / kinds) as usize],
                seed,
                from: 0,
                moment: None,
            };
        }
        let n = n - kinds * ops;
        let mut random = Random::new(seed);
        random.next();
        let mut any =
            |count: u64| -> Vec<usize> { (0..count).map(|_| random.below(ops) as usize).collect() };
        match n % 8 {
            4 | 5 => self.overlapping(kind(n / 8 * 2 + n % 2), seed),
            6 => Sequence {
                kind: kind(n / 8),
                ops: any(3),
                seed,
                from: 2,
                moment: None,
            },
            7 => {
                let count = 12 + seed % 20;
                Sequence {
                    kind: kind(n / 8),
                    ops: any(count),
                    seed,
                    from: count as usize - 3,
                    moment: None,
                }
            }
            _ => {
                // A walk through all pairs on all kinds that meets each once: the step has no divisor in common with them.
                let all = kinds * ops * ops;
                let mut step = (all * 5 / 8) | 1;
                while gcd(step, all) != 1 {
                    step += 2;
                }
                let pair = (n / 8 * 4 + n % 8)
                    .wrapping_mul(step)
                    .wrapping_add(self.seed)
                    % all;
                Sequence {
                    kind: kind(pair),
                    ops: vec![(pair / kinds / ops) as usize, (pair / kinds % ops) as usize],
                    seed,
                    from: 1,
                    moment: None,
                }
            }
        }
    }

    /// Two operations at once on two CPUs, sometimes after another one.
    fn overlapping(&self, kind: Kind, seed: u64) -> Sequence {
        let mut random = Random::new(seed ^ 0x5eed);
        random.next();
        // There is one commit at a time on an asynchronous device, so nothing can come between.
        let kind = if kind == Kind::Asynchronous || kind == Kind::Fresh {
            [Kind::Full, Kind::Lived][random.below(2) as usize]
        } else {
            kind
        };
        let mut any = || random.below(CATALOG.len() as u64) as usize;
        let (outer, inner) = loop {
            let (outer, inner) = (any(), any());
            if CATALOG[inner].fits_into(CATALOG[outer]) {
                break (outer, inner);
            }
        };
        let mut ops = vec![outer, inner];
        let first = any();
        if random.below(3) == 0 {
            ops.insert(0, first);
        }
        Sequence {
            kind,
            from: ops.len() - 2,
            ops,
            seed,
            moment: Some(random.below(4)),
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn directed_operations_are_in_the_catalog() {
        for (_, ops) in DIRECTED {
            assert!(ops.iter().all(|&op| number(op).is_some()), "{ops:?}");
        }
    }

    #[test]
    fn every_pair_comes_once() {
        let plan = Plan::new(7, &[Kind::Lived]);
        let ops = CATALOG.len() as u64;
        let skip = DIRECTED.len() as u64 + ops;
        let mut seen = HashSet::new();
        for n in 0..ops * ops * 2 - 8 {
            let sequence = plan.sequence(skip + n);
            if sequence.ops.len() == 2 && sequence.moment.is_none() {
                assert!(seen.insert(sequence.ops));
            }
        }
        assert!(seen.len() as u64 >= ops * ops - 8);
    }
}
