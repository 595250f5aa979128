// SPDX-License-Identifier: GPL-2.0

//! The side of the test build: the three files, and what they set.
//!
//! All state is in statics, since a fault knows no mount of its own to ask. A point holds one task
//! at a time. Who is held polls: nobody has to be woken in the right order, and
//! a test that died holds nobody for longer than [`LIMIT`].

use super::{Failure, Point, Protection};
use crate::engine::mutant::{self, Mutant};
use crate::platform::log;
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
    time::{delay::fsleep, Delta},
    uaccess::UserSliceReader,
};

/// A held task looks so often whether it may go on, a millisecond or a few apart, and goes on then.
const LIMIT: u32 = 20_000;

/// Any task.
const ANY: i32 = -1;

/// Protections that are gone: one bit each.
static WITHOUT: AtomicU64 = AtomicU64::new(0);
/// Failures that happen: one bit each.
static FAILS: AtomicU64 = AtomicU64::new(0);
/// The engine's protection that is gone, as an index of [`ENGINE`] and 1; 0: none.
static ENGINE_WITHOUT: AtomicUsize = AtomicUsize::new(0);

/// Protections of the engine, which knows nothing of this file: the orderings that can be broken to test the crash explorer.
const ENGINE: &[(&str, Mutant)] = &[
    ("commit-fence", Mutant::NoCommitFence),
    ("data-fence", Mutant::NoDataFence),
    ("tail-zero", Mutant::NoTailZero),
    ("look-up-number", Mutant::TrustNumber),
];

struct State {
    /// Whom to hold: a task, [`ANY`], or 0.
    armed: AtomicI32,
    /// Who is held.
    held: AtomicI32,
    passed: AtomicU64,
}

static POINTS: [State; Point::ALL.len()] = [const {
    State {
        armed: AtomicI32::new(0),
        held: AtomicI32::new(0),
        passed: AtomicU64::new(0),
    }
}; Point::ALL.len()];

/// A place at which a test can hold the task.
pub(crate) fn pause(point: Point) {
    let state = &POINTS[point as usize];
    state.passed.fetch_add(1, Ordering::SeqCst);
    let armed = state.armed.load(Ordering::SeqCst);
    let task = kernel::current!().pid();
    if armed == 0 || (armed != ANY && armed != task) {
        return;
    }
    let was = state
        .armed
        .compare_exchange(armed, 0, Ordering::SeqCst, Ordering::SeqCst);
    if was.is_err() {
        return;
    }
    state.held.store(task, Ordering::SeqCst);
    for _ in 0..LIMIT {
        if state.held.load(Ordering::SeqCst) != task {
            return;
        }
        fsleep(Delta::from_millis(1));
    }
    state.held.store(0, Ordering::SeqCst);
    log::warn(format_args!(
        "test build: task {task} was held at {point:?} for too long"
    ));
}

/// Whether a test has taken this protection away.
pub(crate) fn without(protection: Protection) -> bool {
    WITHOUT.load(Ordering::Relaxed) & (1 << protection as u64) != 0
}

/// Whether a test wants this to fail.
pub(crate) fn fails(failure: Failure) -> bool {
    FAILS.load(Ordering::Relaxed) & (1 << failure as u64) != 0
}

/// Sleeps until `condition` holds. `EINTR`: a signal, or it took too long.
pub(crate) fn poll(mut condition: impl FnMut() -> bool) -> Result {
    for _ in 0..LIMIT {
        if condition() {
            return Ok(());
        }
        if kernel::current!().signal_pending() {
            break;
        }
        fsleep(Delta::from_millis(1));
    }
    Err(EINTR)
}

fn find<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T> {
    let mut found = all.iter().filter(|(text, _)| *text == name);
    found.next().map(|(_, value)| *value).ok_or(EINVAL)
}

/// What was written to a file, as text.
fn text<'a>(reader: &mut UserSliceReader, buffer: &'a mut [u8; 256]) -> Result<&'a str> {
    let len = reader.len();
    let bytes = buffer.get_mut(..len).ok_or(EINVAL)?;
    reader.read_slice(bytes)?;
    core::str::from_utf8(bytes).map_err(|_| EINVAL)
}

fn show<T: Copy>(
    all: &[(&str, T)],
    bits: u64,
    f: &mut fmt::Formatter<'_>,
    bit: impl Fn(T) -> u64,
) -> fmt::Result {
    for (name, _) in all
        .iter()
        .filter(|(_, value)| bits & (1 << bit(*value)) != 0)
    {
        writeln!(f, "{name}")?;
    }
    Ok(())
}

fn show_without(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let bits = WITHOUT.load(Ordering::Relaxed);
    show(Protection::ALL, bits, f, |member| member as u64)?;
    let engine = ENGINE_WITHOUT.load(Ordering::Relaxed).checked_sub(1);
    match engine.and_then(|index| ENGINE.get(index)) {
        Some((name, _)) => writeln!(f, "{name}"),
        None => Ok(()),
    }
}

fn set_without(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buffer = [0; 256];
    let (mut bits, mut engine) = (0, None);
    for name in text(reader, &mut buffer)?.split_ascii_whitespace() {
        match ENGINE.iter().position(|(text, _)| *text == name) {
            Some(_) if engine.is_some() => return Err(EINVAL),
            Some(index) => engine = Some(index),
            None => bits |= 1 << find(Protection::ALL, name)? as u64,
        }
    }
    WITHOUT.store(bits, Ordering::Relaxed);
    ENGINE_WITHOUT.store(engine.map_or(0, |index| index + 1), Ordering::Relaxed);
    mutant::choose(
        engine
            .and_then(|index| ENGINE.get(index))
            .map(|(_, mutant)| *mutant),
    );
    Ok(())
}

fn show_fails(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let bits = FAILS.load(Ordering::Relaxed);
    show(Failure::ALL, bits, f, |member| member as u64)
}

fn set_fails(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buffer = [0; 256];
    let mut bits = 0;
    for name in text(reader, &mut buffer)?.split_ascii_whitespace() {
        bits |= 1 << find(Failure::ALL, name)? as u64;
    }
    FAILS.store(bits, Ordering::Relaxed);
    Ok(())
}

fn show_points(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (name, point) in Point::ALL {
        let state = &POINTS[*point as usize];
        write!(f, "{name} passed {}", state.passed.load(Ordering::SeqCst))?;
        match (
            state.armed.load(Ordering::SeqCst),
            state.held.load(Ordering::SeqCst),
        ) {
            (0, 0) => writeln!(f)?,
            (0, task) => writeln!(f, " held {task}")?,
            _ => writeln!(f, " armed")?,
        }
    }
    Ok(())
}

fn set_points(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buffer = [0; 256];
    let mut words = text(reader, &mut buffer)?.split_ascii_whitespace();
    let first = words.next().ok_or(EINVAL)?;
    if first == "go" {
        let point = find(Point::ALL, words.next().ok_or(EINVAL)?)?;
        let state = &POINTS[point as usize];
        state.armed.store(0, Ordering::SeqCst);
        state.held.store(0, Ordering::SeqCst);
        return Ok(());
    }
    let state = &POINTS[find(Point::ALL, first)? as usize];
    let task = match words.next() {
        Some(word) => word.parse::<i32>().map_err(|_| EINVAL)?,
        None => ANY,
    };
    if state.held.load(Ordering::SeqCst) != 0 {
        return Err(EBUSY);
    }
    state.armed.store(task, Ordering::SeqCst);
    Ok(())
}

/// The three files, as long as this lives.
#[pin_data]
pub(crate) struct Controls {
    #[pin]
    without: File<()>,
    #[pin]
    fail: File<()>,
    #[pin]
    pause: File<()>,
}

impl Controls {
    /// Makes the files, and says what kind of module this is.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        log::warn(format_args!(
            "this is a test build: protections can be taken away, and all data is at risk"
        ));
        let dir = Dir::new(c"ochre-test");
        KBox::try_pin_init(
            try_pin_init!(Self {
                without <- dir.read_write_callback_file(c"without", (), &show_without, &set_without),
                fail <- dir.read_write_callback_file(c"fail", (), &show_fails, &set_fails),
                pause <- dir.read_write_callback_file(c"pause", (), &show_points, &set_points),
            }? Error),
            GFP_KERNEL,
        )
    }
}
