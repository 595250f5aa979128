// SPDX-License-Identifier: GPL-2.0

//! Power cuts under transactions that depend on each other and lie in several lanes.
//!
//! Each transaction number k writes k into words of three places: a slot of the orphan table, a checksummed block, and the
//! root's size; it frees the block of the one before and takes a new one. Whatever image a cut leaves, all of it must say
//! k, and k must be the last transaction that returned or the one under way. With `--features mutants` the same run must
//! fail for every broken ordering.

mod common;
use common::*;
use ochre::engine::alloc::policy::Purpose;
use ochre::engine::error::Result;
use ochre::engine::media::Media;
use ochre::engine::transaction::{Class, Object};
use ochre::engine::types::*;
use ochre::engine::verify::Expected;
use ochre::engine::volume::Volume;
use ochre::platform::set_current_cpu;
#[cfg(not(feature = "mutants"))]
use ochre_sim::seed::seed;
use ochre_sim::seed::Random;
use ochre_sim::{MemoryMedia, SimMedia};
use std::sync::{Arc, Mutex};

const MAGIC: u32 = u32::from_le_bytes(*b"OXLF");

fn expected(k: u64) -> Expected {
    Expected {
        magic: MAGIC,
        owner: Ino(k),
        generation: Generation(1),
    }
}

fn header(block: Block, uuid: &[u8; 16], k: u64) -> [u8; 72] {
    let mut h = [0u8; 72];
    h[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    h[16..24].copy_from_slice(&block.0.to_le_bytes());
    h[24..32].copy_from_slice(&k.to_le_bytes());
    h[32..48].copy_from_slice(uuid);
    h[48..52].copy_from_slice(&1u32.to_le_bytes());
    h[64..72].copy_from_slice(&k.to_le_bytes());
    h
}

/// Transaction k; `old` is the block that the one before made.
fn step<M: Media>(
    v: &Volume<M>,
    k: u64,
    old: Option<Block>,
    freed: Option<Block>,
) -> Result<Block> {
    let root = Object::Inode(v.inode_address(Ino::ROOT)?);
    // Data that is published: stored, not fenced, before the transaction.
    // It would like the metadata block that the transaction before freed.
    let request = ochre::engine::alloc::AllocRequest {
        goal: freed,
        ..data(1, 0, 1)
    };
    let reserved = v.reserve(&request)?;
    let content = reserved.run();
    v.media()
        .store_through(content.start.address(), &k.to_le_bytes());
    let mut tx = v.begin(Purpose::Removal)?;
    tx.publishes_data();
    let run = reserved.detach();
    tx.adopt(run)?;
    let block = tx.allocate_block(Block(0))?;
    let node = Object::Node(block.address());
    tx.create_object(node, &header(block, &v.info().uuid, k))?;
    tx.update(node, 800, &k.to_le_bytes())?;
    tx.update(root, 48, &k.to_le_bytes())?;
    tx.update(root, 80, &block.0.to_le_bytes())?;
    tx.update(root, 88, &run.start.0.to_le_bytes())?;
    let before = v.geometry().orphan_slot(64);
    tx.write_raw(before, &k.to_le_bytes())?;
    if k > 1 {
        let last = tx.read_u64(v.inode_address(Ino::ROOT)? + 96)?;
        tx.free(
            Run {
                start: Block(last),
                len: 1,
            },
            Class::Data,
        )?;
    }
    tx.update(root, 96, &run.start.0.to_le_bytes())?;
    // A lane comes round after a few of these.
    for i in 0..if k % 3 == 0 { 4 } else { 0 } {
        tx.write_raw(v.geometry().orphan_slot(65 + i), &[0; 7000])?;
    }
    if let Some(old) = old {
        tx.free(Run { start: old, len: 1 }, Class::Metadata)?;
    }
    tx.commit();
    Ok(block)
}

/// What an image says, after recovery; `Err` says what is wrong.
fn judge(image: MemoryMedia) -> Result<u64, String> {
    let text = |e| format!("{e}");
    let v = Volume::open(image, false).map_err(text)?;
    let root = v.inode_address(Ino::ROOT).map_err(text)?;
    let read = |a| v.media().read_u64(a).map_err(text);
    let mut record = [0u8; 256];
    v.media().read(root, &mut record).map_err(text)?;
    let k = read(root + 48)?;
    let tell = |what: &str, found: u64| Err(format!("{what} says {found}, the root {k}"));
    let slot = read(v.geometry().orphan_slot(64))?;
    if slot != k {
        return tell("the orphan table", slot);
    }
    let record: ochre::engine::format::inode::InodeRecord = zerocopy::transmute!(record);
    if ochre::engine::verify::inode_sum(v.keys(), &record) != record.checksum.get() {
        return Err("the root's checksum is wrong".into());
    }
    if k > 0 {
        let block = Block(read(root + 80)?);
        v.verify_node(block, &expected(k)).map_err(text)?;
        for at in [64, 800] {
            let found = read(block.address() + at)?;
            if found != k {
                return tell("the block", found);
            }
        }
        let content = Block(read(root + 88)?);
        let found = read(content.address())?;
        if found != k {
            return tell("the data", found);
        }
        for b in [block, content] {
            let (agno, relative) = v.geometry().locate(b).ok_or("block number")?;
            if !v.group(agno).map_err(text)?.all_used(relative, 1) {
                return Err(format!("block {b} is in use and free"));
            }
        }
        let used = v.usage().map_err(text)?;
        if used.blocks - used.free != 6 {
            return Err(format!(
                "{} blocks are in use instead of 6",
                used.blocks - used.free
            ));
        }
    }
    v.close().map_err(text)?;
    Ok(k)
}

/// Judges what a cut leaves at fences inside recovery too.
fn judge_twice(image: MemoryMedia, random: &mut Random) -> Result<u64, String> {
    let first = judge(image.snapshot())?;
    let sim = SimMedia::new(&image);
    let images = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut inner) = (images.clone(), random.clone());
    sim.on_fence(Some(Box::new(move |m| {
        kept.lock().unwrap().extend(m.crash_images(&mut inner, 4))
    })));
    Volume::open(sim.clone(), false).map_err(|e| format!("{e}"))?;
    sim.on_fence(None);
    for image in images.lock().unwrap().drain(..) {
        let second = judge(image)?;
        if second != first {
            return Err(format!("a crash inside recovery makes {second} of {first}"));
        }
    }
    Ok(first)
}

/// Runs `count` transactions over lanes; at each fence and after each commit judges up to `limit` images.
fn explore(seed: u64, count: u64, limit: usize, warm: bool) -> Result<u64, String> {
    explore_on(fresh(16 * MIB), seed, count, limit, warm)
}

fn explore_on(
    image: MemoryMedia,
    seed: u64,
    count: u64,
    limit: usize,
    warm: bool,
) -> Result<u64, String> {
    let sim = SimMedia::new(&image);
    let v = Volume::open(sim.clone(), false).map_err(|e| format!("{e}"))?;
    let mut random = Random::new(seed);
    let (mut old, mut freed) = (None, None);
    let mut total = 0;
    for k in 1..=count {
        set_current_cpu(random.below(3) as usize);
        let images: Arc<Mutex<Vec<MemoryMedia>>> = Arc::default();
        let (kept, mut inner) = (images.clone(), Random::new(random.next()));
        let forks: Arc<Mutex<Vec<SimMedia>>> = Arc::default();
        let kept_forks = (warm && k % 4 == 0).then(|| forks.clone());
        sim.on_fence(Some(Box::new(move |m| {
            kept.lock()
                .unwrap()
                .extend(m.crash_images(&mut inner, limit));
            if let Some(forks) = &kept_forks {
                forks.lock().unwrap().push(m.fork());
            }
        })));
        let new = step(&v, k, old, freed).map_err(|e| format!("step {k}: {e}"))?;
        (freed, old) = (old, Some(new));
        sim.on_fence(None);
        if random.below(16) == 0 {
            set_current_cpu(random.below(3) as usize);
            v.checkpoint().map_err(|e| format!("{e}"))?;
        }
        for image in images.lock().unwrap().drain(..) {
            let found = judge(image)?;
            total += 1;
            if found != k && found != k - 1 {
                return Err(format!("{found} after a cut in {k}"));
            }
        }
        for image in sim.crash_images(&mut random, limit) {
            let found = if k % 8 == 0 {
                judge_twice(image, &mut random)?
            } else {
                judge(image)?
            };
            total += 1;
            if found != k {
                return Err(format!("{found} after {k} returned"));
            }
        }
        for fork in forks.lock().unwrap().drain(..) {
            warm_restart(&fork, k, &mut random)?;
        }
    }
    Ok(total)
}

/// A machine restarts warm, with what its caches held in the midst of transaction k, recovers, and then the power goes.
fn warm_restart(again: &SimMedia, k: u64, random: &mut Random) -> Result<(), String> {
    let images: Arc<Mutex<Vec<MemoryMedia>>> = Arc::default();
    let (kept, mut inner) = (images.clone(), random.clone());
    again.on_fence(Some(Box::new(move |m| {
        kept.lock().unwrap().extend(m.crash_images(&mut inner, 8))
    })));
    drop(Volume::open(again.clone(), false).map_err(|e| format!("{e}"))?);
    again.on_fence(None);
    for image in images.lock().unwrap().drain(..) {
        let found = judge(image)?;
        if found != k && found != k - 1 {
            return Err(format!(
                "{found} instead of {k} after a warm restart and a cut"
            ));
        }
    }
    Ok(())
}

#[cfg(not(feature = "mutants"))]
#[test]
fn every_cut_leaves_one_state() {
    ochre::platform::log::set_quiet(true);
    let seed = seed("every_cut_leaves_one_state");
    match explore(seed, 60, 24, true) {
        Ok(images) => println!("{images} images"),
        Err(fault) => panic!("seed {seed}: {fault}"),
    }
}

/// A host that writes back in any order, and only keeps what a flush of the device has covered.
#[cfg(not(feature = "mutants"))]
#[test]
fn an_asynchronous_device_is_flushed_between_record_and_apply() {
    ochre::platform::log::set_quiet(true);
    let seed = seed("an_asynchronous_device_is_flushed_between_record_and_apply");
    if let Err(fault) = explore_on(fresh(16 * MIB).asynchronous(), seed, 40, 16, false) {
        panic!("seed {seed}: {fault}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn broken_orderings_are_found() {
    use ochre::engine::mutant::{choose, Mutant::*};
    ochre::platform::log::set_quiet(true);
    let mutants = [
        NoCommitFence,
        NoDataFence,
        ApplyBeforeRecord,
        NoQuarantine,
        ReplayBelowCheckpoint,
        UnorderedReplay,
        NoDrain,
        NoApplyWriteBack,
        ReclaimEarly,
        NoJournalWriteBack,
        CheckpointTooFar,
        CheckpointBack,
        AcceptForged,
        ShortChecksum,
    ];
    let mut missed = Vec::new();
    for mutant in mutants {
        choose(Some(mutant));
        let found = (1..6).find_map(|s| explore(s, 90, 16, true).err());
        choose(None);
        match found {
            Some(fault) => println!("{mutant:?}: {fault}"),
            None => missed.push(mutant),
        }
    }
    // This one needs a second owner while the first one's transaction is open.
    choose(Some(FreeBeforeApply));
    let v = open(fresh(16 * MIB));
    let mut tx = v.begin(Purpose::Data).unwrap();
    let (run, _) = tx.allocate(&data(5, 0, 4)).unwrap();
    tx.commit();
    let mut tx = v.begin(Purpose::Removal).unwrap();
    tx.free(run, Class::Data).unwrap();
    let request = ochre::engine::alloc::AllocRequest {
        goal: Some(run.start),
        ..data(6, 0, 4)
    };
    let other = v.reserve(&request).unwrap();
    choose(None);
    if other.run().start != run.start {
        missed.push(FreeBeforeApply);
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
