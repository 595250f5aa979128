// SPDX-License-Identifier: GPL-2.0

//! The engine beside its model, driven as the kernel glue drives it, call by call.
//!
//! Each call is a [`Step`]: marks in the arena's trace say when it began and returned, and the step says which states a crash
//! may leave meanwhile and afterwards. A call that is not atomic by its nature names the states in between:
//!
//! * `write(2)` is one step for each piece that the engine publishes, so a crash may leave a prefix of pieces;
//! * an overwrite in place may leave any of its words old or new, until its fence;
//! * punch, preallocate and zero of many extents take several transactions; each block may be done or not.

mod data;
mod names;
mod pending;
mod shift;

use crate::arena::Arena;
use crate::model::{Id, Tree};
use crate::op::{parent, Op};
use crate::trace::Event;
use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions, NewInode, Times};
use ochre::engine::types::{FileKind, Timestamp};
use ochre::platform::set_current_cpu;
use ochre_sim::seed::Random;
use std::collections::HashMap;
use std::sync::{mpsc, Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// CPUs of the simulated machine; lanes are chosen by them.
pub const CPUS: u64 = 4;

/// The engine on the arena.
pub(crate) type Engine = Filesystem<Arena>;

/// One call.
#[derive(Debug)]
pub struct Step {
    /// What a crash may leave while it runs.
    pub during: Vec<Tree>,
    /// What it leaves afterwards.
    pub after: Tree,
    /// On an asynchronous device: everything so far is durable from here on.
    pub durable: bool,
    /// Index of the operation that it belongs to.
    pub op: usize,
    /// A call that ran on another CPU in the midst of this one.
    pub nested: Option<Box<Nested>>,
}

impl Step {
    /// Changes what is left after it, the share of a call in its midst apart.
    fn amend(&mut self, change: impl Fn(&mut Tree)) {
        change(&mut self.after);
        if let Some(nested) = &mut self.nested {
            change(&mut nested.alone);
        }
    }
}

/// What ran in the midst of a call.
#[derive(Debug)]
pub struct Nested {
    /// The state before both.
    pub before: Tree,
    /// What the outer call alone has made of it.
    pub alone: Tree,
    /// The inner calls, as if there were no outer one.
    pub steps: Vec<Step>,
}

/// Marks of calls in the midst of another one have numbers from here on.
pub const NESTED: usize = 1 << 20;

/// How long a call waits for one in its midst; longer only if that one needs a lock which the first one holds.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is to run in the midst of the next call.
struct Intrusion {
    moment: u64,
    op: Op,
    number: usize,
}

/// Where a thread in the midst of a call leaves what it did.
type Slot = Arc<Mutex<Option<JoinHandle<(Tree, Vec<Step>, Option<String>)>>>>;

/// Both of them, and what is open.
pub struct World {
    arena: Arena,
    fs: Option<Arc<Filesystem<Arena>>>,
    /// What the model says now.
    pub tree: Tree,
    /// All steps so far.
    pub steps: Vec<Step>,
    inodes: HashMap<Id, Arc<Inode>>,
    open: Vec<Id>,
    clock: i64,
    random: Random,
    op: usize,
    /// The CPU to run on, instead of any.
    cpu: Option<usize>,
    first_mark: usize,
    intrusion: Option<Intrusion>,
    /// What went wrong without any crash.
    pub fault: Option<String>,
}

impl World {
    /// Mounts what is on the arena, which holds `tree`. The seed chooses CPUs.
    pub fn mount(arena: &Arena, tree: Tree, seed: u64) -> Result<Self> {
        let fs = Filesystem::mount(arena.clone(), &MountOptions::default())?;
        Ok(Self {
            arena: arena.clone(),
            fs: Some(Arc::new(fs)),
            tree,
            steps: Vec::new(),
            inodes: HashMap::new(),
            open: Vec::new(),
            clock: 1_800_000_000_000_000_000,
            random: Random::new(seed),
            op: 0,
            cpu: None,
            first_mark: 0,
            intrusion: None,
            fault: None,
        })
    }

    /// Another one on the same filesystem and the same inodes, for a call in the midst of one of ours.
    fn sibling(&self, cpu: usize) -> Self {
        Self {
            arena: self.arena.clone(),
            fs: self.fs.clone(),
            tree: self.tree.clone(),
            steps: Vec::new(),
            inodes: self.inodes.clone(),
            open: self.open.clone(),
            clock: self.clock + 500_000_000,
            random: Random::new(1),
            op: self.op,
            cpu: Some(cpu),
            first_mark: NESTED,
            intrusion: None,
            fault: None,
        }
    }

    /// Runs two operations, the second in the midst of the first's first call: at the `moment`-th of the moments before and
    /// after its fences. False: one of them does not apply.
    pub fn run_overlapped(&mut self, number: usize, op: Op, other: Op, moment: u64) -> bool {
        // Its inodes are looked up now: later a directory that leads to them may be locked.
        for path in other.paths() {
            for path in [parent(path), path] {
                if let Some(id) = self.tree.find(path) {
                    self.inode(id);
                }
            }
        }
        self.intrusion = Some(Intrusion {
            moment,
            op: other,
            number,
        });
        let before = self.steps.len();
        let done = self.run(number, op);
        done && self.steps[before..].iter().any(|s| s.nested.is_some())
    }

    fn choose_cpu(&mut self) -> usize {
        let cpu = match self.cpu {
            Some(cpu) => cpu,
            None => self.random.below(CPUS) as usize,
        };
        set_current_cpu(cpu);
        cpu
    }

    pub(crate) fn fs(&self) -> Arc<Filesystem<Arena>> {
        Arc::clone(self.fs.as_ref().expect("mounted"))
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1_000_001;
        Timestamp(self.clock)
    }

    pub(crate) fn times(&mut self) -> Times {
        let now = Some(self.now());
        Times {
            atime: None,
            mtime: now,
            ctime: now,
        }
    }

    fn fill_byte(&self) -> u8 {
        (self.clock / 1_000_001 % 251) as u8 + 1
    }

    /// Unmounts, for a base image.
    pub fn unmount(mut self) -> Result<Tree> {
        self.run(0, Op::CloseAll);
        self.fs().unmount()?;
        Ok(self.tree)
    }

    /// The in-core inode of a node, read if need be.
    pub(crate) fn inode(&mut self, id: Id) -> Arc<Inode> {
        if let Some(inode) = self.inodes.get(&id) {
            return Arc::clone(inode);
        }
        let fs = self.fs();
        let ino = if id == 0 {
            fs.root()
        } else {
            let (dir, name) = self.place(id);
            let dir = self.inode(dir);
            fs.lookup(&dir, &name).expect("a name of the model")
        };
        let inode = Arc::new(fs.iget(ino).expect("an inode of the model"));
        self.inodes.insert(id, Arc::clone(&inode));
        inode
    }

    /// Some name of a node.
    fn place(&self, id: Id) -> (Id, Vec<u8>) {
        for (dir, node) in self.tree.nodes.iter().enumerate() {
            for (name, &child) in node.iter().flat_map(|n| &n.names) {
                if child == id {
                    return (dir, name.clone());
                }
            }
        }
        panic!("node {id} of the model has no name");
    }

    /// One call of the engine. `during`: states between before and after, besides these two. `change`: what it does to the
    /// model. `touched`: whose times the engine chooses. `None`: it failed for want of space, and changed nothing.
    fn call<T>(
        &mut self,
        during: Vec<Tree>,
        touched: &[Id],
        run: impl FnOnce(&Filesystem<Arena>) -> Result<T>,
        change: impl FnOnce(&mut Tree),
    ) -> Option<T> {
        let cpu = self.choose_cpu();
        let number = self.first_mark + self.steps.len();
        let fs = self.fs();
        let intruder = self
            .intrusion
            .take()
            .map(|i| self.let_in(i, (cpu + 1) % CPUS as usize));
        self.arena.mark(Event::Begin(number));
        let result = run(&fs);
        self.arena.mark(Event::End(number));
        let nested = intruder.and_then(|slot| self.let_out(&slot));
        let before = self.tree.clone();
        let value = match result {
            Ok(value) => {
                change(&mut self.tree);
                Some(value)
            }
            Err(Error::NoSpace) => None,
            Err(error) => {
                self.fail(format!("call {number} fails: {error}"));
                None
            }
        };
        for &id in touched {
            self.observe_times(id);
        }
        let mut states = vec![before];
        states.extend(during);
        states.push(self.tree.clone());
        // Times in states between are as yet unknown: either.
        for &id in touched {
            let last = self.tree.nodes[id].clone();
            for state in &mut states[1..] {
                if let (Some(Some(node)), Some(last)) = (state.nodes.get(id), &last) {
                    if node.times != last.times {
                        state.edit(id).loose_times.push(last.times);
                    }
                }
            }
        }
        let mut step = Step {
            during: states,
            after: self.tree.clone(),
            durable: false,
            op: self.op,
            nested: None,
        };
        if let Some((tree, steps)) = nested {
            let before = step.during[0].clone();
            match Tree::merged(&before, &self.tree, &tree) {
                Some(both) => {
                    let alone = std::mem::replace(&mut self.tree, both);
                    step.after = self.tree.clone();
                    step.nested = Some(Box::new(Nested {
                        before,
                        alone,
                        steps,
                    }));
                }
                None => self.fail("two calls at once concern one inode: the plan is wrong".into()),
            }
        }
        self.steps.push(step);
        value
    }

    /// Makes the arena run an operation on another thread at some moment of the call to come.
    fn let_in(&mut self, intrusion: Intrusion, cpu: usize) -> Slot {
        let slot: Slot = Arc::default();
        let (kept, mut sibling) = (Arc::clone(&slot), Some(self.sibling(cpu)));
        let hook = move |moment| {
            if moment != intrusion.moment {
                return;
            }
            let Some(mut world) = sibling.take() else {
                return;
            };
            let (tell, told) = mpsc::channel();
            let (op, number) = (intrusion.op, intrusion.number);
            let thread = std::thread::Builder::new().name("crash-nested".into());
            let handle = thread.spawn(move || {
                world.run(number, op);
                // The tree's inodes stay with the first world.
                let done = (
                    world.tree.clone(),
                    std::mem::take(&mut world.steps),
                    world.fault.take(),
                );
                let _ = tell.send(());
                done
            });
            let _ = told.recv_timeout(PATIENCE);
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = handle.ok();
        };
        self.arena.interrupt(Some(Box::new(hook)));
        slot
    }

    /// What the intruder did, if its moment came.
    fn let_out(&mut self, slot: &Slot) -> Option<(Tree, Vec<Step>)> {
        self.arena.interrupt(None);
        let handle = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match handle.join() {
            Ok((tree, steps, fault)) => {
                if let Some(fault) = fault {
                    self.fail(fault);
                }
                (!steps.is_empty()).then_some((tree, steps))
            }
            Err(_) => {
                self.fail("panic in a call in the midst of another".into());
                None
            }
        }
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// Times are the engine's affair; size and links are not.
    pub(crate) fn observe_times(&mut self, id: Id) {
        if self.tree.nodes[id].is_none() {
            return;
        }
        let attributes = self.inode(id).attributes();
        let node = self.tree.edit(id);
        node.times = [attributes.atime.0, attributes.mtime.0, attributes.ctime.0];
        node.mode = attributes.mode;
        let wrong = attributes.nlink != node.links
            || (node.kind() == FileKind::Regular && attributes.size != node.size);
        if wrong {
            let what = format!(
                "inode {} has {} links and {} bytes, the model {} and {}",
                self.inode(id).ino(),
                attributes.nlink,
                attributes.size,
                self.tree.get(id).links,
                self.tree.get(id).size
            );
            self.fail(what);
        }
    }

    /// A node without links and openers goes.
    fn drop_if_gone(&mut self, id: Id) {
        if self.tree.get(id).links > 0 || self.open.contains(&id) {
            return;
        }
        let inode = self.inodes.remove(&id).expect("inode");
        self.always(&[], |fs| fs.evict(&inode), |tree| tree.nodes[id] = None);
    }

    pub(crate) fn file(&self, path: &str) -> Option<Id> {
        let id = self.tree.find(path)?;
        (self.tree.get(id).kind() == FileKind::Regular).then_some(id)
    }

    /// Runs one operation; false: it does not apply here, nothing was called.
    pub fn run(&mut self, number: usize, op: Op) -> bool {
        self.op = number;
        let before = self.steps.len();
        match op {
            Op::Create(path) => self.create(path, FileKind::Regular.mode_bits() | 0o644, None),
            Op::Mknod(path, kind) => self.create(path, kind | 0o600, None),
            Op::Mkdir(path) => self.create(path, FileKind::Directory.mode_bits() | 0o755, None),
            Op::Symlink(path, len) => {
                let target = vec![b't'; len];
                self.create(path, FileKind::Symlink.mode_bits() | 0o777, Some(target));
            }
            Op::Tmpfile => self.tmpfile(None),
            Op::TmpfileLink(path) => self.tmpfile(Some(path)),
            Op::Link(from, to) => self.link(from, to),
            Op::Unlink(path) => self.unlink(path, false),
            Op::UnlinkOpen(path) => self.unlink(path, true),
            Op::Rmdir(path) => self.rmdir(path),
            Op::Rename(from, to) => self.rename(from, to, false),
            Op::Exchange(from, to) => self.rename(from, to, true),
            Op::CloseAll => {
                for id in std::mem::take(&mut self.open) {
                    self.drop_if_gone(id);
                }
            }
            Op::Write(path, offset, len) => {
                if let Some(id) = self.file(path) {
                    self.write(id, offset, len);
                }
            }
            Op::Append(path, len) => {
                if let Some(id) = self.file(path) {
                    self.write(id, self.tree.get(id).size, len);
                }
            }
            Op::MapWrite(path, block) => self.map_write(path, block),
            Op::Fault(path, block, want) => self.fault_in(path, block, want),
            Op::Preallocate(path, first, blocks, keep) => {
                self.preallocate(path, first, blocks, keep)
            }
            Op::Truncate(path, size) => self.truncate(path, size),
            Op::TruncateDeferred(path, size) => self.truncate_deferred(path, size),
            Op::TruncateBegin(path, size) => self.truncate_begin(path, size),
            Op::TruncateFinish(path) => self.truncate_finish(path),
            Op::Park(path, first, blocks) => self.park(path, first, blocks),
            Op::LetGo(path) => self.let_go(path),
            Op::GrowOver(path) => self.grow_over(path),
            Op::WriteAborted(path, offset, len) => self.write_aborted(path, offset, len),
            Op::Punch(path, first, end) => self.punch(path, first, end),
            Op::Collapse(path, first, blocks) => self.collapse(path, first, blocks),
            Op::Insert(path, at, blocks) => self.insert(path, at, blocks),
            Op::ZeroRange(path, first, end) => self.zero_range(path, first, end),
            Op::Zero(path, offset, len) => self.zero(path, offset, len),
            Op::SetAttributes(path) => self.set_attributes(path),
            Op::Touch(path) => self.touch(path),
            Op::Forget(path) => self.forget(path),
            Op::Checkpoint => self.checkpoint(),
            Op::Freeze => self.volume_call(|fs| fs.freeze()),
            Op::Sync => self.volume_call(|fs| fs.sync()),
            Op::Remount => self.remount(),
            Op::ReadOnlyAndBack => {
                self.volume_call(|fs| fs.remount(true));
                self.volume_call(|fs| fs.remount(false));
            }
            Op::Burn(count) => self.burn(count),
        }
        self.steps.len() > before
    }

    /// A call after which everything is durable, on an asynchronous device too.
    fn volume_call(&mut self, run: impl FnOnce(&Filesystem<Arena>) -> Result) {
        self.call(Vec::new(), &[], run, |tree| tree.settle());
        if let Some(step) = self.steps.last_mut() {
            step.durable = true;
        }
    }

    fn checkpoint(&mut self) {
        self.call(Vec::new(), &[], |fs| fs.volume().checkpoint(), |_| ());
    }

    /// A call that must not fail on a full filesystem either.
    pub(crate) fn always<T>(
        &mut self,
        touched: &[Id],
        run: impl FnOnce(&Filesystem<Arena>) -> Result<T>,
        change: impl FnOnce(&mut Tree),
    ) -> Option<T> {
        let value = self.call(Vec::new(), touched, run, change);
        if value.is_none() {
            self.fail("a call that takes away fails for want of space".into());
        }
        value
    }

    pub(crate) fn new_inode<'a>(&mut self, mode: u16, symlink: Option<&'a [u8]>) -> NewInode<'a> {
        NewInode {
            uid: 7,
            gid: 8,
            rdev: if mode & 0o170000 == 0o020000 {
                0x105
            } else {
                0
            },
            symlink,
            ..NewInode::new(mode, self.now())
        }
    }

    fn forget(&mut self, path: &str) {
        if let Some(id) = self.tree.find(path) {
            let inode = self.inode(id);
            self.inodes.remove(&id);
            self.leaves_memory(&inode);
        }
    }

    /// Finishes what a truncate has left.
    fn leaves_memory(&mut self, inode: &Inode) {
        self.always(&[], |fs| fs.evict(inode), |_| ());
    }

    fn remount(&mut self) {
        for id in std::mem::take(&mut self.open) {
            self.drop_if_gone(id);
        }
        let inodes: Vec<_> = self.inodes.drain().collect();
        for (_, inode) in inodes {
            self.leaves_memory(&inode);
        }
        self.volume_call(|fs| fs.unmount());
        self.choose_cpu();
        let arena = self.arena.clone();
        let mut mounted = None;
        self.volume_call(|_| {
            mounted = Some(Filesystem::mount(arena, &MountOptions::default())?);
            Ok(())
        });
        if let Some(fs) = mounted {
            self.fs = Some(Arc::new(fs));
        }
    }

    /// Chooses CPUs anew from here on.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }
}
