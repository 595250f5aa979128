// SPDX-License-Identifier: GPL-2.0

//! `ochre image`: a copy of the metadata alone, small enough to be attached to a bug report.
//!
//! What is copied is what the check reads: each structure that it reaches, as it is, damaged or not. So the check finds in the
//! copy what it finds in the original, by construction; and no block of file data is read at all, except where
//! damage makes one look like metadata. Records and map entries that are not in use are left out, since they
//! may hold anything.
//!
//! With `--scramble` names, targets of symbolic links and the label become others ([`scrambler`]), in directories that stay
//! consistent ([`directory`]). What could hold names and is no structure (the journal, removed entries, a block that is not
//! what it should be) is left out. A journal that is not empty is replayed for it, into the copy.
//!
//! The source is never written to. The copy is made beside its name and takes it when it is whole.

pub mod directory;
mod recording;
mod scramble;
mod scrambler;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::fsck::{self, Issue, Observer, Options};
use ochre::engine::media::Media;
use ochre::engine::superblock::{self, SuperInfo};
use ochre::engine::types::BLOCK_SIZE;
use ochre::platform::log;
use ochre_tools::device::{self, Access, Device, Refusal};
use ochre_tools::image::{Borrowed, Image};
use ochre_tools::mounts::Mounts;
use ochre_tools::overlay::Overlay;
use ochre_tools::units::show_size;
use rustix::fs::{major, minor};
use std::os::unix::fs::MetadataExt;

use recording::Recording;

use crate::chunks::Chunks;
use crate::reader::{Bytes, Reader};

/// What the command line asks for.
pub struct Job {
    pub source: PathBuf,
    pub copy: PathBuf,
    pub scramble: bool,
    pub force: bool,
}

/// Makes the copy; returns what to tell the user.
pub fn run(job: &Job) -> Result<String, String> {
    log::set_quiet(true);
    refuse_copy(job)?;
    let device = open(job)?;
    let name = device.path.display().to_string();
    let image = Image::new(device, 0);
    let info = match superblock::load(&image) {
        Ok(info) => Some(info),
        // Both are damaged: what there is of them is copied.
        Err(Error::Corrupt(_)) => None,
        Err(Error::WrongType) => return Err(format!("{name} holds no Ochre filesystem")),
        Err(error) => return Err(format!("{name}: {error}")),
    };
    if job.scramble && info.is_none() {
        return Err(format!(
            "{name}: both superblocks are damaged, so names cannot be found to be scrambled; \
             without --scramble the superblocks are copied as they are"
        ));
    }
    let image = image.with_phase(info.map_or(0, |info| info.phase));
    let recording = Recording::new(Borrowed(&image));
    let found = examine(&recording, info.as_ref());

    let partial = partial_name(&job.copy);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&partial)
        .map_err(|error| format!("cannot make {}: {error}", partial.display()))?;
    let made = (|| -> Result<Total, String> {
        let mut sink = Sink::new(&file, image.size())?;
        match (&info, job.scramble) {
            (Some(info), true) => {
                // The journal's records hold names too: they are carried out, in memory, and not copied.
                let overlay = Overlay::new(Borrowed(&recording));
                let replayed = !info.clean && replay(&overlay).is_ok();
                scramble::copy(&overlay, &recording, replayed, &mut sink)?;
            }
            (info, _) => plain(&image, info.as_ref(), &recording, &found, &mut sink)?,
        }
        Ok(sink.total)
    })();
    let written = made.and_then(|sink| {
        let same = compare(&partial, &found)?;
        std::fs::rename(&partial, &job.copy)
            .map_err(|error| format!("cannot make {}: {error}", job.copy.display()))?;
        Ok((sink, same))
    });
    let (total, findings) = written.inspect_err(|_| {
        let _ = std::fs::remove_file(&partial);
    })?;
    Ok(summary(
        job,
        info.as_ref(),
        image.size(),
        &total,
        &found,
        &findings,
    ))
}

/// Refuses to overwrite what should not be, before anything is read.
fn refuse_copy(job: &Job) -> Result<(), String> {
    let copy = job.copy.display();
    let Ok(metadata) = std::fs::metadata(&job.copy) else {
        return Ok(());
    };
    if !metadata.is_file() {
        return Err(format!(
            "{copy} is no regular file; give the name of a file to be made"
        ));
    }
    let same = |path: &Path| std::fs::canonicalize(path).ok();
    if same(&job.source).is_some() && same(&job.source) == same(&job.copy) {
        return Err(format!("{copy} is the source itself; give another name"));
    }
    if !job.force {
        return Err(format!(
            "{copy} exists; give another name, or --force to replace it"
        ));
    }
    Ok(())
}

/// Opens the source. What is mounted read-only holds still; what is mounted for writing does not, and needs `--force`.
fn open(job: &Job) -> Result<Device, String> {
    match device::open(&job.source, Access::ReadExclusive, None) {
        Ok(device) => Ok(device),
        Err(
            refusal @ (Refusal::Mounted(..)
            | Refusal::Busy(_)
            | Refusal::Held(..)
            | Refusal::LoopDevice(..)),
        ) => {
            let numbers =
                std::fs::metadata(&job.source).map(|m| (major(m.rdev()), minor(m.rdev())));
            let read_only =
                numbers.is_ok_and(|(major, minor)| Mounts::default().is_read_only(major, minor));
            if !read_only && !job.force {
                return Err(format!(
                    "{refusal}; or remount it read-only, or give --force: a copy of what changes meanwhile may show damage that is none"
                ));
            }
            device::open(&job.source, Access::Inspect, None).map_err(|error| error.to_string())
        }
        Err(refusal) => Err(refusal.to_string()),
    }
}

fn partial_name(copy: &Path) -> PathBuf {
    let name = copy.file_name().unwrap_or_default().to_string_lossy();
    copy.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

/// What a check found, by name.
#[derive(Default, PartialEq, Eq)]
struct Findings {
    issues: BTreeMap<&'static str, u64>,
    /// The journal of a filesystem that was not unmounted could be replayed.
    replayed: bool,
}

impl Findings {
    fn count(&self) -> u64 {
        self.issues.values().sum()
    }
}

impl Observer for Findings {
    fn issue(&mut self, issue: &Issue) {
        *self.issues.entry(issue.name()).or_default() += 1;
    }
}

/// Checks as `fsck.ochre -n` does, and also the image as it is under a journal that is to be replayed.
fn examine<M: Media>(media: &M, info: Option<&SuperInfo>) -> Findings {
    let mut found = Findings::default();
    let clean = info.is_none_or(|info| info.clean);
    if clean {
        // What stops a check is in what it read until then.
        let _ = fsck::check(media, Options::default(), &mut found);
        return found;
    }
    let _ = fsck::check(
        media,
        Options { unmounted: false },
        &mut Findings::default(),
    );
    let overlay = Overlay::new(Borrowed(media));
    found.replayed = replay(&overlay).is_ok();
    let options = Options {
        unmounted: found.replayed,
    };
    let _ = fsck::check(&overlay, options, &mut found);
    found
}

/// Replays the journal, as `fsck.ochre` lets the engine do it.
fn replay<M: Media>(media: &M) -> Result<(), Error> {
    let filesystem = Filesystem::mount(Borrowed(media), &MountOptions { read_only: false })?;
    filesystem.unmount()
}

/// Checks the copy, as it lies on the disk.
fn compare(copy: &Path, source: &Findings) -> Result<Findings, String> {
    let device = device::open(copy, Access::Inspect, None).map_err(|error| error.to_string())?;
    let image = Image::new(device, 0);
    let info = superblock::load(&image).ok();
    let image = image.with_phase(info.map_or(0, |info| info.phase));
    let mut found = examine(&Overlay::new(Borrowed(&image)), info.as_ref());
    // A scrambled copy has its journal replayed already.
    found.replayed = source.replayed;
    Ok(found)
}

fn summary(
    job: &Job,
    info: Option<&SuperInfo>,
    size: u64,
    total: &Total,
    source: &Findings,
    copy: &Findings,
) -> String {
    let mut text = format!(
        "{}: {} of metadata of {}",
        job.copy.display(),
        show_size(total.blocks * BLOCK_SIZE),
        show_size(size)
    );
    let dirty = info.is_some_and(|info| !info.clean);
    text += match (job.scramble, dirty, source.replayed) {
        (true, true, true) => ", names scrambled, the journal replayed and left out",
        (true, true, false) => ", names scrambled, the journal (which cannot be replayed) left out",
        (true, false, _) => ", names scrambled",
        (false, true, _) => ", not unmounted: the journal is in it",
        (false, false, _) => "",
    };
    if total.unreadable != 0 {
        text += &format!(
            "; {} blocks could not be read and are zeros in it",
            total.unreadable
        );
    }
    text += &match (source.count(), copy.count()) {
        (0, 0) => "; the check finds no errors in it".to_owned(),
        (n, _) if source == copy => format!("; the check finds the same {n} errors in it"),
        (n, m) => format!("; the check finds {m} errors in it, in the original {n}"),
    };
    text
}

/// What was written.
pub struct Total {
    blocks: u64,
    unreadable: u64,
}

/// The copy while it is made: a file that is sparse where nothing is written.
pub struct Sink<'a> {
    file: &'a File,
    total: Total,
}

impl<'a> Sink<'a> {
    fn new(file: &'a File, size: u64) -> Result<Self, String> {
        file.set_len(size)
            .map_err(|error| format!("cannot make a file of {}: {error}", show_size(size)))?;
        Ok(Self {
            file,
            total: Total {
                blocks: 0,
                unreadable: 0,
            },
        })
    }

    /// Writes a block, unless it is all zeros.
    pub fn put(&mut self, block: u64, bytes: &Bytes) -> Result<(), String> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.total.blocks += 1;
        self.file
            .write_all_at(bytes, block * BLOCK_SIZE)
            .map_err(|error| format!("cannot write the copy: {error}"))
    }

    /// A block of the source that could not be read.
    pub fn unreadable(&mut self) {
        self.total.unreadable += 1;
    }
}

/// Copies what was read, and all of the journal and the orphan table, as it is.
fn plain<M: Media>(
    image: &Image,
    info: Option<&SuperInfo>,
    recording: &Recording<M>,
    found: &Findings,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    let mut blocks = recording.blocks();
    let mut chunks = None;
    if let Some(info) = info {
        let g = &info.geometry;
        blocks.extend(0..g.ag_start.0);
        blocks.push(g.blocks - 1);
        blocks.sort_unstable();
        blocks.dedup();
        let mut used = Chunks::read(&Reader::new(image, "the source")?)?;
        if found.replayed {
            let overlay = Overlay::new(Borrowed(image));
            // It worked before.
            let _ = replay(&overlay);
            used.add(&Reader::new(&overlay, "the source")?)?;
        }
        chunks = Some((info.geometry, used));
    }
    for block in blocks {
        let mut bytes = Box::new([0; 4096]);
        let readable = image.read(block * BLOCK_SIZE, &mut bytes[..]).is_ok();
        if !readable {
            sink.unreadable();
            continue;
        }
        if let Some((geometry, chunks)) = &chunks {
            chunks.mask(geometry, block, &mut bytes);
        }
        sink.put(block, &bytes)?;
    }
    Ok(())
}
