// SPDX-License-Identifier: GPL-2.0

//! Random numbers that a printed seed repeats.

/// A small generator (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 is as good as any other.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless sequence of plain numbers"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}

/// The seed of a randomised test: `OCHRE_SEED`, else a fresh one. It is printed, so that a failure can be repeated.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("OCHRE_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(ochre::platform::random_u64);
    println!("{test}: OCHRE_SEED={seed}");
    seed
}
