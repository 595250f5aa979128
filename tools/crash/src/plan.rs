// SPDX-License-Identifier: GPL-2.0

//! Which sequences, in which order, and how thoroughly each is looked at.
//!
//! First the *breadth*, with few states at each point ([`Effort::quick`](crate::explore::Effort::quick)): the sequences that
//! are made for a condition ([`DIRECTED`]), every operation of the catalog alone on every kind of filesystem, then a mixture:
//! every pair of calls, every pair of calls that can run at once on two CPUs, triples of calls, and long sequences. A *call*
//! is a kind of operation, such as rename: with which operands and on which filesystem it comes is drawn from the seed.
//!
//! Then the *depth*, with the full effort ([`Effort::default`](crate::explore::Effort::default)): the directed ones again, and without end, in turn, the operations
//! alone, which the seed shuffles, and the mixture going on. Its pairs are those of operations by now, on every kind, each once.
//!
//! Of a pair or triple only the last operation is looked at, since a shorter sequence has shown the others: this is how ACE
//! generates workloads (Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018). An
//! operation that does not apply (there is no such name) makes a sequence worthless. So a number of the plan has several
//! *candidates*, of which the first that applies is explored. Number `n` of a seed always means the same.

use crate::directed::DIRECTED;
use crate::explore::{mix, Sequence};
use crate::op::{calls, number, Op, CATALOG};
use crate::stage::{Kind, KINDS};
use ochre_sim::seed::Random;

/// Candidates for a pair or triple.
const CANDIDATES: usize = 12;
/// The mixture comes in rounds of so many pairs, overlapping pairs, triples and long sequences.
const ROUND: [(Class, u64); 4] = [
    (Class::Pair, 6),
    (Class::Overlapping, 5),
    (Class::Triple, 4),
    (Class::Long, 1),
];
/// Numbers of the plan in a round.
const IN_ROUND: u64 = 16;

/// What a sequence is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Made for a condition.
    Directed,
    /// One operation alone.
    Single,
    /// Two, one after the other.
    Pair,
    /// Three.
    Triple,
    /// Two at once, on two CPUs.
    Overlapping,
    /// A dozen and more.
    Long,
}

/// All of them.
pub const CLASSES: [Class; 6] = [
    Class::Directed,
    Class::Single,
    Class::Pair,
    Class::Triple,
    Class::Overlapping,
    Class::Long,
];

impl Class {
    /// As a summary calls them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directed => "directed",
            Self::Single => "one operation",
            Self::Pair => "pairs",
            Self::Triple => "triples",
            Self::Overlapping => "two at once",
            Self::Long => "long",
        }
    }
}

/// One number of the plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What it is there for.
    pub class: Class,
    /// Of the depth: with the full effort.
    pub deep: bool,
    /// The first of these that applies.
    pub candidates: Vec<Sequence>,
}

/// The plan of a run.
pub struct Plan {
    seed: u64,
    kinds: Vec<Kind>,
    directed: Vec<(Kind, &'static [Op])>,
    /// The catalog by calls.
    calls: Vec<Vec<usize>>,
    /// Pairs of calls that can run at once.
    overlaps: Vec<(usize, usize)>,
    /// Without a depth: the mixture goes on instead.
    quick: bool,
}

impl Plan {
    /// On some kinds of filesystems.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        let calls = calls();
        let fit = |outer: &[usize], inner: &[usize]| {
            let mut pairs = outer.iter().flat_map(|a| inner.iter().map(move |b| (a, b)));
            pairs.any(|(&a, &b)| CATALOG[b].fits_into(CATALOG[a]))
        };
        let mut overlaps = Vec::new();
        for (a, outer) in calls.iter().enumerate() {
            for (b, inner) in calls.iter().enumerate() {
                if fit(outer, inner) {
                    overlaps.push((a, b));
                }
            }
        }
        let on = |&(kind, _): &(Kind, _)| kinds.contains(&kind);
        Self {
            seed,
            kinds: kinds.to_vec(),
            directed: DIRECTED.iter().copied().filter(on).collect(),
            calls,
            overlaps,
            quick: false,
        }
    }

    /// Nothing but breadth: after it the mixture goes on with no more effort.
    pub fn quick(self) -> Self {
        Self {
            quick: true,
            ..self
        }
    }

    /// All of them.
    pub fn all(seed: u64) -> Self {
        Self::new(seed, &KINDS)
    }

    /// How many were made for a condition: the plan begins with them.
    pub fn directed(&self) -> u64 {
        self.directed.len() as u64
    }

    /// Every operation alone on every kind: so many numbers follow.
    pub fn singles(&self) -> u64 {
        self.kinds.len() as u64 * CATALOG.len() as u64
    }

    /// Pairs of calls, and of calls at once.
    pub fn pairs(&self) -> (u64, u64) {
        let calls = self.calls.len() as u64;
        (calls * calls, self.overlaps.len() as u64)
    }

    /// The numbers of the breadth; the depth begins with this one.
    pub fn breadth(&self) -> u64 {
        let (pairs, overlaps) = self.pairs();
        let rounds = pairs
            .div_ceil(ROUND[0].1)
            .max(overlaps.div_ceil(ROUND[1].1));
        self.directed() + self.singles() + rounds * IN_ROUND
    }

    /// Number `n`.
    pub fn planned(&self, n: u64) -> Planned {
        let seed = mix(self.seed, n) >> 16;
        let (directed, singles, breadth) = (self.directed(), self.singles(), self.breadth());
        let mixture = breadth - directed - singles;
        let (class, candidates) = if n < directed {
            (Class::Directed, vec![self.made_for_a_condition(n, seed)])
        } else if n < directed + singles {
            (Class::Single, self.single(n - directed, seed))
        } else if n < breadth || self.quick {
            self.mixture(n - directed - singles, seed)
        } else if n < breadth + directed {
            let n = n - breadth;
            (Class::Directed, vec![self.made_for_a_condition(n, seed)])
        } else {
            let n = n - breadth - directed;
            if n % 2 == 0 && n / 2 < singles {
                let which = self.shuffled(n / 2, singles, 1);
                (Class::Single, self.single(which, seed))
            } else {
                let before = n.div_ceil(2).min(singles);
                self.mixture(mixture + n - before, seed)
            }
        };
        Planned {
            class,
            deep: n >= breadth && !self.quick,
            candidates,
        }
    }

    /// A walk through `0..all` that meets each number once, spread over all of them from the beginning on.
    fn shuffled(&self, n: u64, all: u64, salt: u64) -> u64 {
        let random = mix(self.seed, salt) >> 32;
        // Not close to a simple fraction of `all`, and without a divisor in common with it.
        let mut step = all * 3 / 8 + random % (all / 5 + 1) + 1;
        while gcd(step, all) != 1 {
            step += 1;
        }
        let at = u128::from(n) * u128::from(step) + u128::from(random);
        (at % u128::from(all)) as u64
    }

    fn made_for_a_condition(&self, n: u64, seed: u64) -> Sequence {
        let (kind, ops) = self.directed[n as usize];
        let ops = ops.iter().filter_map(|&op| number(op)).collect();
        Sequence {
            from: 0,
            ..alone(kind, ops, seed)
        }
    }

    /// An operation alone; where it does not apply, after the one that it needs.
    fn single(&self, n: u64, seed: u64) -> Vec<Sequence> {
        let kinds = self.kinds.len() as u64;
        let (kind, op) = (self.kinds[(n % kinds) as usize], (n / kinds) as usize);
        let mut candidates = vec![alone(kind, vec![op], seed)];
        let need = CATALOG[op].needs().and_then(number);
        candidates.extend(need.map(|need| alone(kind, vec![need, op], seed)));
        candidates
    }

    fn mixture(&self, n: u64, seed: u64) -> (Class, Vec<Sequence>) {
        let (round, mut place) = (n / IN_ROUND, n % IN_ROUND);
        for (class, share) in ROUND {
            if place < share {
                let n = round * share + place;
                let candidates = match class {
                    Class::Pair => self.pair(n, seed),
                    Class::Overlapping => self.overlapping(n, seed),
                    Class::Triple => self.triple(n, seed),
                    _ => vec![self.long(seed)],
                };
                return (class, candidates);
            }
            place -= share;
        }
        (Class::Long, vec![self.long(seed)])
    }

    /// First each pair of calls once, then each pair of operations on each kind.
    fn pair(&self, n: u64, seed: u64) -> Vec<Sequence> {
        let (calls, kinds, ops) = (
            self.calls.len() as u64,
            self.kinds.len() as u64,
            CATALOG.len() as u64,
        );
        if n < calls * calls {
            let pair = self.shuffled(n, calls * calls, 2);
            return self.of_calls(&[pair / calls, pair % calls], seed);
        }
        let pair = self.shuffled(n - calls * calls, kinds * ops * ops, 3);
        let kind = self.kinds[(pair % kinds) as usize];
        let (a, b) = (pair / kinds / ops, pair / kinds % ops);
        vec![alone(kind, vec![a as usize, b as usize], seed)]
    }

    fn triple(&self, n: u64, seed: u64) -> Vec<Sequence> {
        let calls = self.calls.len() as u64;
        let all = calls * calls * calls;
        let triple = self.shuffled(n % all, all, 4);
        let triple = [
            triple / calls / calls,
            triple / calls % calls,
            triple % calls,
        ];
        self.of_calls(&triple, seed)
    }

    /// Operations of these calls: on about the same files, if there are such.
    fn of_calls(&self, calls: &[u64], seed: u64) -> Vec<Sequence> {
        let mut random = drawn(seed);
        let candidate = |n| {
            let mut ops: Vec<usize> = Vec::new();
            for &call in calls {
                let members = &self.calls[call as usize];
                let near = |&&op: &&usize| ops.iter().any(|&o| CATALOG[o].concerns(CATALOG[op]));
                let near: Vec<usize> = members.iter().filter(near).copied().collect();
                let choice = if near.is_empty() || n % 3 == 2 {
                    members
                } else {
                    &near
                };
                ops.push(any_of(&mut random, choice));
            }
            alone(any_of(&mut random, &self.kinds), ops, seed)
        };
        (0..CANDIDATES).map(candidate).collect()
    }

    fn long(&self, seed: u64) -> Sequence {
        let mut random = drawn(seed);
        let count = 12 + (seed % 20) as usize;
        let kind = any_of(&mut random, &self.kinds);
        let any = |_| random.below(CATALOG.len() as u64) as usize;
        Sequence {
            from: count - 3,
            ..alone(kind, (0..count).map(any).collect(), seed)
        }
    }

    /// Two operations at once on two CPUs, sometimes after another one.
    fn overlapping(&self, n: u64, seed: u64) -> Vec<Sequence> {
        // There is one commit at a time on an asynchronous device, so nothing can come between.
        let two = |kind: &&Kind| **kind != Kind::Asynchronous && **kind != Kind::Fresh;
        let kinds: Vec<Kind> = self.kinds.iter().filter(two).copied().collect();
        if kinds.is_empty() {
            return Vec::new();
        }
        let all = self.overlaps.len() as u64;
        let (outer, inner) = self.overlaps[self.shuffled(n % all, all, 5) as usize];
        let (outer, inner) = (&self.calls[outer], &self.calls[inner]);
        let mut fitting = Vec::new();
        for &a in outer {
            let fits = |&&b: &&usize| CATALOG[b].fits_into(CATALOG[a]);
            fitting.extend(inner.iter().filter(fits).map(|&b| (a, b)));
        }
        let mut random = drawn(seed ^ (n / all));
        let candidate = |_| {
            let (outer, inner) = any_of(&mut random, &fitting);
            let mut ops = vec![outer, inner];
            let first = random.below(CATALOG.len() as u64) as usize;
            if random.below(3) == 0 {
                ops.insert(0, first);
            }
            Sequence {
                moment: Some(random.below(4)),
                from: ops.len() - 2,
                ..alone(any_of(&mut random, &kinds), ops, seed)
            }
        };
        (0..CANDIDATES).map(candidate).collect()
    }
}

/// Operations one after the other, the last of them looked at.
fn alone(kind: Kind, ops: Vec<usize>, seed: u64) -> Sequence {
    Sequence {
        kind,
        from: ops.len().saturating_sub(1),
        ops,
        seed,
        moment: None,
    }
}

fn drawn(seed: u64) -> Random {
    let mut random = Random::new(seed ^ 0x5eed);
    random.next();
    random
}

fn any_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
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

    fn of(plan: &Plan, class: Class, numbers: std::ops::Range<u64>) -> Vec<Planned> {
        let planned = numbers.map(|n| plan.planned(n));
        planned.filter(|p| p.class == class).collect()
    }

    #[test]
    fn directed_operations_are_in_the_catalog() {
        for (_, ops) in DIRECTED {
            assert!(ops.iter().all(|&op| number(op).is_some()), "{ops:?}");
        }
    }

    #[test]
    fn the_breadth_holds_every_operation_on_every_kind() {
        let plan = Plan::all(3);
        let singles = of(&plan, Class::Single, 0..plan.breadth());
        let mut seen = HashSet::new();
        for planned in &singles {
            assert!(!planned.deep);
            let first = &planned.candidates[0];
            assert!(first.ops.len() == 1 && seen.insert((first.kind as u8, first.ops[0])));
        }
        assert_eq!(seen.len(), KINDS.len() * CATALOG.len());
    }

    #[test]
    fn the_breadth_holds_every_pair_of_calls() {
        let plan = Plan::all(4);
        let call = |op: usize| plan.calls.iter().position(|c| c.contains(&op));
        for class in [Class::Pair, Class::Overlapping] {
            let mut seen = HashSet::new();
            for planned in of(&plan, class, 0..plan.breadth()) {
                let mut pairs = planned.candidates.iter().map(|s| {
                    let [.., a, b] = &s.ops[..] else { panic!() };
                    (call(*a), call(*b))
                });
                let pair = pairs.next().expect("a candidate");
                assert!(pairs.all(|other| other == pair));
                seen.insert(pair);
            }
            let (pairs, overlaps) = plan.pairs();
            let all = if class == Class::Pair {
                pairs
            } else {
                overlaps
            };
            assert_eq!(seen.len() as u64, all, "{class:?}");
        }
    }

    #[test]
    fn the_seed_chooses_what_gets_the_full_effort() {
        let first = |seed| {
            let plan = Plan::all(seed);
            let depth = plan.breadth()..plan.breadth() + 400;
            let ops = |p: Planned| {
                assert!(p.deep);
                (p.candidates[0].kind as u8, p.candidates[0].ops[0])
            };
            of(&plan, Class::Single, depth)
                .into_iter()
                .map(ops)
                .collect::<HashSet<_>>()
        };
        let (a, b) = (first(1), first(2));
        assert!(a.len() > 150 && b.len() == a.len());
        assert!(a.intersection(&b).count() < a.len() / 2);
    }

    #[test]
    fn the_depth_meets_every_operation_and_pair_once() {
        let plan = Plan::new(7, &[Kind::Lived]);
        let ops = CATALOG.len();
        let (mut singles, mut pairs) = (HashSet::new(), HashSet::new());
        let mut n = plan.breadth() + plan.directed();
        while pairs.len() < ops * ops {
            let planned = plan.planned(n);
            let first = &planned.candidates[0];
            match planned.class {
                Class::Single => assert!(singles.insert(first.ops[0])),
                Class::Pair if planned.candidates.len() == 1 => {
                    assert!(pairs.insert(first.ops.clone()))
                }
                _ => {}
            }
            n += 1;
        }
        assert_eq!(singles.len(), ops);
    }

    #[test]
    fn only_the_kinds_that_were_asked_for() {
        for kinds in [&[Kind::Groups][..], &[Kind::Asynchronous, Kind::Fresh]] {
            let plan = Plan::new(9, kinds);
            for n in (0..plan.breadth() + 500).step_by(7) {
                let planned = plan.planned(n);
                assert!(planned.candidates.iter().all(|s| kinds.contains(&s.kind)));
            }
        }
    }
}
