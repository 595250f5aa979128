// SPDX-License-Identifier: GPL-2.0

//! Lost memory: what the engine does about blocks that cannot be read any more. The simulated medium fails reads of them, and
//! ends the test when the engine stores to one that is known to be lost.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Condition, Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, Times,
    WriteKind,
};
use ochre::engine::fsck::{self, Issue};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, FileKind, Run, Timestamp, BLOCK_SIZE, SLOT_BLOCKS};
use ochre_sim::image;
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use std::collections::{BTreeMap, BTreeSet};

type Fs = Filesystem<MemoryMedia>;

const SIZE: u64 = 64 << 20;

fn mount(media: &MemoryMedia) -> Fs {
    Filesystem::mount(media.clone(), &MountOptions::default()).expect("mount")
}

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode::new(kind.mode_bits() | 0o755, Timestamp(5))
}

fn create(fs: &Fs, name: &str) -> Inode {
    let root = fs.iget(fs.root()).expect("root");
    fs.create(&root, name.as_bytes(), &new(FileKind::Regular))
        .expect("create")
}

/// Writes whole blocks of `fill`.
fn write(fs: &Fs, file: &Inode, start: u64, blocks: u64, fill: u8) -> Result<(), Error> {
    let mut at = start;
    while at < start + blocks {
        let to = fs.reserve_write(file, FileBlock(at), start + blocks - at, 0)?;
        let bytes = vec![fill; (to.len * BLOCK_SIZE) as usize];
        fs.media().store_through(to.block.address(), &bytes);
        let args = PublishArgs {
            new_size: Some((at + to.len) * BLOCK_SIZE),
            times: Times::default(),
        };
        at += to.len;
        let len = to.len;
        fs.publish(file, to, len, &args)?;
    }
    Ok(())
}

/// What a reader would get of a block.
fn read(fs: &Fs, file: &Inode, at: u64) -> Result<u8, Error> {
    let mapping = fs.map(file, FileBlock(at), 1)?;
    let MappingState::Written(block) = mapping.state else {
        return Ok(0);
    };
    match fs.condition(&mapping)? {
        Condition::Lost(_) => Err(Error::Poisoned),
        Condition::Intact(_) => {
            let bytes = fs.media().bytes(block.address(), BLOCK_SIZE as usize);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            Ok(bytes[0])
        }
    }
}

fn block_of(fs: &Fs, file: &Inode, at: u64) -> Block {
    match fs.map(file, FileBlock(at), 1).expect("map").state {
        MappingState::Written(block) | MappingState::Unwritten(block) => block,
        MappingState::Hole => panic!("block {at} is a hole"),
    }
}

fn one(block: Block) -> Run {
    Run {
        start: block,
        len: 1,
    }
}

/// A memory failure, and the kernel's word of it.
fn lose(fs: &Fs, block: Block) {
    fs.media().poison(block.address(), BLOCK_SIZE);
    fs.lose(one(block), None).expect("room in the list");
}

/// Takes all space there is, and says which blocks it was.
fn fill_up(fs: &Fs) -> BTreeSet<u64> {
    let file = create(fs, "everything");
    let mut blocks = BTreeSet::new();
    let mut at = 0;
    loop {
        match fs.reserve_write(&file, FileBlock(at), 4096, 0) {
            Ok(to) => {
                blocks.extend(to.block.0..to.block.0 + to.len);
                at += to.len;
                let len = to.len;
                fs.publish(&file, to, len, &PublishArgs::default())
                    .expect("publish");
            }
            Err(Error::NoSpace) => return blocks,
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Default)]
struct Issues(Vec<Issue>);

impl fsck::Observer for Issues {
    fn issue(&mut self, issue: &Issue) {
        self.0.push(*issue);
    }
}

fn assert_sound(media: &MemoryMedia) {
    let mut issues = Issues::default();
    fsck::check(media, fsck::Options::default(), &mut issues).expect("check");
    assert!(issues.0.is_empty(), "{:?}", issues.0);
}

#[test]
fn a_lost_block_of_a_file_is_an_error_until_it_is_written_anew() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let (file, other) = (create(&fs, "file"), create(&fs, "other"));
    write(&fs, &file, 0, 10, 1).expect("write");
    write(&fs, &other, 0, 10, 2).expect("write");
    let lost = block_of(&fs, &file, 4);
    let free = fs.statfs().free;
    lose(&fs, lost);
    assert_eq!(fs.statfs().free, free, "it is in use");
    assert!(!fs.is_read_only());

    let whole = fs.map(&file, FileBlock(0), 10).expect("map");
    assert_eq!(fs.condition(&whole), Ok(Condition::Intact(4)));
    for at in 0..10 {
        let expected = if at == 4 { Err(Error::Poisoned) } else { Ok(1) };
        assert_eq!(read(&fs, &file, at), expected);
        assert_eq!(read(&fs, &other, at), Ok(2));
    }
    assert_eq!(
        fs.fault_allocate(&file, FileBlock(4), 1),
        Err(Error::Poisoned)
    );
    // The blocks before it are written in place, those behind it too.
    let to = fs
        .reserve_write(&file, FileBlock(2), 8, 0)
        .expect("reserve");
    assert_eq!((to.kind, to.len), (WriteKind::InPlace, 2));
    fs.cancel(to);
    let to = fs
        .reserve_write(&file, FileBlock(4), 6, 0)
        .expect("reserve");
    assert_eq!((to.kind, to.len), (WriteKind::Replace, 1));
    assert_ne!(to.block, lost);
    // Given up: the file keeps its lost block.
    fs.cancel(to);
    assert_eq!(read(&fs, &file, 4), Err(Error::Poisoned));

    write(&fs, &file, 3, 3, 7).expect("write");
    for (at, byte) in [(2, 1), (3, 7), (4, 7), (5, 7), (6, 1)] {
        assert_eq!(read(&fs, &file, at), Ok(byte));
    }
    assert_eq!(file.attributes().blocks, 10);
    assert_eq!(fs.statfs().free, free - 1, "nobody can have the lost one");
    assert!(!fill_up(&fs).contains(&lost.0));
    fs.unmount().expect("unmount");
    assert!(media.is_poisoned(lost.address(), BLOCK_SIZE));
    assert_sound(&media);

    // The same after the machine was started anew, from the device's list; and from the marks of its pages.
    for suspect in [false, true] {
        let media = media.snapshot();
        if suspect {
            media.suspect();
        } else {
            media.list_poison();
        }
        let fs = mount(&media);
        let root = fs.iget(fs.root()).expect("root");
        let ino = fs.lookup(&root, b"everything").expect("lookup");
        let everything = fs.iget(ino).expect("iget");
        fs.unlink(&root, b"everything", &everything, Timestamp(9))
            .expect("unlink");
        fs.evict(&everything).expect("evict");
        assert_eq!(fs.statfs().free, free - 1);
        assert!(!fill_up(&fs).contains(&lost.0));
        fs.unmount().expect("unmount");
        assert_sound(&media);
    }
}

#[test]
fn whatever_takes_a_lost_block_out_of_a_file_quarantines_it() {
    type Call = fn(&Fs, Inode);
    /// Where blocks of held pages go.
    const FAR: FileBlock = FileBlock::PARKED;
    let calls: [(&str, Call); 10] = [
        ("collapse", |fs, file| {
            fs.collapse(&file, FileBlock(3), 3, None, &Times::default())
                .expect("collapse");
            assert!((0..7).all(|at| read(fs, &file, at) == Ok(1)));
        }),
        ("collapse over held pages", |fs, file| {
            fs.collapse(&file, FileBlock(3), 3, Some(FAR), &Times::default())
                .expect("collapse");
            while fs.free_beyond(&file, FAR).expect("free") {}
            assert!((0..7).all(|at| read(fs, &file, at) == Ok(1)));
        }),
        ("parking", |fs, file| {
            fs.park(&file, FileBlock(4), 1, FAR.plus(4)).expect("park");
            assert_eq!(read(fs, &file, 4), Ok(0));
            while fs.free_beyond(&file, FAR).expect("free") {}
        }),
        ("parking, then unlink", |fs, file| {
            fs.park(&file, FileBlock(4), 1, FAR.plus(4)).expect("park");
            let root = fs.iget(fs.root()).expect("root");
            fs.unlink(&root, b"file", &file, Timestamp(9))
                .expect("unlink");
            fs.evict(&file).expect("evict");
        }),
        ("a truncate over held pages", |fs, file| {
            fs.truncate_size(&file, 2 * BLOCK_SIZE, &Times::default())
                .expect("truncate");
            // The file grows over them while they are held: what is lost stays an error, the rest is zeros.
            fs.reclaim(&file, FileBlock(6)).expect("reclaim");
            fs.set_size_only(&file, 6 * BLOCK_SIZE, &Times::default())
                .expect("growth");
            assert_eq!(read(fs, &file, 4), Err(Error::Poisoned));
            assert!([2, 3, 5].iter().all(|at| read(fs, &file, *at) == Ok(0)));
            while fs.free_beyond(&file, FileBlock(6)).expect("free") {}
            fs.truncate(&file, BLOCK_SIZE, &Times::default())
                .expect("truncate");
        }),
        ("zero range, then a write", |fs, file| {
            fs.zero_range(&file, FileBlock(3), FileBlock(6), None, &Times::default())
                .expect("zero");
            assert!((3..6).all(|at| read(fs, &file, at) == Ok(0)));
            write(fs, &file, 4, 1, 8).expect("write");
            assert_eq!(read(fs, &file, 4), Ok(8));
        }),
        ("punch", |fs, file| {
            fs.punch(&file, FileBlock(3), FileBlock(6), &Times::default())
                .expect("punch");
        }),
        ("truncate", |fs, file| {
            fs.truncate(&file, 0, &Times::default()).expect("truncate");
        }),
        ("truncate into it", |fs, file| {
            let size = 4 * BLOCK_SIZE + 100;
            fs.truncate(&file, size, &Times::default()).expect("down");
            assert_eq!(read(fs, &file, 4), Err(Error::Poisoned));
            fs.truncate(&file, 8 * BLOCK_SIZE, &Times::default())
                .expect("up");
            assert_eq!(read(fs, &file, 4), Err(Error::Poisoned));
            fs.truncate(&file, 0, &Times::default()).expect("truncate");
        }),
        ("unlink", |fs, file| {
            let root = fs.iget(fs.root()).expect("root");
            fs.unlink(&root, b"file", &file, Timestamp(9))
                .expect("unlink");
            fs.evict(&file).expect("evict");
        }),
    ];
    for (name, call) in calls {
        let media = image::formatted(SIZE);
        let fs = mount(&media);
        let file = create(&fs, "file");
        write(&fs, &file, 0, 10, 1).expect("write");
        let lost = block_of(&fs, &file, 4);
        lose(&fs, lost);
        call(&fs, file);
        fs.freeze().expect("freeze");
        assert!(!fill_up(&fs).contains(&lost.0), "{name}");
        assert!(!fs.is_read_only(), "{name}");
        fs.unmount().expect("unmount");
        assert!(media.is_poisoned(lost.address(), BLOCK_SIZE), "{name}");
        assert_sound(&media);
    }
}

#[test]
fn what_moves_takes_its_lost_blocks_along() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let file = create(&fs, "file");
    write(&fs, &file, 0, 10, 1).expect("write");
    lose(&fs, block_of(&fs, &file, 4));
    let lost_at = |expected: u64, end: u64| {
        for at in 0..end {
            let lost = read(&fs, &file, at) == Err(Error::Poisoned);
            assert_eq!(lost, at == expected, "block {at}");
        }
    };
    fs.collapse(&file, FileBlock(1), 2, None, &Times::default())
        .expect("collapse");
    lost_at(2, 8);
    fs.insert(&file, FileBlock(2), 6, &Times::default())
        .expect("insert");
    lost_at(8, 14);
    fs.insert(&file, FileBlock(9), 1, &Times::default())
        .expect("insert");
    lost_at(8, 15);
    write(&fs, &file, 8, 1, 5).expect("write");
    assert_eq!(read(&fs, &file, 8), Ok(5));
    fs.unmount().expect("unmount");
    assert_sound(&media);
}

#[test]
fn a_lost_node_ends_a_collapse_before_anything_has_changed() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let file = create(&fs, "file");
    for at in 0..600 {
        write(&fs, &file, at * 2, 1, 1).expect("write");
    }
    let address = fs.volume().inode_address(file.ino()).expect("address");
    let root = Block(media.read_u64(address + 144).expect("read"));
    fs.unmount().expect("unmount");
    for insert in [false, true] {
        let media = media.snapshot();
        media.poison(root.address(), BLOCK_SIZE);
        let fs = mount(&media);
        let file = fs.iget(file.ino()).expect("file");
        let size = file.attributes().size;
        let done = match insert {
            false => fs.collapse(&file, FileBlock(3), 5, None, &Times::default()),
            true => fs.insert(&file, FileBlock(3), 5, &Times::default()),
        };
        assert!(done.is_err() && fs.read_only_error(), "{done:?}");
        assert_eq!(file.attributes().size, size);
    }
}

#[test]
fn a_lost_block_that_holds_nothing_yet_is_replaced() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let file = create(&fs, "file");
    fs.preallocate(
        &file,
        FileBlock(0),
        8,
        Some(8 * BLOCK_SIZE),
        &Times::default(),
    )
    .expect("preallocate");
    let lost: Vec<Block> = [2, 5].map(|at| block_of(&fs, &file, at)).to_vec();
    lost.iter().for_each(|block| lose(&fs, *block));
    for at in 0..8 {
        assert_eq!(read(&fs, &file, at), Ok(0));
    }
    let mapping = fs.fault_allocate(&file, FileBlock(2), 1).expect("fault");
    assert!(matches!(mapping.state, MappingState::Written(block) if block != lost[0]));
    assert_eq!(read(&fs, &file, 2), Ok(0));
    write(&fs, &file, 4, 3, 9).expect("write");
    for (at, byte) in [(3, 0), (4, 9), (5, 9), (6, 9), (7, 0)] {
        assert_eq!(read(&fs, &file, at), Ok(byte));
    }
    assert_eq!(file.attributes().blocks, 8);
    let filled = fill_up(&fs);
    assert!(lost.iter().all(|block| !filled.contains(&block.0)));
    fs.unmount().expect("unmount");
    assert_sound(&media);
}

#[test]
fn a_free_block_that_is_lost_is_not_handed_out_and_breaks_its_slot() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let file = create(&fs, "file");
    let first = fs.fault_allocate(&file, FileBlock(0), SLOT_BLOCKS);
    let MappingState::Written(block) = first.expect("a whole slot").state else {
        panic!("not written");
    };
    let free = fs.statfs().free;
    // The next slot loses a block: no 2 MiB page there.
    let lost = block.plus(SLOT_BLOCKS + 77);
    lose(&fs, lost);
    assert_eq!(fs.statfs().free, free - 1);
    let next = fs.fault_allocate(&file, FileBlock(SLOT_BLOCKS), SLOT_BLOCKS);
    let MappingState::Written(next) = next.expect("another slot").state else {
        panic!("not written");
    };
    assert_ne!(next, block.plus(SLOT_BLOCKS));
    // One block of a 2 MiB page is lost: the others are mapped one by one.
    lose(&fs, block.plus(3));
    let again = fs.fault_allocate(&file, FileBlock(0), SLOT_BLOCKS);
    assert_eq!(again, Err(Error::Again));
    assert!(fs.fault_allocate(&file, FileBlock(2), 1).is_ok());
    assert!(!fill_up(&fs).contains(&lost.0));
    fs.unmount().expect("unmount");
    assert_sound(&media);
}

/// A structure, and whether the filesystem can be changed although it is lost.
struct Place {
    name: &'static str,
    block: Block,
    optional: bool,
}

/// A filesystem with one of everything, unmounted.
fn everything() -> (MemoryMedia, Vec<Place>) {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let file = create(&fs, "file");
    // After `create`, which has its own: there may be only one that changes.
    let root = fs.iget(fs.root()).expect("root");
    for at in 0..40 {
        write(&fs, &file, at * 2, 1, 1).expect("write");
    }
    let long = [b'x'; 3000];
    let mut link = new(FileKind::Symlink);
    link.symlink = Some(&long);
    let link = fs.create(&root, b"link", &link).expect("symlink");
    let g = *fs.volume().geometry();
    let inode = Block::of(fs.volume().inode_address(file.ino()).expect("address"));
    let mut places = Vec::new();
    let mut add = |name, block, optional| {
        places.push(Place {
            name,
            block,
            optional,
        });
    };
    add("superblock", Block(0), true);
    add("superblock's copy", Block(g.blocks - 1), true);
    add("journal header", g.journal, false);
    add("lane", g.journal.plus(20), false);
    add("orphan table", g.orphans, false);
    add("group header", g.ag_base(0), false);
    add("bitmap", g.ag_base(0).plus(1), false);
    add("end of the bitmap", g.ag_base(0).plus(8), false);
    add("unused block of the group", g.ag_base(0).plus(12), true);
    add("chunk map", g.ag_base(0).plus(16), false);
    add("end of the chunk map", g.ag_base(0).plus(271), false);
    add("inode", inode, false);
    for (name, ino) in [
        ("names", root.ino()),
        ("extents", file.ino()),
        ("link", link.ino()),
    ] {
        let address = fs.volume().inode_address(ino).expect("address");
        add(
            name,
            Block(media.read_u64(address + 144).expect("read")),
            false,
        );
    }
    fs.unmount().expect("unmount");
    (media, places)
}

/// Does a little of everything; errors are all right, a panic is not. True: all of it worked.
fn use_it(fs: &Fs) -> bool {
    let work = || -> Result<(), Error> {
        let root = fs.iget(fs.root())?;
        let file = fs.iget(fs.lookup(&root, b"file")?)?;
        for at in 0..80 {
            fs.map(&file, FileBlock(at), 1)?;
        }
        let link = fs.iget(fs.lookup(&root, b"link")?)?;
        fs.readlink(&link, &mut ochre::platform::Vec::new())?;
        for n in 0..100 {
            let name = format!("new {n}");
            let new = fs.create(&root, name.as_bytes(), &new(FileKind::Regular))?;
            write(fs, &new, 0, 2, 5)?;
            if n % 2 == 0 {
                fs.unlink(&root, name.as_bytes(), &new, Timestamp(8))?;
                fs.evict(&new)?;
            }
        }
        write(fs, &file, 1, 1, 6)?;
        fs.freeze()
    };
    let done = work();
    if let Err(error) = done {
        println!("{error}");
    }
    done.is_ok()
}

#[test]
fn lost_metadata_gives_errors_and_a_read_only_filesystem() {
    let (media, places) = everything();
    for place in &places {
        for known in ["unknown", "listed", "suspect", "while mounted"] {
            let media = media.snapshot();
            let what = format!("{}, {known}", place.name);
            let poison = || media.poison(place.block.address(), BLOCK_SIZE);
            let mounted = match known {
                "while mounted" => {
                    let fs = mount(&media);
                    assert!(use_it(&fs), "{what}");
                    poison();
                    fs.lose(one(place.block), None).expect("room");
                    Ok(fs)
                }
                _ => {
                    poison();
                    match known {
                        "listed" => media.list_poison(),
                        "suspect" => media.suspect(),
                        _ => {}
                    }
                    Filesystem::mount(media.clone(), &MountOptions::default())
                }
            };
            let fs = match mounted {
                Ok(fs) => fs,
                Err(error) => {
                    assert!(matches!(error, Error::Unreadable(_)), "{what}: {error}");
                    assert!(!place.optional, "{what}");
                    continue;
                }
            };
            let worked = if known == "while mounted" {
                let root = fs
                    .iget(fs.root())
                    .and_then(|root| fs.lookup(&root, b"file"));
                let file = root.and_then(|ino| fs.iget(ino));
                file.and_then(|file| write(&fs, &file, 1, 1, 6)).is_ok()
            } else {
                use_it(&fs)
            };
            if place.optional {
                assert!(worked && !fs.is_read_only(), "{what} {worked}");
            } else if known == "listed" || known == "suspect" || known == "while mounted" {
                assert!(!worked && fs.read_only_error(), "{what}");
            } else {
                // Nobody knows: it fails where it is read, and what is never read does no harm.
                assert_eq!(worked, !fs.read_only_error(), "{what}");
            }
            let _ = fs.unmount();
        }
    }
}

#[test]
fn more_lost_pieces_than_the_list_holds_end_all_changes() {
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    let first = fs.volume().geometry().ag_base(0).plus(1000);
    let room = ochre::engine::poison::CAPACITY as u64;
    for n in 0..room {
        fs.lose(one(first.plus(n * 2)), None).expect("room");
    }
    assert!(!fs.is_read_only());
    assert_eq!(
        fs.lose(one(first.plus(room * 2)), None),
        Err(Error::NoSpace)
    );
    assert!(fs.read_only_error());
}

#[test]
fn random_work_on_a_failing_medium() {
    let seed = seed("random_work_on_a_failing_medium");
    let mut random = Random::new(seed);
    let media = image::formatted(SIZE);
    let fs = mount(&media);
    const END: u64 = 300;
    let file = create(&fs, "file");
    let mut model: BTreeMap<u64, Result<u8, Error>> = BTreeMap::new();
    let mut lost = BTreeSet::new();
    for round in 0..3000u64 {
        let at = random.below(END);
        let len = 1 + random.below(8);
        let fill = 1 + (round % 250) as u8;
        match random.below(12) {
            9 => {
                // A hole comes, as many blocks go: the file keeps its size.
                let (to, end) = (random.below(END), file.attributes().size / BLOCK_SIZE);
                if at < end && to + len < end {
                    fs.insert(&file, FileBlock(at), len, &Times::default())
                        .expect("insert");
                    fs.collapse(&file, FileBlock(to), len, None, &Times::default())
                        .expect("collapse");
                    let entries = std::mem::take(&mut model).into_iter();
                    let moved = entries.map(|(b, v)| (if b < at { b } else { b + len }, v));
                    let kept = moved.filter(|(b, _)| !(to..to + len).contains(b));
                    model = kept
                        .map(|(b, v)| (if b < to { b } else { b - len }, v))
                        .collect();
                }
            }
            10 => {
                fs.zero_range(
                    &file,
                    FileBlock(at),
                    FileBlock(at + len),
                    None,
                    &Times::default(),
                )
                .expect("zero");
                for (_, value) in model.range_mut(at..at + len) {
                    *value = Ok(0);
                }
            }
            11 => {
                let far = FileBlock::PARKED;
                if fs.park(&file, FileBlock(at), 1, far.plus(at)).is_ok() {
                    model.remove(&at);
                    while fs.free_beyond(&file, far).expect("free") {}
                }
            }
            0..=2 => {
                write(&fs, &file, at, len, fill).expect("write");
                model.extend((at..at + len).map(|at| (at, Ok(fill))));
            }
            3 => {
                fs.punch(&file, FileBlock(at), FileBlock(at + len), &Times::default())
                    .expect("punch");
                model.retain(|block, _| !(at..at + len).contains(block));
            }
            4 => {
                fs.preallocate(&file, FileBlock(at), len, None, &Times::default())
                    .expect("preallocate");
                for block in at..at + len {
                    model.entry(block).or_insert(Ok(0));
                }
            }
            5 => match fs.fault_allocate(&file, FileBlock(at), 1) {
                Ok(_) => {
                    model.entry(at).or_insert(Ok(0));
                }
                Err(error) => assert_eq!(model.get(&at), Some(&Err(error))),
            },
            6 => {
                let size = at * BLOCK_SIZE + random.below(BLOCK_SIZE);
                let end = FileBlock::after(size).0;
                fs.truncate(&file, END * 2 * BLOCK_SIZE, &Times::default())
                    .expect("up");
                if random.below(10) == 0 {
                    fs.truncate(&file, end * BLOCK_SIZE, &Times::default())
                        .expect("down");
                    model.retain(|at, _| *at < end);
                }
            }
            7 if lost.len() < 200 => {
                // Any block of the file, or a free one.
                let map = fs.map(&file, FileBlock(at), 1).expect("map");
                let block = match map.state {
                    MappingState::Written(block) => {
                        model.insert(at, Err(Error::Poisoned));
                        block
                    }
                    MappingState::Unwritten(block) => block,
                    MappingState::Hole => {
                        let base = fs.volume().geometry().ag_base(0);
                        let block = base.plus(2048 + random.below(6000));
                        let mine = (0..END * 3).any(|at| {
                            let state = fs.map(&file, FileBlock(at), 1).expect("map").state;
                            state == MappingState::Written(block)
                                || state == MappingState::Unwritten(block)
                        });
                        if mine {
                            continue;
                        }
                        block
                    }
                };
                lost.insert(block.0);
                lose(&fs, block);
                assert!(!fs.is_read_only(), "block {block} seed {seed}");
            }
            _ => {
                let got = read(&fs, &file, at);
                assert_eq!(got, model.get(&at).copied().unwrap_or(Ok(0)), "seed {seed}");
            }
        }
    }
    for at in 0..END * 3 {
        let expected = model.get(&at).copied().unwrap_or(Ok(0));
        assert_eq!(read(&fs, &file, at), expected, "block {at}, seed {seed}");
    }
    assert!(fill_up(&fs).is_disjoint(&lost), "seed {seed}");
    fs.unmount().expect("unmount");
    assert_sound(&media);
}
