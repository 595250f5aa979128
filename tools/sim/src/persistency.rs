// SPDX-License-Identifier: GPL-2.0

//! What a power cut may leave of stores to persistent memory: the rules of x86, and nothing else.
//!
//! [`Flight`] is told of each store, write-back and fence in the order in which they happened, and by which CPU. It keeps the
//! stores whose arrival on the medium is still open. [`States`] forms the states that a power cut at this moment may leave,
//! each as a list of words to be put over the durable image. There is no medium here and no engine, so that a simulated
//! machine and the trace of a real one are judged by the same rules.
//!
//! # Rules
//!
//! The unit is an aligned word of 8 bytes: it arrives whole or not at all. (Of a store that covers only a part of a word, the
//! part does; [`Word::mask`] says which.) A line has 64 bytes. "Arrives" means: reaches the domain that the platform saves when
//! power fails (ADR); caches are not part of it.
//!
//! 1. **May arrive.** A store may arrive at any time after it was issued: a line can be evicted, and a write-combining buffer
//!    written out, whenever the processor likes.
//! 2. **Order within a line.** Ordinary stores enter their line in the cache in the order in which they became visible (total
//!    store order), and the line is written back as a whole. So of the ordinary stores to one line always a *prefix* has
//!    arrived, whichever CPUs they came from. Between lines there is no order.
//! 3. **Non-temporal stores** are weakly ordered: each word arrives on its own, in no order to any other word. Stores to the
//!    same bytes never overtake each other, whatever their kind: once a later one has arrived, an earlier one cannot come back.
//! 4. **Must have arrived.** An ordinary store has arrived once its line was written back after it (CLWB, CLFLUSHOPT, CLFLUSH)
//!    *and then* a fence followed **on the CPU that wrote it back**; a non-temporal store once a fence followed on the CPU that
//!    issued it. Everything that rule 2 orders before it has then arrived too. A write-back does not cover another CPU's
//!    non-temporal stores: they are in that CPU's buffers.
//! 5. **What is a fence.** SFENCE and MFENCE; also every locked instruction and XCHG with memory. The SDM says of CLWB and
//!    CLFLUSHOPT that they are ordered by store-fencing operations, and names SFENCE, MFENCE, XCHG and LOCK-prefixed
//!    instructions as such; of write-combining buffers that they are written out at the latest by "a serializing event", and
//!    names SFENCE, MFENCE, CPUID, interrupts and LOCK instructions; and of locked operations that they wait for all buffered
//!    writes to drain to memory. The formal model Px86 has it so as well. Serialising events that happen by themselves
//!    (interrupts, IRET) would also count, but code that relied on them would be wrong, so a caller does not report them.
//!
//! CLFLUSH is stronger than rule 4 says (it is ordered by itself); taking it as CLWB only adds states.
//!
//! An asynchronous device (virtio-pmem) is outside of rules 2 to 4: the host behind it writes back in any order, and only a
//! flush of the device completes anything. The caller then reports no fences, but [`Flight::complete_all`] at each flush. (The
//! order within a line is kept there too. A host writes back pages, so it holds in practice.)

use crate::seed::Random;
use std::collections::BTreeMap;

/// Bytes of a cache line.
pub const LINE: u64 = 64;

/// A word that is to be put onto an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where: a multiple of 8.
    pub address: u64,
    /// What, little endian.
    pub value: u64,
    /// The bits that count; the others stay as they are.
    pub mask: u64,
}

impl Word {
    /// A whole word.
    pub fn whole(address: u64, value: u64) -> Self {
        let mask = u64::MAX;
        Self {
            address,
            value,
            mask,
        }
    }

    /// What the place holds afterwards.
    pub fn over(&self, old: u64) -> u64 {
        (old & !self.mask) | (self.value & self.mask)
    }
}

/// One word in flight.
#[derive(Clone, Copy, Debug)]
struct Pending {
    word: Word,
    through: bool,
    /// Place in the order of issue.
    serial: u64,
    /// CPUs on which a fence completes it: those that wrote it back, or that stored it through.
    covered_by: u64,
}

/// A store of a [`Group`].
#[derive(Clone, Copy, Debug)]
struct Stamped {
    serial: u64,
    word: Word,
}

/// Stores of which any prefix may have arrived, independently of all other groups: the ordinary stores of a line, or those
/// non-temporal ones of a word that overlap.
#[derive(Clone, Debug)]
pub struct Group {
    stores: Vec<Stamped>,
}

impl Group {
    /// The words, in the order in which they arrive.
    pub fn words(&self) -> impl Iterator<Item = Word> + '_ {
        self.stores.iter().map(|s| s.word)
    }

    fn len(&self) -> usize {
        self.stores.len()
    }

    fn address(&self) -> u64 {
        self.stores.first().map_or(0, |s| s.word.address)
    }

    /// How many of them were issued before a time.
    fn before(&self, serial: u64) -> usize {
        self.stores.partition_point(|s| s.serial < serial)
    }
}

/// The stores whose arrival is open.
#[derive(Clone, Debug, Default)]
pub struct Flight {
    /// By number of the line; in the order of issue.
    lines: BTreeMap<u64, Vec<Pending>>,
    issued: u64,
}

fn cpu_bit(cpu: usize) -> u64 {
    1 << (cpu % 64)
}

impl Flight {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of any address and length; `through`: a non-temporal one.
    pub fn store(&mut self, cpu: usize, address: u64, bytes: &[u8], through: bool) {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let skip = (at % 8) as usize;
            let n = rest.len().min(8 - skip);
            let (mut value, mut mask) = ([0; 8], [0; 8]);
            value[skip..skip + n].copy_from_slice(&rest[..n]);
            mask[skip..skip + n].fill(0xff);
            let word = Word {
                address: at - skip as u64,
                value: u64::from_le_bytes(value),
                mask: u64::from_le_bytes(mask),
            };
            self.store_word(cpu, word, through);
            at += n as u64;
            rest = &rest[n..];
        }
    }

    /// A store of a word or of a part of one.
    pub fn store_word(&mut self, cpu: usize, word: Word, through: bool) {
        let serial = self.issued;
        self.issued += 1;
        self.lines
            .entry(word.address / LINE)
            .or_default()
            .push(Pending {
                word,
                through,
                serial,
                covered_by: if through { cpu_bit(cpu) } else { 0 },
            });
    }

    /// A write-back of the lines that hold `len` bytes from `address`.
    pub fn write_back(&mut self, cpu: usize, address: u64, len: u64) {
        let (first, last) = (address / LINE, (address + len.max(1) - 1) / LINE);
        for (_, line) in self.lines.range_mut(first..=last) {
            // One that no CPU covers was stored through before a restart: no buffer holds it back any more.
            let covers = |p: &&mut Pending| !p.through || p.covered_by == 0;
            for p in line.iter_mut().filter(covers) {
                p.covered_by |= cpu_bit(cpu);
            }
        }
    }

    /// A fence on one CPU. Returns what must have arrived by it: put that onto the durable image in this order.
    #[must_use]
    pub fn fence(&mut self, cpu: usize) -> Vec<Word> {
        self.complete(cpu_bit(cpu))
    }

    /// A fence on every CPU. Returns as [`Self::fence`] does.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Word> {
        self.complete(u64::MAX)
    }

    /// The machine restarts warm, with what was stored in its caches. Which of it has arrived is still open, and no fence of
    /// the new run covers a write-back of the old one.
    pub fn restart(&mut self) {
        for p in self.lines.values_mut().flatten() {
            p.covered_by = 0;
        }
    }

    /// All that is in flight arrives: an asynchronous device is flushed, or a cache is written back whole.
    #[must_use]
    pub fn complete_all(&mut self) -> Vec<Word> {
        let mut all: Vec<_> = std::mem::take(&mut self.lines)
            .into_values()
            .flatten()
            .collect();
        all.sort_unstable_by_key(|p| p.serial);
        all.into_iter().map(|p| p.word).collect()
    }

    /// Words in flight.
    pub fn len(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }

    /// Lines with words in flight.
    pub fn lines(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All words in flight in the order of issue: what the CPUs see beyond the durable image.
    pub fn visible(&self) -> Vec<Word> {
        self.clone().complete_all()
    }

    /// The groups, by address.
    pub fn groups(&self) -> Vec<Group> {
        self.lines.values().flat_map(|line| groups(line)).collect()
    }

    fn complete(&mut self, cpus: u64) -> Vec<Word> {
        let mut arrived = Vec::new();
        self.lines.retain(|_, line| {
            let begin = arrived.len();
            let last = line
                .iter()
                .rposition(|p| !p.through && p.covered_by & cpus != 0);
            let mut latest = Vec::new();
            let mut i = 0;
            line.retain(|p| {
                // What is ordered before a store that must have arrived has arrived too.
                let ordered = !p.through && last.is_some_and(|l| i <= l);
                i += 1;
                let done = ordered || p.covered_by & cpus != 0;
                if done {
                    arrived.push(p.word);
                    latest.push(*p);
                }
                !done
            });
            if arrived.len() > begin {
                // An earlier store to the same bytes cannot come back over one that has arrived.
                for p in line.iter_mut() {
                    for d in latest.iter().filter(|d| d.serial > p.serial) {
                        if d.word.address == p.word.address {
                            p.word.mask &= !d.word.mask;
                        }
                    }
                }
                line.retain(|p| p.word.mask != 0);
            }
            !line.is_empty()
        });
        arrived
    }
}

/// The groups of one line.
fn groups(line: &[Pending]) -> Vec<Group> {
    let mut ordinary = Group { stores: Vec::new() };
    let mut through: Vec<Group> = Vec::new();
    for p in line {
        let stamped = Stamped {
            serial: p.serial,
            word: p.word,
        };
        if !p.through {
            ordinary.stores.push(stamped);
            continue;
        }
        let overlaps = |w: Word| w.address == p.word.address && w.mask & p.word.mask != 0;
        match through.iter_mut().find(|g| g.words().any(overlaps)) {
            Some(group) => group.stores.push(stamped),
            None => through.push(Group {
                stores: vec![stamped],
            }),
        }
    }
    if ordinary.len() > 0 {
        through.push(ordinary);
    }
    through
}

/// How many states to form.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Up to this many groups: every subset of them. (Up to `2^exhaustive` states: every combination of prefixes too.)
    pub exhaustive: usize,
    /// With more: so many seeded samples …
    pub samples: usize,
    /// … and besides nothing and everything, each group alone and all but it, for up to so many groups evenly spread.
    pub singles: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            exhaustive: 12,
            samples: 200,
            singles: usize::MAX,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Every combination of prefixes; the number is that of combinations.
    Prefixes(usize),
    /// Every subset of whole groups, then samples.
    Subsets { samples: usize },
    /// Nothing, everything, so many alone, so many missing, then samples.
    Sampled { singles: usize, samples: usize },
}

/// The states that a power cut may leave at one moment, numbered from 0. The same flight, sampling and seed give the same
/// states, so that one of them can be had again by its number.
#[derive(Clone, Debug)]
pub struct States {
    groups: Vec<Group>,
    plan: Plan,
    seed: u64,
    /// First and last serial in flight, plus one.
    span: (u64, u64),
}

impl States {
    /// The states of what is in flight now.
    pub fn new(flight: &Flight, sampling: &Sampling, seed: u64) -> Self {
        let groups = flight.groups();
        let exhaustive = sampling.exhaustive.min(24);
        let plan = match combinations(&groups, 1 << exhaustive) {
            Some(n) => Plan::Prefixes(n),
            None if groups.len() <= exhaustive => Plan::Subsets {
                samples: sampling.samples,
            },
            None => Plan::Sampled {
                singles: sampling.singles.min(groups.len()),
                samples: sampling.samples,
            },
        };
        Self::with_plan(groups, plan, seed)
    }

    /// At most `limit` of them: all if there are no more, else samples, nothing and everything among them.
    pub fn at_most(flight: &Flight, limit: usize, seed: u64) -> Self {
        let groups = flight.groups();
        let plan = match combinations(&groups, limit) {
            Some(n) => Plan::Prefixes(n),
            None => Plan::Sampled {
                singles: 0,
                samples: limit.saturating_sub(2),
            },
        };
        Self::with_plan(groups, plan, seed)
    }

    fn with_plan(groups: Vec<Group>, plan: Plan, seed: u64) -> Self {
        let serials = || groups.iter().flat_map(|g| &g.stores).map(|s| s.serial);
        let span = (
            serials().min().unwrap_or(0),
            serials().max().unwrap_or(0) + 1,
        );
        Self {
            groups,
            plan,
            seed,
            span,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.plan {
            Plan::Prefixes(n) => n,
            Plan::Subsets { samples } => (1 << self.groups.len()) + samples,
            Plan::Sampled { singles, samples } => 2 + 2 * singles + samples,
        }
    }

    /// Never: nothing having arrived is a state.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether these are all that the rules allow.
    pub fn is_exhaustive(&self) -> bool {
        matches!(self.plan, Plan::Prefixes(_))
    }

    /// The groups that they combine.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// State `number`: words to be put over the durable image in this order.
    pub fn state(&self, number: usize) -> Vec<Word> {
        let last = self.groups.len();
        match self.plan {
            Plan::Prefixes(_) => {
                let mut rest = number;
                self.take(|_, g| {
                    let n = rest % (g.len() + 1);
                    rest /= g.len() + 1;
                    n
                })
            }
            Plan::Subsets { .. } if number < 1 << last => {
                self.take(|i, g| if number >> i & 1 == 1 { g.len() } else { 0 })
            }
            Plan::Subsets { .. } => self.sample(number),
            Plan::Sampled { singles, .. } => match number {
                0 => Vec::new(),
                1 => self.take(|_, g| g.len()),
                n if n < 2 + singles => {
                    let one = self.spread(n - 2, singles);
                    self.take(|i, g| if i == one { g.len() } else { 0 })
                }
                n if n < 2 + 2 * singles => {
                    let one = self.spread(n - 2 - singles, singles);
                    self.take(|i, g| if i == one { 0 } else { g.len() })
                }
                n => self.sample(n),
            },
        }
    }

    /// The group that is single number `n` of `of`.
    fn spread(&self, n: usize, of: usize) -> usize {
        let groups = self.groups.len();
        if of == groups {
            return n;
        }
        (n * groups / of + (self.seed % groups as u64) as usize) % groups
    }

    /// A sample. Independent choices alone would hardly ever leave, say, a whole record without the data before it, so three
    /// of four samples have a shape: by places, or by time.
    fn sample(&self, number: usize) -> Vec<Word> {
        let mut random =
            Random::new(self.seed ^ (number as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.next();
        let any = |random: &mut Random, g: &Group| random.below(g.len() as u64 + 1) as usize;
        match random.below(4) {
            0 => {
                // Sometimes nearly all, sometimes nearly none.
                let bias = random.below(9);
                self.take(|_, g| match random.below(8) {
                    x if x < bias => g.len(),
                    7 => any(&mut random, g),
                    _ => 0,
                })
            }
            1 => {
                // All stores up to a time, but for a few.
                let until = self.span.0 + random.below(self.span.1 - self.span.0 + 1);
                let noise = random.below(2) * 12;
                self.take(|_, g| match noise {
                    n if n > 0 && random.below(n) == 0 => any(&mut random, g),
                    _ => g.before(until),
                })
            }
            kind => {
                // Each page (or line, or four lines) wholly, not at all, or in part.
                let shift = [12, 12, 8, 6][random.below(4) as usize];
                let mut choice = (u64::MAX, 0);
                let exact = kind == 2;
                self.take(|_, g| {
                    if choice.0 != g.address() >> shift {
                        choice = (
                            g.address() >> shift,
                            random.below(if exact { 2 } else { 3 }),
                        );
                    }
                    match choice.1 {
                        0 => 0,
                        1 => g.len(),
                        _ => any(&mut random, g),
                    }
                })
            }
        }
    }

    /// The first `choose` stores of each group, in the order of issue.
    fn take(&self, mut choose: impl FnMut(usize, &Group) -> usize) -> Vec<Word> {
        let mut taken: Vec<Stamped> = Vec::new();
        for (i, group) in self.groups.iter().enumerate() {
            let n = choose(i, group);
            taken.extend(group.stores.iter().take(n));
        }
        taken.sort_unstable_by_key(|s| s.serial);
        taken.into_iter().map(|s| s.word).collect()
    }
}

/// How many combinations of prefixes there are, if no more than `limit`.
fn combinations(groups: &[Group], limit: usize) -> Option<usize> {
    groups.iter().try_fold(1usize, |n, g| {
        n.checked_mul(g.len() + 1).filter(|n| *n <= limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn put(flight: &mut Flight, cpu: usize, address: u64, value: u64, through: bool) {
        flight.store(cpu, address, &value.to_le_bytes(), through);
    }

    /// Every state as the values of some words, all 0 before.
    fn values(flight: &Flight, words: &[u64]) -> BTreeSet<Vec<u64>> {
        let states = States::new(flight, &Sampling::default(), 1);
        assert!(states.is_exhaustive());
        let value = |state: &[Word], at: u64| {
            let here = state.iter().filter(|w| w.address == at);
            here.fold(0u64, |old, w| w.over(old))
        };
        (0..states.len())
            .map(|n| states.state(n))
            .map(|s| words.iter().map(|&w| value(&s, w)).collect())
            .collect()
    }

    fn set(values: &[&[u64]]) -> BTreeSet<Vec<u64>> {
        values.iter().map(|v: &&[u64]| v.to_vec()).collect()
    }

    #[test]
    fn a_line_arrives_in_order_and_lines_do_not() {
        let mut f = Flight::new();
        put(&mut f, 0, 0, 1, false);
        put(&mut f, 1, 8, 2, false);
        assert_eq!(values(&f, &[0, 8]), set(&[&[0, 0], &[1, 0], &[1, 2]]));
        put(&mut f, 0, 64, 3, false);
        assert_eq!(values(&f, &[0, 8, 64]).len(), 6);
    }

    #[test]
    fn non_temporal_words_arrive_in_any_order() {
        let mut f = Flight::new();
        put(&mut f, 0, 0, 1, true);
        put(&mut f, 0, 8, 2, true);
        let all = set(&[&[0, 0], &[1, 0], &[0, 2], &[1, 2]]);
        assert_eq!(values(&f, &[0, 8]), all);
    }

    #[test]
    fn only_a_fence_of_the_cpu_that_wrote_back_completes() {
        let mut f = Flight::new();
        put(&mut f, 0, 0, 1, false);
        assert!(f.fence(0).is_empty());
        f.write_back(1, 0, 8);
        assert!(f.fence(0).is_empty());
        put(&mut f, 0, 8, 2, false);
        assert_eq!(f.fence(1), [Word::whole(0, 1)]);
        assert_eq!(values(&f, &[8]), set(&[&[0], &[2]]));
        put(&mut f, 2, 64, 3, true);
        f.write_back(1, 64, 8);
        assert!(f.fence(1).is_empty());
        assert_eq!(f.fence(2), [Word::whole(64, 3)]);
        f.write_back(3, 0, 64);
        assert_eq!(f.drain(), [Word::whole(8, 2)]);
        assert!(f.is_empty());
    }

    #[test]
    fn what_is_ordered_before_arrives_with_it() {
        let mut f = Flight::new();
        put(&mut f, 0, 0, 1, false);
        f.write_back(0, 0, 8);
        put(&mut f, 1, 8, 2, false);
        f.write_back(1, 0, 8);
        put(&mut f, 1, 16, 3, false);
        assert_eq!(f.fence(1), [Word::whole(0, 1), Word::whole(8, 2)]);
        assert_eq!(f.complete_all(), [Word::whole(16, 3)]);
    }

    #[test]
    fn an_older_store_does_not_come_back() {
        let mut f = Flight::new();
        put(&mut f, 0, 0, 1, false);
        put(&mut f, 0, 0, 2, true);
        assert_eq!(values(&f, &[0]), set(&[&[0], &[1], &[2]]));
        assert_eq!(f.fence(0), [Word::whole(0, 2)]);
        assert!(f.is_empty());
    }

    #[test]
    fn parts_of_words_arrive_as_parts() {
        let mut f = Flight::new();
        f.store(0, 6, &[1, 2, 3, 4], true);
        assert_eq!(f.groups().len(), 2);
        let (low, high) = (0x0201 << 48, 0x0403);
        let all = set(&[&[0, 0], &[low, 0], &[0, high], &[low, high]]);
        assert_eq!(values(&f, &[0, 8]), all);
        f.store(0, 0, &[9], true);
        assert_eq!(f.groups().len(), 3);
    }

    #[test]
    fn many_groups_are_sampled_with_the_extremes() {
        let mut f = Flight::new();
        for i in 0..20 {
            put(&mut f, 0, i * 8, i + 1, true);
        }
        let states = States::new(&f, &Sampling::default(), 7);
        assert_eq!(states.len(), 2 + 40 + 200);
        let sizes: Vec<_> = (0..states.len()).map(|n| states.state(n).len()).collect();
        assert_eq!(sizes[..2], [0, 20]);
        assert!(sizes[2..22].iter().all(|&n| n == 1));
        assert!(sizes[22..42].iter().all(|&n| n == 19));
        let distinct: BTreeSet<String> = (0..states.len())
            .map(|n| format!("{:?}", states.state(n)))
            .collect();
        assert!(distinct.len() > 120, "{}", distinct.len());
        let again = States::new(&f, &Sampling::default(), 7);
        assert!((0..states.len()).all(|n| states.state(n) == again.state(n)));
        assert_eq!(States::at_most(&f, 10, 7).len(), 10);
    }

    #[test]
    fn few_groups_give_every_subset_and_samples_of_their_prefixes() {
        let mut f = Flight::new();
        for line in 0..10 {
            for i in 0..8 {
                put(&mut f, 0, line * 64 + i * 8, 1, false);
            }
        }
        let states = States::new(&f, &Sampling::default(), 7);
        assert_eq!(states.len(), 1024 + 200);
        let whole: BTreeSet<String> = (0..1024)
            .map(|n| format!("{:?}", states.state(n)))
            .collect();
        assert_eq!(whole.len(), 1024);
    }
}
