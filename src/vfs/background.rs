// SPDX-License-Identifier: GPL-2.0

//! What a mounted filesystem does while nobody waits for it.
//!
//! What: [`Background`] is a thread for each mount. It is handed inodes with pages that somebody
//! still holds ([`Operations::settle`] looks at each from time to time, and when a page is let
//! go), and pieces of work that the filesystem has of its own ([`Operations::work`]).
//!
//! Why: eviction must wait until nobody holds a page of the inode, and the holder may be anybody:
//! a pipe, a device, the very process whose `close` evicts. `unlink`, `rename` and `close` must
//! not wait for strangers, in a sleep that no signal ends. So an inode that would be evicted while
//! it has mapping entries is kept ([`drop_inode`]): it gets a reference and a place in the queue.
//! When its pages are idle, the thread drops the entries and that reference, and eviction runs
//! then, without a wait. One without a name is kept so while the filesystem is frozen, too: its eviction
//! would wait for the thaw, and with it a `close`, and whoever looks for the inode.
//!
//! # How `iput` is made to keep an inode
//!
//! Returning 0 from `drop_inode` is not enough. `iput_final` evicts all the same when
//! `I_DONTCACHE` is set, and when the super block is not (or no longer) active. Under `i_lock`,
//! which is held, the flag is cleared and kept for later, and the queue is asked whether it is
//! open; it closes before `SB_ACTIVE` goes. With a reference the inode does not go to the LRU
//! list, and neither memory reclaim nor `evict_inodes` touch it.
//!
//! # How it ends
//!
//! `kill_sb` closes the queue, so that `iput` evicts as usual from then on, and waits until the
//! thread has settled what is in it. The thread says every ten seconds for whom it waits.
//!
//! Hazard: the queue is entered under an inode's `i_lock`, so nothing there may allocate or sleep,
//! and its lock is taken inside `i_lock`: the thread never takes an `i_lock` (no `iput`) under it.
//!
//! Hazard: an inode may get something new to settle just after the thread has looked at it for the last time, when it is in the
//! queue still. So who queues one that is there leaves a mark, and the thread lets go only of what has none, under the queue's
//! lock: [`Link::again`].
//!
//! Hazard: a remount to read-only leaves a clean medium. The thread must not be in the middle of a
//! transaction then: [`Background::pause`].

use super::{
    inode::INode,
    inode_cache::Container,
    mapping::{BusyPage, PageRange},
    memalloc::NofsScope,
    wait, Complete, FileSystem, SuperBlock,
};
use crate::bindings::c;
use crate::testing::{self, Point, Protection};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};
use kernel::{
    error::from_err_ptr,
    new_mutex, new_spinlock,
    prelude::*,
    sync::{aref::ARef, Mutex, MutexGuard, SpinLock},
    time::{Instant, Monotonic},
};

/// First and longest sleep between two looks at inodes that are held, in milliseconds. The page
/// that was found first ends the sleep when it is let go; the others are noticed by looking.
const SLEEP_MIN: u32 = 4;
const SLEEP_MAX: u32 = 256;

/// How often an unmount says for whom it waits.
const REPORT_SECONDS: i64 = 10;

/// An inode's place in the queue.
pub(super) struct Link {
    /// The next inode. Belongs to whoever owns the list that the inode is in.
    next: UnsafeCell<*mut c::inode>,
    /// The inode is in the queue, or with the thread: one reference of it is ours.
    queued: AtomicBool,
    /// It was to be queued once more since the thread last looked at it. Changes under the queue's lock.
    again: AtomicBool,
    /// `I_DONTCACHE` was set, and is to be set again.
    dontcache: AtomicBool,
}

impl Link {
    /// In no list.
    pub(super) const fn new() -> Self {
        Self {
            next: UnsafeCell::new(ptr::null_mut()),
            queued: AtomicBool::new(false),
            again: AtomicBool::new(false),
            dontcache: AtomicBool::new(false),
        }
    }
}

/// What is left of an inode that the thread looked at.
pub(crate) enum Settled<'a> {
    /// Nothing: the thread lets go of it.
    Done,
    /// This page is held.
    Held(BusyPage<'a>),
    /// Something is locked or frozen.
    Later,
    /// Nothing can be given back before the mount is writable: [`SuperBlock::work`] says when. An unmount
    /// does not wait for it.
    ReadOnly,
}

/// What a filesystem does in the background. The calls run on one thread of the mount, and must not
/// wait for strangers.
pub(crate) trait Operations: FileSystem {
    /// Gives back what an inode's pages hold up, as far as they are idle. The inode may be in use
    /// by others. Must say [`Settled::Done`] in the end: an inode with entries left that nobody
    /// else refers to comes back at once. So does one without a name while the filesystem is frozen: [`Settled::Later`].
    fn settle(inode: &INode<Self>) -> Settled<'_>;

    /// Does one piece of work; true: there is more. Not called once the mount is about to end.
    fn work(sb: &SuperBlock<Self>) -> bool;
}

/// The queue. Entered under `i_lock`.
struct Queue {
    /// Inodes are taken.
    open: bool,
    first: *mut c::inode,
}

// SAFETY: The pointer is a reference to an inode, which any task may use.
unsafe impl Send for Queue {}

/// What the mount and its thread share.
#[pin_data]
struct State<T: FileSystem> {
    #[pin]
    queue: SpinLock<Queue>,
    /// Held by the thread while it works.
    #[pin]
    pass: Mutex<()>,
    /// Null before the thread is started and after it has ended.
    thread: AtomicPtr<c::task_struct>,
    /// [`Operations::work`] may have something to do.
    work: AtomicBool,
    /// How often the thread has looked at all that it has, and how often it is to.
    passes: AtomicU64,
    goal: AtomicU64,
    /// The mount is about to end.
    ending: AtomicBool,
    drained: AtomicBool,
    sb: *mut c::super_block,
    _filesystem: PhantomData<T>,
}

/// The thread of a mount, and its queue.
pub(super) struct Background<T: FileSystem> {
    state: Pin<KBox<State<T>>>,
}

// SAFETY: The super block is for use by all tasks; the rest is atomic or locked.
unsafe impl<T: FileSystem> Send for Background<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Background<T> {}

impl<T: FileSystem> Background<T> {
    /// For a super block that is being filled; without a thread yet, so that nothing is queued.
    pub(super) fn new(sb: *mut c::super_block) -> Result<Self> {
        let state = KBox::pin_init(
            pin_init!(State {
                queue <- new_spinlock!(Queue { open: false, first: ptr::null_mut() }, "ochre_background_queue"),
                pass <- new_mutex!((), "ochre_background_pass"),
                thread: AtomicPtr::new(ptr::null_mut()),
                work: AtomicBool::new(true),
                passes: AtomicU64::new(0),
                goal: AtomicU64::new(0),
                ending: AtomicBool::new(false),
                drained: AtomicBool::new(false),
                sb,
                _filesystem: PhantomData,
            }),
            GFP_KERNEL,
        )?;
        Ok(Self { state })
    }

    /// Puts an inode into the queue, with a reference. If it is there already, it is looked at once
    /// more, and `there` is called, which may count on the queue's reference. False: the queue is
    /// closed, and none of this happened.
    ///
    /// # Safety
    ///
    /// `inode` is a container of `T`; `take` makes sure that it has a reference for us. Neither
    /// sleeps.
    unsafe fn push(&self, inode: *mut c::inode, take: impl FnOnce(), there: impl FnOnce()) -> bool {
        // SAFETY: All inodes of `T` are allocated as containers.
        let link = unsafe { &(*inode.cast::<Container<T>>()).link };
        let mut queue = self.state.queue.lock();
        if !queue.open {
            return false;
        }
        if link.queued.swap(true, Ordering::AcqRel) {
            link.again.store(true, Ordering::Relaxed);
            there();
            return true;
        }
        take();
        // SAFETY: Not queued before: the link is in no list, and is ours now.
        unsafe { *link.next.get() = queue.first };
        queue.first = inode;
        drop(queue);
        self.wake();
        true
    }

    /// Looks at the inode from time to time, until [`Operations::settle`] says that it is done.
    /// False: the mount is about to end, nothing is taken any more.
    pub(super) fn watch(&self, inode: &INode<T>) -> bool {
        // SAFETY: A live inode of `T`. The caller has a reference, so the count is not zero.
        unsafe { self.push(inode.as_ptr(), || c::ihold(inode.as_ptr()), || ()) }
    }

    /// Gives up a reference of a caller under whose locks nothing may be evicted: if it is the last
    /// one, the thread evicts. Without a thread, which is before the mount is complete and when it
    /// ends, nothing can be frozen, and it is dropped here.
    pub(super) fn put(&self, inode: ARef<INode<T>>) {
        let raw = inode.as_ptr();
        // SAFETY: A live inode of `T`. The caller's reference becomes the queue's, or is dropped
        // while the queue has one.
        if unsafe { self.push(raw, || (), || c::iput_not_last(raw)) } {
            // What it stood for is gone.
            let _ = ARef::into_raw(inode);
        }
    }

    /// Makes the thread look at once.
    fn wake(&self) {
        let thread = self.state.thread.load(Ordering::Acquire);
        if !thread.is_null() {
            // SAFETY: The thread ends only after the queue was closed and it was told to.
            unsafe { c::ochre_thread_wake(thread) };
        }
    }

    /// [`Operations::work`] has something to do.
    pub(super) fn work(&self) {
        self.state.work.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until the thread has looked at all that it has, and has done all work. `EINTR`: a fatal
    /// signal. The caller may hold whatever the thread only tries to lock.
    pub(super) fn settle(&self) -> Result {
        let passes = &self.state.passes;
        // The pass under way may be past what the caller is after.
        let goal = passes.load(Ordering::Acquire).saturating_add(2);
        self.state.goal.fetch_max(goal, Ordering::AcqRel);
        self.wake();
        wait::wait_killable(passes, || {
            passes.load(Ordering::Acquire) >= goal
                && (!self.state.work.load(Ordering::Acquire)
                    || self.state.ending.load(Ordering::Acquire))
        })
    }

    /// Keeps the thread from working while the result lives; waits for what it is doing now.
    pub(super) fn pause(&self) -> MutexGuard<'_, ()> {
        self.state.pass.lock()
    }
}

impl<T: Complete> Background<T> {
    /// Starts the thread, and opens the queue. `name` is the device's.
    pub(super) fn start(&self, name: *const c_char) -> Result {
        let context = ptr::from_ref(&*self.state).cast_mut().cast();
        // SAFETY: The state lives until `stop` has waited for the thread.
        let thread = unsafe { c::ochre_thread_start(Some(Self::run), context, name) };
        let thread = from_err_ptr(thread)?;
        self.state.thread.store(thread, Ordering::Release);
        self.state.queue.lock().open = true;
        Ok(())
    }

    /// Closes the queue, waits until all in it is settled, and ends the thread.
    pub(super) fn stop(&self) {
        let thread = self.state.thread.load(Ordering::Acquire);
        if thread.is_null() {
            return;
        }
        self.state.queue.lock().open = false;
        self.state.ending.store(true, Ordering::Release);
        self.wake();
        wait::wait_idle(&self.state.drained, || {
            self.state.drained.load(Ordering::Acquire)
        });
        self.state.thread.store(ptr::null_mut(), Ordering::Release);
        // SAFETY: Not stopped before. Nobody can wake it any more: the queue is closed.
        unsafe { c::ochre_thread_stop(thread) };
    }

    /// The thread.
    unsafe extern "C" fn run(context: *mut c_void) -> c_int {
        // SAFETY: `start` passes the state, which lives until the thread has ended.
        let state = unsafe { &*context.cast::<State<T>>() };
        let _scope = NofsScope::enter();
        let mut list = List::<T>::new();
        let mut sleep = SLEEP_MIN;
        let mut ending = false;
        let mut reported = Instant::<Monotonic>::now();
        loop {
            if !ending && state.ending.load(Ordering::Acquire) {
                ending = true;
                reported = Instant::now();
            }
            testing::pause(Point::ThreadPass);
            if list.take(&state.queue) {
                sleep = SLEEP_MIN;
            }
            let pass = state.pass.lock();
            let Looked { held, waits } = list.settle(&state.queue, ending);
            // SAFETY: The super block is mounted until this thread has ended.
            let sb = unsafe { SuperBlock::<T>::from_raw(state.sb) };
            let more = !ending && state.work.swap(false, Ordering::AcqRel) && T::work(sb);
            drop(pass);
            if more {
                state.work.store(true, Ordering::Release);
                continue;
            }
            state.passes.fetch_add(1, Ordering::AcqRel);
            wait::wake(&state.passes);
            // Closed before `ending` was set: what was taken was all.
            if ending && list.is_empty() {
                break;
            }
            if ending && reported.elapsed().as_nanos() >= REPORT_SECONDS * 1_000_000_000 {
                reported = Instant::now();
                list.report(sb);
            }
            // SAFETY: This is the thread; the page belongs to the device, which stays open; the
            // closure outlives the call.
            unsafe { state.sleep(held, if waits { sleep } else { 0 }, ending) };
            sleep = (sleep * 2).min(SLEEP_MAX);
        }
        state.drained.store(true, Ordering::Release);
        wait::wake(&state.drained);
        // `kthread_stop` wants a thread that is still there.
        // SAFETY: This is the thread.
        while unsafe { !c::ochre_thread_should_stop() } {
            // SAFETY: As above.
            unsafe { state.sleep(None, 0, true) };
        }
        0
    }
}

impl<T: FileSystem> State<T> {
    /// # Safety
    ///
    /// Called by the thread; the page's device stays open.
    unsafe fn sleep(&self, page: Option<NonNull<c::page>>, milliseconds: u32, ending: bool) {
        unsafe extern "C" fn wanted<F: FnMut() -> bool>(context: *mut c_void) -> bool {
            // SAFETY: The closure of the frame below.
            unsafe { (*context.cast::<F>())() }
        }
        fn call<F: FnMut() -> bool>(_: &F) -> Option<unsafe extern "C" fn(*mut c_void) -> bool> {
            Some(wanted::<F>)
        }
        // Runs with the task's state set: it may take spin locks, and must not sleep.
        let mut look = || {
            !self.queue.lock().first.is_null()
                || self.passes.load(Ordering::Acquire) < self.goal.load(Ordering::Acquire)
                || (!ending
                    && (self.work.load(Ordering::Acquire) || self.ending.load(Ordering::Acquire)))
        };
        let page = page.map_or(ptr::null_mut(), NonNull::as_ptr);
        let wanted = call(&look);
        // SAFETY: By the caller's promise; `wanted` is called with this closure before the return.
        unsafe { c::ochre_thread_sleep(page, wanted, (&raw mut look).cast(), milliseconds) };
    }
}

/// What a look at all inodes has found.
struct Looked {
    /// A page that was held, if there was one.
    held: Option<NonNull<c::page>>,
    /// Some inode has to be looked at again after a time.
    waits: bool,
}

/// The inodes that the thread looks at.
///
/// # Invariants
///
/// Each is initialised, of type `T`, with one reference that is ours; linked by `next`.
struct List<T: FileSystem> {
    first: *mut c::inode,
    _filesystem: PhantomData<T>,
}

impl<T: Complete> List<T> {
    fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            _filesystem: PhantomData,
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    fn next(inode: *mut c::inode) -> *mut *mut c::inode {
        // SAFETY: By the invariants a live container.
        unsafe { (*inode.cast::<Container<T>>()).link.next.get() }
    }

    /// Takes what has been queued; false: nothing.
    fn take(&mut self, queue: &SpinLock<Queue>) -> bool {
        let mut first = core::mem::replace(&mut queue.lock().first, ptr::null_mut());
        let some = !first.is_null();
        while !first.is_null() {
            // SAFETY: What was in the queue is in this list now. INVARIANT: The reference moves.
            unsafe {
                let next = Self::next(first);
                let rest = *next;
                *next = self.first;
                self.first = first;
                first = rest;
            }
        }
        some
    }

    /// Settles what can be settled.
    fn settle(&mut self, queue: &SpinLock<Queue>, ending: bool) -> Looked {
        let (mut held, mut waits) = (None, false);
        let mut place: *mut *mut c::inode = &mut self.first;
        loop {
            // SAFETY: `place` is in this list: its head, or the link of one that stays in it.
            let inode = unsafe { *place };
            if inode.is_null() {
                return Looked { held, waits };
            }
            // SAFETY: By the invariants a live container.
            let link = unsafe { &(*inode.cast::<Container<T>>()).link };
            // Under the lock, so that whoever marks it again has made visible before what there is to settle.
            let locked = queue.lock();
            link.again.store(false, Ordering::Relaxed);
            drop(locked);
            // SAFETY: By the invariants.
            let settled = T::settle(unsafe { INode::<T>::from_raw(inode) });
            waits |= matches!(settled, Settled::Held(_) | Settled::Later);
            match settled {
                Settled::ReadOnly if !ending => place = Self::next(inode),
                Settled::Done | Settled::ReadOnly => {
                    testing::pause(Point::Settled);
                    let locked = queue.lock();
                    if link.again.load(Ordering::Relaxed) {
                        drop(locked);
                        waits = true;
                        place = Self::next(inode);
                        continue;
                    }
                    // SAFETY: As above. From `queued` on, others may queue it again, with a reference of their own.
                    unsafe { *place = *Self::next(inode) };
                    link.queued.store(false, Ordering::Release);
                    drop(locked);
                    // SAFETY: Out of the list, so that the reference may go.
                    unsafe { Self::release(inode) };
                }
                Settled::Held(page) => {
                    held = held.or(Some(page.as_ptr()));
                    place = Self::next(inode);
                }
                Settled::Later => place = Self::next(inode),
            }
        }
    }

    /// Lets go of an inode; it may be evicted here.
    ///
    /// # Safety
    ///
    /// It has been in this list, and is no more.
    unsafe fn release(inode: *mut c::inode) {
        // SAFETY: The reference that we give up keeps it until the end.
        unsafe {
            let link = &(*inode.cast::<Container<T>>()).link;
            if link.dontcache.swap(false, Ordering::AcqRel) {
                c::ochre_inode_set_dontcache(inode);
            }
            c::iput(inode);
        }
    }

    /// Says for whom an unmount waits.
    fn report(&self, sb: &SuperBlock<T>) {
        let (mut inode, mut count) = (self.first, 0usize);
        while !inode.is_null() {
            count += 1;
            // SAFETY: In this list.
            inode = unsafe { *Self::next(inode) };
        }
        if self.first.is_null() {
            return;
        }
        // SAFETY: In this list.
        let first = unsafe { INode::<T>::from_raw(self.first) };
        let page = first
            .mapping()
            .referenced_page(T::device(first), PageRange::ALL);
        report(
            sb.id(),
            first.ino(),
            page.map_or(0, |page| page.pages().first),
            count - 1,
        );
    }
}

/// One line of an unmount that waits.
fn report(device: &str, ino: u64, page: u64, others: usize) {
    pr_info!(
        "{device}: unmount waits for page {page} of inode {ino}, which a process, a pipe or a \
         device still holds ({others} more such inodes)\n"
    );
}

/// Waits, in eviction, until nobody holds a page of the inode: only at unmount, since at all other
/// times [`drop_inode`] has kept the inode from it.
pub(super) fn wait_at_evict<T: Complete>(inode: &INode<T>) {
    let mut reported = Instant::<Monotonic>::now();
    while let Some(page) = inode.mapping().busy_page_at_evict(T::device(inode)) {
        page.sleep(SLEEP_MAX);
        if reported.elapsed().as_nanos() >= REPORT_SECONDS * 1_000_000_000 {
            reported = Instant::now();
            let id = inode.super_block().id();
            report(id, inode.ino(), page.pages().first, 0);
        }
    }
}

/// `drop_inode` of the super block: whether to evict an inode whose last reference went.
///
/// # Safety
///
/// For the kernel to call, as the `drop_inode` that it documents: `i_lock` is held.
pub(super) unsafe extern "C" fn drop_inode<T: Complete>(inode: *mut c::inode) -> c_int {
    // SAFETY: The VFS passes an inode whose count is zero, with `i_lock` held, so that it does not
    // end under us. One that was never initialised has nothing to wait for.
    unsafe {
        let drop = c::ochre_inode_generic_drop(inode);
        let Some(ours) = INode::<T>::from_raw_checked(inode) else {
            return drop.into();
        };
        let active = (*(*inode).i_sb).s_flags & c::ochre_flags_OCHRE_SB_ACTIVE as usize != 0;
        let evict =
            testing::without(Protection::DeferEviction) || testing::without(Protection::DropIdle);
        // The eviction of one without a name waits for the thaw, and whoever closed it with it. (To try takes no lock that
        // could be waited for.)
        let frozen =
            || ours.nlink() == 0 && ours.super_block().try_start_internal_write().is_none();
        if !active || evict || (ours.mapping().is_empty() && !frozen()) {
            return drop.into();
        }
        if testing::without(Protection::ClearDontcache) {
            return 0;
        }
        let link = &(*inode.cast::<Container<T>>()).link;
        let take = || {
            let dontcache = c::ochre_inode_keep(inode);
            link.dontcache.store(dontcache, Ordering::Release);
        };
        // It has no reference, so it is not in the queue.
        let kept = ours.super_block().background().push(inode, take, || ());
        if kept {
            0
        } else {
            drop.into()
        }
    }
}
