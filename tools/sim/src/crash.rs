// SPDX-License-Identifier: GPL-2.0

//! A medium that knows what a power cut may leave.
//!
//! It keeps what the CPUs see, what is durable in any case, and the stores in flight between them; the rules are those of
//! [`crate::persistency`]. On an asynchronous device ([`MemoryMedia::asynchronous`]) fences complete nothing: only a flush of
//! the device does.

use crate::memory::MemoryMedia;
use crate::persistency::{Flight, States, Word, LINE};
use crate::seed::Random;
use ochre::engine::error::Result;
use ochre::engine::media::Media;
use ochre::platform::current_cpu;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Default)]
struct State {
    flight: Flight,
    counts: Counts,
}

/// Called before each fence, with the medium as it is then.
pub type Hook = Box<dyn FnMut(&SimMedia) + Send>;

/// A medium with stores in flight. Clones share it.
#[derive(Clone)]
pub struct SimMedia {
    /// What the CPUs see.
    visible: MemoryMedia,
    /// What a power cut leaves in any case.
    durable: MemoryMedia,
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

/// What was counted since the medium was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fences and drains.
    pub fences: u64,
    /// Bytes stored.
    pub stored: u64,
    /// Lines written back.
    pub written_back: u64,
}

impl SimMedia {
    /// A medium that holds what `image` holds, durably.
    pub fn new(image: &MemoryMedia) -> Self {
        Self {
            visible: image.snapshot(),
            durable: image.snapshot(),
            state: Arc::default(),
            hook: Arc::default(),
        }
    }

    /// A copy in the same state, stores in flight included: a machine that restarts warm, with its caches.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.flight.restart();
        Self {
            visible: self.visible.snapshot(),
            durable: self.durable.snapshot(),
            state: Arc::new(Mutex::new(state)),
            hook: Arc::default(),
        }
    }

    /// Calls `hook` before each fence and drain, until another is set.
    pub fn on_fence(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Fences, bytes and lines so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Groups of stores whose arrival is open.
    pub fn pending_groups(&self) -> usize {
        self.state().flight.groups().len()
    }

    /// What a power cut leaves if nothing in flight arrives.
    pub fn durable(&self) -> MemoryMedia {
        self.durable.snapshot()
    }

    /// What a warm restart finds: all that was stored.
    pub fn visible(&self) -> MemoryMedia {
        self.visible.snapshot()
    }

    /// Images that a power cut now may leave. All of them if there are at most `limit`, else `limit` samples among which are
    /// the extremes: nothing arrives, everything does.
    pub fn crash_images(&self, random: &mut Random, limit: usize) -> Vec<MemoryMedia> {
        let states = States::at_most(&self.state().flight, limit, random.next());
        (0..states.len())
            .map(|number| {
                let image = self.durable.snapshot();
                put(&image, &states.state(number));
                image
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, address: u64, bytes: &[u8], through: bool) {
        self.visible.store(address, bytes);
        let mut state = self.state();
        state.counts.stored += bytes.len() as u64;
        state.flight.store(current_cpu(), address, bytes, through);
    }

    fn before_fence(&self) {
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut hook) = hook {
            hook(self);
            self.hook
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(hook);
        }
    }

    /// A fence or drain: what `arrive` says has arrived is durable.
    fn complete(&self, arrive: impl FnOnce(&mut Flight) -> Vec<Word>) {
        self.before_fence();
        let mut state = self.state();
        state.counts.fences += 1;
        if self.is_synchronous() {
            put(&self.durable, &arrive(&mut state.flight));
        }
    }
}

/// Puts words onto an image.
fn put(image: &MemoryMedia, words: &[Word]) {
    for w in words {
        let old = if w.mask == u64::MAX {
            0
        } else {
            image.read_u64(w.address).unwrap_or_default()
        };
        image.store_u64(w.address, w.over(old));
    }
}

impl Media for SimMedia {
    fn size(&self) -> u64 {
        self.visible.size()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.visible.read(address, buffer)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        self.visible.read_u64(address)
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, false);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.issue(address, &value.to_le_bytes(), false);
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, true);
    }

    fn zero(&self, address: u64, len: u64) {
        self.issue(address, &vec![0; len as usize], false);
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.issue(address, &vec![0; len as usize], true);
    }

    fn write_back(&self, address: u64, len: u64) {
        let mut state = self.state();
        state.counts.written_back += (address + len.max(1) - 1) / LINE - address / LINE + 1;
        state.flight.write_back(current_cpu(), address, len);
    }

    fn fence(&self) {
        self.complete(|flight| flight.fence(current_cpu()));
    }

    fn drain(&self) {
        self.complete(Flight::drain);
    }

    fn is_synchronous(&self) -> bool {
        self.visible.is_synchronous()
    }

    fn sync_device(&self) -> Result {
        if !self.is_synchronous() {
            self.before_fence();
            let arrived = self.state().flight.complete_all();
            put(&self.durable, &arrived);
        }
        Ok(())
    }

    fn phase(&self) -> u64 {
        self.visible.phase()
    }
}
