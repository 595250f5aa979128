// SPDX-License-Identifier: GPL-2.0

//! Several threads at once: lanes, groups, checkpoints.

mod common;
use common::*;
use ochre::engine::alloc::policy::Purpose;
use ochre::engine::media::Media;
use ochre::engine::transaction::{Class, Object};
use ochre::engine::types::*;
use ochre::engine::volume::Volume;
use ochre::platform::set_current_cpu;
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use std::collections::HashSet;
use std::sync::Mutex;

/// Threads take and free blocks, inodes and orphan slots while another thread makes checkpoints. Nothing is handed out
/// twice, and at the end counts and bits agree, also after a recovery of the unclosed volume.
fn storm(media: MemoryMedia, seed: u64) {
    let v = open(media.clone());
    let owned: Mutex<HashSet<u64>> = Mutex::default();
    let done = std::sync::atomic::AtomicBool::new(false);
    let kept: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|cpu| {
                let (v, owned) = (&v, &owned);
                scope.spawn(move || {
                    set_current_cpu(cpu);
                    worker(v, owned, Random::new(seed + cpu as u64))
                })
            })
            .collect();
        let done = &done;
        let v = &v;
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let before = v.durable_checkpoint();
                v.checkpoint().expect("checkpoint");
                assert!(v.durable_checkpoint() >= before, "C only rises");
                std::thread::yield_now();
            }
        });
        let kept = workers.into_iter().map(|w| w.join().expect("worker")).sum();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        kept
    });
    let chunks: u64 = (0..v.geometry().ag_count)
        .map(|a| u64::from(v.group(a).unwrap().state.lock().chunks.count()))
        .sum();
    let usage = v.usage().unwrap();
    assert_eq!(usage.blocks - usage.free, kept + 4 * chunks);
    // Without a close: what recovery makes of it.
    let again = open(media.snapshot());
    assert_eq!(again.usage().unwrap(), usage);
    again.close().unwrap();
    check_counts(&again);
    v.close().unwrap();
    check_counts(&v);
}

/// Returns the blocks that it still has at the end.
fn worker<M: Media>(v: &Volume<M>, owned: &Mutex<HashSet<u64>>, mut random: Random) -> u64 {
    let mut runs: Vec<(Run, Class)> = Vec::new();
    let mut inodes: Vec<(Ino, u32)> = Vec::new();
    for _ in 0..3000 {
        let mut tx = v.begin(Purpose::Removal).expect("begin");
        if random.below(3) > 0 {
            let (run, class) = if random.below(2) == 0 {
                let block = tx.allocate_block(Block(0)).expect("block");
                tx.create_object(Object::Node(block.address()), &[3; 64])
                    .expect("object");
                (
                    Run {
                        start: block,
                        len: 1,
                    },
                    Class::Metadata,
                )
            } else {
                let request = data(1 + random.below(9), 0, 1 + random.below(30));
                (tx.allocate(&request).expect("data").0, Class::Data)
            };
            let (ino, address) = tx.allocate_inode(random.below(2) as u32).expect("inode");
            tx.create_object(Object::Inode(address), &[])
                .expect("inode");
            let slot = tx.allocate_orphan_slot(ino).expect("slot");
            if random.below(4) == 0 {
                drop(tx);
                continue;
            }
            {
                let mut owned = owned.lock().unwrap();
                for b in run.start.0..run.end().0 {
                    assert!(owned.insert(b), "block {b} handed out twice");
                }
                assert!(
                    owned.insert(1 << 40 | ino.0),
                    "inode {ino} handed out twice"
                );
                assert!(
                    owned.insert(1 << 50 | u64::from(slot)),
                    "slot {slot} handed out twice"
                );
            }
            tx.commit();
            runs.push((run, class));
            inodes.push((ino, slot));
        } else if !runs.is_empty() {
            let i = random.below(runs.len() as u64) as usize;
            let (run, class) = runs.swap_remove(i);
            let (ino, slot) = inodes.swap_remove(i);
            tx.free(run, class).expect("free");
            tx.free_inode(ino).expect("inode");
            tx.free_orphan_slot(slot).expect("slot");
            {
                // Before the commit: from then on others may have them.
                let mut owned = owned.lock().unwrap();
                for b in run.start.0..run.end().0 {
                    owned.remove(&b);
                }
                owned.remove(&(1 << 40 | ino.0));
                owned.remove(&(1 << 50 | u64::from(slot)));
            }
            tx.commit();
        }
    }
    runs.iter().map(|(run, _)| run.len).sum()
}

#[test]
fn nothing_is_handed_out_twice() {
    let seed = seed("nothing_is_handed_out_twice");
    storm(fresh(1100 * MIB), seed);
    storm(fresh(1100 * MIB).asynchronous(), seed);
}
