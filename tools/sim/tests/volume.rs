// SPDX-License-Identifier: GPL-2.0

//! Transactions, allocation and checkpoints on plain memory.

mod common;
use common::*;
use ochre::engine::alloc::policy::Purpose;
use ochre::engine::alloc::Window;
use ochre::engine::error::Error;
use ochre::engine::media::Media;
use ochre::engine::transaction::{Class, Object};
use ochre::engine::types::*;
use ochre::engine::verify::Expected;
use ochre::platform::{fail_allocation_after, set_current_cpu};

const MAGIC: u32 = u32::from_le_bytes(*b"OXLF");
const EXPECTED: Expected = Expected {
    magic: MAGIC,
    owner: Ino(9),
    generation: Generation(3),
};

fn header(block: Block, uuid: &[u8; 16]) -> [u8; 64] {
    let mut h = [0u8; 64];
    h[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    h[16..24].copy_from_slice(&block.0.to_le_bytes());
    h[24..32].copy_from_slice(&9u64.to_le_bytes());
    h[32..48].copy_from_slice(uuid);
    h[48..52].copy_from_slice(&3u32.to_le_bytes());
    h
}

#[test]
fn a_transaction_reads_its_own_writes_and_keeps_the_sum() {
    let v = open(fresh(64 * MIB));
    let uuid = v.info().uuid;
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    let block = tx.allocate_block(Block(0)).unwrap();
    let node = Object::Node(block.address());
    tx.create_object(node, &header(block, &uuid)).unwrap();
    tx.update(node, 100, b"hello").unwrap();
    tx.update(node, 102, b"LL").unwrap();
    tx.update(node, 98, b"##").unwrap();
    tx.update(node, 3000, &[7; 600]).unwrap();
    tx.update(node, 3001, &[8; 3]).unwrap();
    let mut seen = [0; 9];
    tx.read(block.address() + 97, &mut seen).unwrap();
    assert_eq!(&seen, b"\0##heLLo\0");
    tx.verify_node(block, &EXPECTED).unwrap();
    tx.commit();
    v.media().read(block.address() + 97, &mut seen).unwrap();
    assert_eq!(&seen, b"\0##heLLo\0");
    v.close().unwrap();

    // Another mount sums the block up.
    let v = open(v.media().clone());
    v.verify_node(block, &EXPECTED).unwrap();
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    tx.update(node, 5, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    tx.update(node, 4, &[0; 2]).unwrap();
    tx.commit();
    v.close().unwrap();
    let v = open(v.media().clone());
    assert_eq!(
        v.verify_node(
            block,
            &Expected {
                owner: Ino(8),
                ..EXPECTED
            }
        ),
        Err(Error::corrupt("metadata block owner", block.address()))
    );
    v.media().damage(block.address() + 3100, b"x");
    assert_eq!(
        v.verify_node(block, &EXPECTED),
        Err(Error::corrupt(EXPECTED.checksum_fault(), block.address()))
    );
}

#[test]
fn dropping_a_transaction_leaves_nothing() {
    let v = open(fresh(16 * MIB));
    let before = v.media().bytes(0, 16 << 20);
    let free = v.usage().unwrap();
    for _ in 0..3 {
        let mut tx = v.begin(Purpose::Data).unwrap();
        let run = tx.allocate(&data(5, 0, 900)).unwrap().0;
        let ino = tx.allocate_inode(0).unwrap().0;
        let slot = tx.allocate_orphan_slot(ino).unwrap();
        tx.update(
            Object::Inode(v.inode_address(Ino::ROOT).unwrap()),
            48,
            &[1; 8],
        )
        .unwrap();
        assert_eq!((run.start.0 % 512, ino, slot), (0, Ino(2), 0));
    }
    assert_eq!(v.usage().unwrap(), free);
    assert!(v.media().bytes(0, 16 << 20) == before);
}

#[test]
fn freed_blocks_wait_for_their_clear() {
    let v = open(fresh(16 * MIB));
    let mut tx = v.begin(Purpose::Data).unwrap();
    let free = v.usage().unwrap();
    let (run, _) = tx.allocate(&data(5, 0, 4)).unwrap();
    tx.commit();
    assert_eq!(v.usage().unwrap().free, free.free - 4);
    let mut tx = v.begin(Purpose::Removal).unwrap();
    tx.free(run, Class::Data).unwrap();
    let other = v.reserve(&AllocGoal(run.start).request(6)).unwrap();
    assert!(
        other.run().start >= run.end(),
        "still taken while the freeing transaction is open"
    );
    tx.commit();
    let again = v.reserve(&AllocGoal(run.start).request(7)).unwrap();
    assert_eq!(again.run().start, run.start);
    let mut tx = v.begin(Purpose::Removal).unwrap();
    assert!(
        matches!(tx.free(run, Class::Data), Err(Error::Corrupt(_))),
        "freed twice"
    );
}

struct AllocGoal(Block);
impl AllocGoal {
    fn request(&self, owner: u64) -> ochre::engine::alloc::AllocRequest {
        ochre::engine::alloc::AllocRequest {
            goal: Some(self.0),
            ..data(owner, 0, 4)
        }
    }
}

#[test]
fn freed_metadata_waits_for_the_checkpoint() {
    let v = open(fresh(16 * MIB));
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    let block = tx.allocate_block(Block(0)).unwrap();
    tx.commit();
    let mut tx = v.begin(Purpose::Removal).unwrap();
    tx.free(
        Run {
            start: block,
            len: 1,
        },
        Class::Metadata,
    )
    .unwrap();
    let seq = tx.commit();
    assert!(v.durable_checkpoint() <= seq);
    let (agno, relative) = v.geometry().locate(block).unwrap();
    let taken = || {
        v.group(agno)
            .unwrap()
            .state
            .lock()
            .map
            .all_taken(relative, 1)
    };
    assert!(taken());
    v.checkpoint().unwrap();
    assert!(v.durable_checkpoint() > seq);
    assert!(!taken());
}

#[test]
fn lanes_wrap_and_checkpoints_follow() {
    let v = open(fresh(16 * MIB));
    let root = Object::Inode(v.inode_address(Ino::ROOT).unwrap());
    for i in 0..20_000u64 {
        set_current_cpu((i % 3) as usize);
        let mut tx = v.begin(Purpose::Metadata).unwrap();
        tx.update(root, 48, &i.to_le_bytes()).unwrap();
        tx.commit();
    }
    assert!(v.durable_checkpoint() > Seq(1000));
    // Records up to a whole segment.
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    let base = v.geometry().orphan_slot(0);
    let mut n = 0;
    while tx.room() > 200 {
        tx.write_raw(base + n * 8, &[0; 1024]).unwrap();
        n += 128;
        n %= 512;
        if n == 0 {
            break;
        }
    }
    tx.commit();
    v.close().unwrap();
    check_counts(&v);
}

#[test]
fn inodes_grow_by_chunks_and_come_back() {
    let v = open(fresh(16 * MIB));
    let mut all = Vec::new();
    for _ in 0..200 {
        let mut tx = v.begin(Purpose::Metadata).unwrap();
        let (ino, address) = tx.allocate_inode(0).unwrap();
        tx.create_object(Object::Inode(address), &[]).unwrap();
        tx.commit();
        assert_eq!(v.inode_address(ino), Ok(address));
        all.push(ino);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 200);
    assert_eq!(v.usage().unwrap().used_inodes, 202);
    let mut tx = v.begin(Purpose::Removal).unwrap();
    tx.free_inode(all[50]).unwrap();
    assert!(v.inode_address(all[50]).is_ok());
    tx.commit();
    assert_eq!(v.inode_address(all[50]), Err(Error::Stale));
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    assert_eq!(tx.allocate_inode(0).unwrap().0, all[50]);
    drop(tx);
    v.close().unwrap();
    let v = open(v.media().clone());
    assert!(v.inode_address(all[199]).is_ok());
    assert_eq!(v.inode_address(all[50]), Err(Error::Stale));
}

#[test]
fn two_open_transactions_share_a_full_chunk() {
    let v = open(fresh(16 * MIB));
    let mut open_ones: Vec<_> = (0..70)
        .map(|_| v.begin(Purpose::Metadata).unwrap())
        .collect();
    let mut inos: Vec<_> = open_ones
        .iter_mut()
        .map(|tx| tx.allocate_inode(0).unwrap().0)
        .collect();
    inos.sort();
    inos.dedup();
    assert_eq!(inos.len(), 70);
}

#[test]
fn small_pieces_of_a_growing_file_end_up_aligned() {
    let v = open(fresh(400 * MIB));
    let mut window = Window::NONE;
    let mut goal = None;
    let mut placed = Vec::new();
    for i in 0..64u64 {
        let mut r = data(7, i * 32, 32);
        (r.window, r.goal) = (window, goal);
        let mut tx = v.begin(Purpose::Data).unwrap();
        let (run, w) = tx.allocate(&r).unwrap();
        tx.commit();
        // Others get in between.
        let mut tx = v.begin(Purpose::Data).unwrap();
        tx.allocate(&data(100 + i, 0, 3)).unwrap();
        tx.allocate(&data(200 + i, 0, 20)).unwrap();
        tx.commit();
        assert_eq!(run.len, 32);
        (window, goal) = (w, Some(run.end()));
        placed.push(run.start.0);
    }
    let start = placed[0];
    for (i, at) in placed.iter().enumerate() {
        assert_eq!(at % 512, i as u64 * 32 % 512, "congruent");
        assert_eq!(at / 512, placed[i - i % 16] / 512, "16 pieces share a slot");
    }
    assert_eq!(start % 512, 0);
}

#[test]
fn a_large_request_is_one_run() {
    let v = open(fresh(200 * MIB));
    let mut tx = v.begin(Purpose::Data).unwrap();
    let (run, _) = tx.allocate(&data(7, 0, 64 * 256)).unwrap();
    assert_eq!((run.start.0 % 512, run.len), (0, 64 * 256));
    let mut exact = data(8, 512, 512);
    exact.min = 512;
    let (run, _) = tx.allocate(&exact).unwrap();
    assert_eq!((run.start.0 % 512, run.len), (0, 512));
}

#[test]
fn full_is_full_and_removal_still_works() {
    let v = open(fresh(16 * MIB));
    let mut runs = Vec::new();
    loop {
        let mut tx = v.begin(Purpose::Data).unwrap();
        match tx.allocate(&data(7, 0, 700)) {
            Ok((run, _)) => {
                tx.commit();
                runs.push(run);
            }
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                break;
            }
        }
    }
    assert_eq!(v.usage().unwrap().free, 32, "the reserve is left");
    let mut tx = v.begin(Purpose::Metadata).unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| tx.allocate_block(Block(0)).ok()).collect();
    assert_eq!(blocks.len(), 16);
    tx.commit();
    let mut tx = v.begin(Purpose::Removal).unwrap();
    let last: Vec<_> = std::iter::from_fn(|| tx.allocate_block(Block(0)).ok()).collect();
    assert_eq!(last.len(), 16);
    drop(tx);
    for run in runs {
        let mut tx = v.begin(Purpose::Removal).unwrap();
        tx.free(run, Class::Data).unwrap();
        tx.commit();
    }
    // Quarantined blocks come back before NoSpace is said.
    let mut tx = v.begin(Purpose::Removal).unwrap();
    for b in blocks {
        tx.free(Run { start: b, len: 1 }, Class::Metadata).unwrap();
    }
    tx.commit();
    let all = v.usage().unwrap().free;
    let mut tx = v.begin(Purpose::Removal).unwrap();
    let mut r = data(7, 0, 1);
    r.purpose = Purpose::Removal;
    let mut n = 0;
    while tx.allocate(&r).is_ok() {
        n += 1;
    }
    assert_eq!(n, all);
}

#[test]
fn an_owned_slot_is_broken_before_no_space_is_said() {
    let v = open(fresh(16 * MIB));
    let mut windows = Vec::new();
    for owner in 10.. {
        match v.reserve(&data(owner, 16, 16)) {
            Ok(r) => windows.push(r),
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                break;
            }
        }
    }
    assert!(
        windows.len() > 100,
        "{} files with a window share 12 MiB",
        windows.len()
    );
}

#[test]
fn every_failing_allocation_leaves_nothing() {
    for n in 0..60 {
        let v = open(fresh(16 * MIB));
        let usage = v.usage().unwrap();
        fail_allocation_after(Some(n));
        let result: Result<(), Error> = (|| {
            let mut tx = v.begin(Purpose::Metadata)?;
            let (ino, address) = tx.allocate_inode(0)?;
            tx.create_object(Object::Inode(address), &[0; 256])?;
            let block = tx.allocate_block(Block(0))?;
            tx.create_object(Object::Node(block.address()), &[1; 4096])?;
            tx.create_object(Object::Node(block.address()), &[1; 4096])?;
            tx.create_object(Object::Node(block.address()), &[1; 4096])?;
            tx.allocate_orphan_slot(ino)?;
            tx.free_orphan_slot(3)?;
            tx.commit();
            Ok(())
        })();
        let pending = ochre::platform::allocation_failure_pending();
        fail_allocation_after(None);
        match result {
            Ok(()) => assert!(pending || n > 0),
            Err(error) => {
                assert_eq!(error, Error::NoMemory);
                assert_eq!(v.usage().unwrap(), usage);
                let mut tx = v.begin(Purpose::Metadata).unwrap();
                assert_eq!(tx.allocate_inode(0).unwrap().0, Ino(2));
            }
        }
        if pending {
            return;
        }
    }
    panic!("the operation allocates more often than expected");
}
