// SPDX-License-Identifier: GPL-2.0

//! `ochre image`: the copy shows what the original shows, holds nothing else, and no names if that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::format::inode::InodeRecord;
use ochre::engine::fsck::{self, Issue, Options};
use ochre::engine::media::Media;
use ochre::engine::superblock;
use ochre::engine::types::{Block, FileKind, Ino};
use ochre::platform::Vec as EngineVec;
use ochre_scale::tree::{format, mount, populate, Plan};
use ochre_scale::Sparse;
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use ochre_testkit::{sample, save, Issues, Sample, Writer};
use ochre_tools::device::{self, Access};
use ochre_tools::image::{Borrowed, Image};
use ochre_tools::overlay::Overlay;
use predicates::str::contains;
use rustix::fs::SeekFrom;
use tempfile::TempDir;

struct Place {
    _directory: TempDir,
    source: PathBuf,
    copy: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self {
            source: directory.path().join("source.img"),
            copy: directory.path().join("copy.img"),
            _directory: directory,
        }
    }

    fn of(media: &MemoryMedia) -> Self {
        let place = Self::new();
        save(media, &place.source).expect("an image file");
        place
    }

    fn copy(&self, options: &[&str]) -> String {
        let output = ochre()
            .arg("image")
            .args(options)
            .arg("--force")
            .args([&self.source, &self.copy])
            .assert()
            .success();
        String::from_utf8_lossy(&output.get_output().stdout).into_owned()
    }

    /// Whether the copy's bytes hold `text` anywhere.
    fn holds(&self, text: &[u8]) -> bool {
        // The file is sparse: only what is there is read.
        let file = std::fs::File::open(&self.copy).expect("the copy");
        let mut end = 0;
        while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) {
            end = rustix::fs::seek(&file, SeekFrom::Hole(start)).expect("an end");
            let mut bytes = vec![0; usize::try_from(end - start).expect("small")];
            file.read_exact_at(&mut bytes, start).expect("read");
            if memchr::memmem::find(&bytes, text).is_some() {
                return true;
            }
        }
        false
    }
}

fn ochre() -> Command {
    Command::cargo_bin("ochre").expect("built by cargo")
}

fn image(path: &Path) -> Image {
    Image::new(
        device::open(path, Access::Inspect, None).expect("an image"),
        0,
    )
}

/// What `fsck.ochre -n` finds.
fn issues(path: &Path) -> Vec<Issue> {
    ochre::platform::log::set_quiet(true);
    let image = image(path);
    let overlay = Overlay::new(Borrowed(&image));
    let mut found = Issues::default();
    let mut unmounted = true;
    if superblock::load(&image).is_ok_and(|info| !info.clean) {
        let options = MountOptions { read_only: false };
        let mounted = Filesystem::mount(Borrowed(&overlay), &options).and_then(|fs| fs.unmount());
        unmounted = mounted.is_ok();
    }
    let _ = fsck::check(&overlay, Options { unmounted }, &mut found);
    found.0
}

/// Every path with its inode, kind and, for a symbolic link, where it leads.
fn tree<M: Media>(media: M) -> BTreeMap<Vec<u8>, (Ino, FileKind, Vec<u8>)> {
    let fs = Filesystem::mount(media, &MountOptions { read_only: true }).expect("mount");
    let mut found = BTreeMap::new();
    let mut pending = vec![(Vec::new(), fs.root())];
    while let Some((path, ino)) = pending.pop() {
        let directory = fs.iget(ino).expect("a directory");
        let mut names = Vec::new();
        fs.readdir(&directory, 2, &mut |entry| {
            names.push((entry.name.to_vec(), entry.ino, entry.kind));
            true
        })
        .expect("readdir");
        for (name, ino, kind) in names {
            assert_eq!(fs.lookup(&directory, &name), Ok(ino));
            let path = [&path[..], b"/", &name].concat();
            let mut target = EngineVec::new();
            if kind == FileKind::Symlink {
                let link = fs.iget(ino).expect("a link");
                fs.readlink(&link, &mut target).expect("readlink");
            }
            if kind == FileKind::Directory {
                pending.push((path.clone(), ino));
            }
            found.insert(path, (ino, kind, target.to_vec()));
        }
    }
    found
}

#[test]
fn the_copy_has_the_tree_and_no_data() {
    let sample = sample();
    let place = Place::of(&sample.media);
    let told = place.copy(&[]);
    assert!(told.contains("no errors in it"), "{told}");
    assert_eq!(issues(&place.copy), []);
    assert_eq!(tree(image(&place.copy)), tree(image(&place.source)));
    assert!(place.holds(b"hard link"));
    assert!(!place.holds(&[b'x'; 64]), "data of a file");
    assert!(!place.holds(&[b'o'; 64]), "data of an orphan");
    let (source, copy) = (&place.source, &place.copy);
    let length = |path| std::fs::metadata(path).expect("a file").len();
    assert_eq!(length(source), length(copy));
}

#[test]
fn scrambled_names_make_a_sound_filesystem_of_the_same_shape() {
    let sample = sample();
    let place = Place::of(&sample.media);
    let told = place.copy(&["--scramble"]);
    assert!(
        told.contains("names scrambled; the check finds no errors"),
        "{told}"
    );
    assert_eq!(issues(&place.copy), []);
    let (old, new) = (tree(image(&place.source)), tree(image(&place.copy)));
    let shape =
        |tree: &BTreeMap<Vec<u8>, (Ino, FileKind, Vec<u8>)>| -> BTreeSet<(Ino, usize, usize)> {
            tree.iter()
                .map(|(path, (ino, _, target))| (*ino, path.len(), target.len()))
                .collect()
        };
    assert_eq!(shape(&old), shape(&new));
    let label = superblock::load(&image(&place.copy))
        .expect("a superblock")
        .label;
    assert!(
        !label.starts_with(b"golden")
            && label[..6].iter().all(|&byte| byte != 0)
            && label[6..] == [0; 26]
    );
    for path in old.keys().chain([&b"../target".to_vec(), &vec![b'l'; 16]]) {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if name.len() > 4 {
            assert!(!place.holds(name), "{:?}", String::from_utf8_lossy(name));
        }
    }
    // Names that were removed are not left either.
    assert!(!place.holds(b"gone"));
}

/// Directories of many leaves, removed entries, long targets, links to links.
#[test]
fn a_larger_tree_stays_sound() {
    let seed = seed("a_larger_tree_stays_sound");
    let media = Sparse::new(4 << 30);
    format(&media, seed).expect("mkfs");
    let fs = mount(media.clone()).expect("mount");
    let plan = Plan {
        inodes: 30_000,
        top: 5,
        orphans: 10,
        seed,
    };
    populate(&fs, &plan).expect("a tree");
    fs.unmount().expect("unmount");
    let place = Place::new();
    let file = std::fs::File::create(&place.source).expect("a file");
    media.save(&file).expect("an image file");
    ochre()
        .args(["image", "--scramble"])
        .args([&place.source, &place.copy])
        .assert()
        .success()
        .stdout(contains("no errors"));
    assert_eq!(issues(&place.copy), []);
    let (old, new) = (tree(image(&place.source)), tree(image(&place.copy)));
    assert_eq!(old.len(), new.len());
    // Equal names have become equal names, and different ones different ones.
    let by_inode = |tree: &BTreeMap<Vec<u8>, (Ino, FileKind, Vec<u8>)>| -> BTreeMap<Ino, Vec<u8>> {
        let name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().map(<[u8]>::to_vec);
        tree.iter()
            .filter_map(|(path, (ino, ..))| Some((*ino, name(path)?)))
            .collect()
    };
    let (old, new) = (by_inode(&old), by_inode(&new));
    let mut map = BTreeMap::new();
    for (ino, name) in &old {
        let became = map.entry(name).or_insert(&new[ino]);
        assert_eq!(*became, &new[ino]);
    }
    assert_eq!(map.values().collect::<BTreeSet<_>>().len(), map.len());
}

/// A damage, and its name for messages.
type Damage = (&'static str, fn(&Sample));

const DAMAGES: [Damage; 22] = [
    ("superblock", |s| s.flip(100, 0)),
    ("superblock gone", |s| s.media.damage(0, &[0; 512])),
    ("superblock copy", |s| {
        s.flip(s.info.geometry.size() - 4096 + 40, 3)
    }),
    ("group header", |s| {
        s.flip(s.info.geometry.ag_start.address() + 30, 1)
    }),
    ("free count", |s| {
        s.put_u64(s.info.geometry.ag_start.address() + 64, 5)
    }),
    ("chunk entry", |s| {
        s.flip(s.info.geometry.chunk_entry(0, 1), 2)
    }),
    ("bitmap", |s| s.toggle_mark(s.tree_root(s.sparse))),
    ("leaked block", |s| s.toggle_mark(s.free_block())),
    ("inode sum", |s| s.flip(s.record_address(s.file) + 33, 0)),
    ("inode magic", |s| s.flip(s.record_address(s.file), 0)),
    ("link count", |s| s.edit(s.file, |r| r.nlink.set(7))),
    ("short target", |s| {
        s.edit(s.short_link, |r| r.inline[3] = 0)
    }),
    ("extent overlap", |s| {
        s.edit(s.file, |r| {
            let inline = r.inline;
            r.inline[16..32].copy_from_slice(&inline[..16]);
            r.count = 2;
        })
    }),
    ("extent tree root", |s| {
        s.flip(s.tree_root(s.sparse).address() + 70, 1)
    }),
    ("extent leaf magic", |s| {
        s.flip(s.child(s.tree_root(s.sparse), 1).address(), 1)
    }),
    ("directory index", |s| {
        s.flip(s.tree_root(s.big).address() + 90, 1)
    }),
    ("directory index order", |s| {
        s.edit_node(s.tree_root(s.big), |b| {
            let key = u64::MAX >> 2;
            b[80..88].copy_from_slice(&key.to_le_bytes());
        })
    }),
    ("directory leaf sum", |s| {
        s.flip(s.child(s.tree_root(s.big), 1).address() + 4090, 0)
    }),
    ("entry hash", |s| {
        s.edit_node(s.child(s.tree_root(s.big), 0), |b| {
            let at = usize::from(u16::from_le_bytes([b[208], b[209]]));
            b[at + 20] ^= 1;
        })
    }),
    ("entry fingerprint", |s| {
        s.edit_node(s.child(s.tree_root(s.big), 0), |b| b[80] ^= 1)
    }),
    ("entry name", |s| {
        s.edit_node(s.tree_root(s.root), |b| {
            let at = usize::from(u16::from_le_bytes([b[208], b[209]]));
            b[at + 19] = b'/';
        })
    }),
    ("entry target", |s| {
        s.edit_node(s.child(s.tree_root(s.big), 1), |b| {
            let at = usize::from(u16::from_le_bytes([b[208], b[209]]));
            b[at + 8..at + 16].copy_from_slice(&77_777u64.to_le_bytes());
        })
    }),
];

#[test]
fn damage_is_copied_as_it_is() {
    for (name, damage) in DAMAGES {
        let sample = sample();
        damage(&sample);
        let place = Place::of(&sample.media);
        let expected = issues(&place.source);
        place.copy(&[]);
        assert_eq!(issues(&place.copy), expected, "{name}");
        place.copy(&["--scramble"]);
        assert_eq!(issues(&place.copy), expected, "{name}, scrambled");
        assert!(!place.holds(b"fills a leaf"), "{name}");
    }
}

#[test]
fn noise_is_copied_as_it_is() {
    let mut random = Random::new(seed("noise_is_copied_as_it_is"));
    let sample = sample();
    let base = sample.info.geometry.ag_start.address();
    for round in 0..6 {
        let media = sample.media.snapshot();
        for _ in 0..1 + random.below(20) {
            // The group's own metadata, and the blocks behind it that trees and records are in.
            let at = match random.below(3) {
                0 => random.below(272 * 4096),
                _ => 512 * 4096 + random.below(60 * 4096),
            };
            let at = base + at;
            let byte = media.bytes(at, 1)[0];
            media.damage(at, &[byte ^ 1 << random.below(8)]);
        }
        let place = Place::of(&media);
        let expected = issues(&place.source);
        place.copy(&[]);
        assert_eq!(issues(&place.copy), expected, "round {round}");
        place.copy(&["--scramble"]);
        assert!(!place.holds(b"that fills a leaf"), "round {round}");
    }
}

/// A filesystem that was cut off: with records to replay, and files in them.
fn cut_off() -> MemoryMedia {
    let sample = sample();
    let mut writer = Writer::new(&sample.media);
    let root = writer.root();
    for n in 0..50 {
        let file = writer.create(&root, &format!("written before the crash {n}"), 0o100644);
        writer.write(&file, 0, 2, 5000, b'y');
    }
    // Not unmounted.
    sample.media.snapshot()
}

#[test]
fn a_filesystem_that_was_not_unmounted() {
    let media = cut_off();
    let place = Place::of(&media);
    let before = std::fs::read(&place.source).expect("the source");
    let told = place.copy(&[]);
    assert!(
        told.contains("not unmounted: the journal is in it"),
        "{told}"
    );
    assert_eq!(issues(&place.copy), []);
    let replayed = |path: &Path| {
        let image = image(path);
        let overlay = Overlay::new(Borrowed(&image));
        tree(Borrowed(&overlay))
    };
    assert_eq!(replayed(&place.copy), replayed(&place.source));
    assert!(
        !superblock::load(&image(&place.copy))
            .expect("a superblock")
            .clean
    );

    let told = place.copy(&["--scramble"]);
    assert!(told.contains("the journal replayed and left out"), "{told}");
    let after = std::fs::read(&place.source).expect("the source");
    assert!(before == after, "the source changed");
    assert_eq!(issues(&place.copy), []);
    assert!(!place.holds(b"before the crash"));
    assert_eq!(
        tree(image(&place.copy)).len(),
        replayed(&place.source).len()
    );
}

/// What lies in records and map entries that are not in use is somebody's old data.
#[test]
fn what_means_nothing_is_left_out() {
    let sample = sample();
    let g = sample.info.geometry;
    let secret = *b"old data of someone who trusted!";
    sample.media.damage(g.chunk_entry(0, 3000), &secret);
    sample.media.damage(g.ag_start.address() + 200, &secret);
    // A record of the last chunk that nobody uses.
    let last = (0..)
        .take_while(|&chunk| sample.u64_at(g.chunk_entry(0, chunk)) != 0)
        .last()
        .expect("chunks");
    let start = sample.u64_at(g.chunk_entry(0, last)) & 0xffff_ffff;
    let mask = sample.u64_at(g.chunk_entry(0, last) + 8);
    let slot = u64::from(mask.trailing_ones());
    assert!(slot < 64);
    let record = Block(g.ag_start.0 + start).address() + slot * 256;
    sample.media.damage(record + 128, &secret);
    assert_eq!(std::mem::size_of::<InodeRecord>(), 256);
    let place = Place::of(&sample.media);
    for options in [&[][..], &["--scramble"]] {
        place.copy(options);
        assert!(!place.holds(b"someone who trusted"), "{options:?}");
        assert_eq!(issues(&place.copy), []);
    }
}

#[test]
fn refusals() {
    let sample = sample();
    let place = Place::of(&sample.media);
    let refused = |from: &Path, to: &Path, options: &[&str], message: &str| {
        ochre()
            .arg("image")
            .args(options)
            .args([from, to])
            .assert()
            .code(1)
            .stderr(contains(message.to_owned()));
    };
    std::fs::write(&place.copy, b"precious").expect("a file");
    refused(
        &place.source,
        &place.copy,
        &[],
        "exists; give another name, or --force",
    );
    assert_eq!(std::fs::read(&place.copy).expect("a file"), b"precious");
    refused(
        &place.source,
        &place.source,
        &["--force"],
        "is the source itself",
    );
    refused(
        &place.source,
        Path::new("/dev/null"),
        &["--force"],
        "is no regular file",
    );
    let none = place.source.with_file_name("none.img");
    refused(&none, &place.copy, &["--force"], "does not exist");
    let missing = place.source.with_file_name("missing").join("copy.img");
    refused(&place.source, &missing, &[], "cannot make");
    let other = place.source.with_file_name("zeros.img");
    std::fs::write(&other, vec![0; 1 << 20]).expect("a file");
    refused(
        &other,
        &place.copy,
        &["--force"],
        "holds no Ochre filesystem",
    );
    // Both superblocks gone: nothing leads to the names.
    sample.flip(100, 0);
    sample.flip(sample.info.geometry.size() - 4096 + 100, 0);
    let place = Place::of(&sample.media);
    refused(
        &place.source,
        &place.copy,
        &["--scramble"],
        "both superblocks are damaged",
    );
    let expected = issues(&place.source);
    place.copy(&[]);
    assert_eq!(issues(&place.copy), expected);
    // Nothing is left of what was refused.
    let left = std::fs::read_dir(place.source.parent().expect("a folder")).expect("a folder");
    assert_eq!(left.count(), 2);
}
