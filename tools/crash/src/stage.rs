// SPDX-License-Identifier: GPL-2.0

//! The filesystems that sequences begin on.
//!
//! Each is made once by the engine itself, unmounted and checked; a sequence mounts it. Some go on with a prelude that is run
//! before every sequence but not explored: what is in memory then (where a lane's head stands, what is in quarantine) is a
//! part of the condition, and no image holds it.

use crate::arena::Arena;
use crate::judge;
use crate::model::Tree;
use crate::op::Op;
use crate::world::World;
use ochre::engine::mkfs::mkfs;
use ochre_sim::image;

/// 1 MiB.
const MIB: u64 = 1 << 20;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but the root.
    Fresh,
    /// The namespace of [`crate::op`].
    Lived,
    /// The same with hardly any free block.
    Full,
    /// The same with free space in single blocks.
    Fragmented,
    /// As `Lived`, with a file of more extents than one transaction takes out.
    Shattered,
    /// Two groups, the first one nearly full.
    Groups,
    /// The same as `Lived`, with lanes that come round: segments are reused, the checkpoint moves.
    Wrapped,
    /// As `Full`, with freed metadata blocks waiting in quarantine.
    Quarantine,
    /// As `Lived`, on an asynchronous device.
    Asynchronous,
}

/// All of them.
pub const KINDS: [Kind; 9] = [
    Kind::Fresh,
    Kind::Lived,
    Kind::Full,
    Kind::Fragmented,
    Kind::Shattered,
    Kind::Groups,
    Kind::Wrapped,
    Kind::Quarantine,
    Kind::Asynchronous,
];

impl Kind {
    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|k| k.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Lived => "lived",
            Self::Full => "full",
            Self::Fragmented => "fragmented",
            Self::Shattered => "shattered",
            Self::Groups => "groups",
            Self::Wrapped => "wrapped",
            Self::Quarantine => "quarantine",
            Self::Asynchronous => "asynchronous",
        }
    }

    /// What is run before each sequence.
    fn prelude(self) -> &'static [Op] {
        match self {
            // 60 records of 4 KiB and a little fill a lane; heads end up close to the end of their segments.
            Self::Wrapped => &[
                Op::SetAttributes("/foo"),
                Op::Burn(101),
                Op::SetAttributes("/foo"),
                Op::Burn(101),
                Op::Rename("/bar", "/moved"),
                Op::Rename("/moved", "/bar"),
                Op::Burn(53),
                Op::SetAttributes("/bar"),
            ],
            Self::Quarantine => &[Op::Unlink("/many"), Op::Unlink("/A/long")],
            _ => &[],
        }
    }
}

/// A filesystem to begin on, on memory of its own.
pub struct Stage {
    /// Which.
    pub kind: Kind,
    /// Holds the image at its lowest level.
    pub arena: Arena,
    /// What is in it.
    pub tree: Tree,
}

impl Stage {
    /// Makes one.
    pub fn new(kind: Kind) -> Result<Self, String> {
        let size = match kind {
            Kind::Groups => 1024 * MIB + 16 * MIB,
            _ => 16 * MIB,
        };
        let text = |e| format!("making {}: {e}", kind.name());
        let arena = Arena::new(size, kind != Kind::Asynchronous);
        let options = image::options(size);
        mkfs(&arena, &options, |_, _| ()).map_err(text)?;
        let mut root = Tree::new();
        let node = root.edit(0);
        node.mode |= 0o755;
        node.times = [options.time.0; 3];
        let mut world = World::mount(&arena, root, 1).map_err(text)?;
        for op in populate(kind) {
            world.run(0, op);
        }
        fill(&mut world, kind);
        if let Some(fault) = world.fault.take() {
            return Err(format!("making {}: {fault}", kind.name()));
        }
        let tree = world.unmount().map_err(text)?;
        judge::check(&arena, true)?;
        Ok(Self { kind, arena, tree })
    }

    /// Opens a level with what the prelude leaves, durably, and another one on top of it, in which everything is recorded.
    /// The seed chooses CPUs from there on.
    pub fn enter(&self, seed: u64) -> Result<World, String> {
        let mount = || {
            World::mount(&self.arena, self.tree.clone(), seed).map_err(|e| format!("mount: {e}"))
        };
        let prelude = self.kind.prelude();
        self.arena.push();
        if prelude.is_empty() {
            self.arena.push();
            self.arena.record();
            return mount();
        }
        let mut world = mount()?;
        world.reseed(1);
        for &op in prelude {
            world.run(0, op);
        }
        world.reseed(seed);
        world.steps.clear();
        self.arena.push();
        self.arena.record();
        Ok(world)
    }
}

const B: u64 = 4096;

/// The calls that make the namespace.
fn populate(kind: Kind) -> Vec<Op> {
    if kind == Kind::Fresh {
        return Vec::new();
    }
    let mut ops = vec![
        Op::Mkdir("/A"),
        Op::Mkdir("/A/C"),
        Op::Mkdir("/B"),
        Op::Mkdir("/D"),
        Op::Create("/foo"),
        Op::Write("/foo", 0, 3 * B),
        Op::Write("/foo", 5 * B, B + 2000),
        Op::Create("/bar"),
        Op::Write("/bar", 0, B + 100),
        Op::Link("/bar", "/A/link"),
        Op::Create("/A/foo"),
        Op::Create("/A/pre"),
        Op::Preallocate("/A/pre", 0, 12, false),
        Op::Preallocate("/A/pre", 12, 4, true),
        Op::Symlink("/sym", 30),
        Op::Symlink("/A/long", 3000),
        Op::Create("/big"),
        Op::Truncate("/big", 4 << 20),
        Op::Create("/many"),
        Op::Create("/D/one"),
    ];
    for i in 0..9 {
        ops.push(Op::Write("/A/foo", i * 2 * B, B));
    }
    ops
}

/// What takes too many calls to be listed: many extents, many names, no space.
fn fill(world: &mut World, kind: Kind) {
    if kind == Kind::Fresh {
        return;
    }
    world.many_extents("/many", if kind == Kind::Shattered { 1500 } else { 300 });
    world.many_names("/D", "/D/one", 62);
    let free = world.statfs().free;
    match kind {
        Kind::Full | Kind::Quarantine => world.filler("/filler", free.saturating_sub(44)),
        Kind::Fragmented => {
            world.filler("/filler", free.saturating_sub(48));
            world.perforate("/filler", 500);
        }
        // Some 800 blocks of the first group stay free, and all of the second.
        Kind::Groups => world.filler("/filler", free.saturating_sub(2047 + 800)),
        _ => {}
    }
}
