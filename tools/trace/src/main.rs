// SPDX-License-Identifier: GPL-2.0

//! `ochre-trace`: crashes of the real module in a real machine, explored on the host.
//!
//! `plan` makes a list of calls. scripts/crash-vm lets a guest carry it out under the trace plugin (qemu/plugin). `explore` reads
//! the trace, forms the images that a power cut may have left at many of its moments, and judges each.

use clap::{Args, Parser, Subcommand};
use explore::{explore, Deaf, Options};
use ochre::engine::media::Media;
use ochre_crash::arena::Arena;
use ochre_sim::persistency::Word;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use walk::{Counts, Walk};

mod call;
mod events;
mod explore;
mod file;
mod model;
mod plan;
mod probe;
mod recovered;
mod walk;

/// A namespace in fsdax mode has an info block of this size before its data.
const START: u64 = 2 << 20;
/// Its label area at the end is not memory.
const LABELS: u64 = 128 << 10;
const PAGE: usize = 4096;

#[derive(Parser)]
#[command(
    name = "ochre-trace",
    version,
    about = "Explores the crashes that a recorded run of the module could have left"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a list of calls from a seed
    Plan {
        /// Seed
        #[arg(long)]
        seed: u64,
        /// About so many calls in each of the ten sections (with 2 MiB pages: a third)
        #[arg(long, default_value_t = 100)]
        size: u64,
    },
    /// Explore a recorded run
    Explore(Explore),
}

#[derive(Args)]
struct Explore {
    /// Folder with calls, trace, trace.initial and pmem/nvdimm0.img, as scripts/crash-vm leaves it
    run: PathBuf,
    /// Images at one moment, at most
    #[arg(long, default_value_t = 12)]
    states: usize,
    /// One of so many events between two fences is a moment too (0: none)
    #[arg(long, default_value_t = 100)]
    between: u64,
    /// Stop after so many moments
    #[arg(long, default_value_t = u64::MAX)]
    points: u64,
    /// Seed of samples
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let locked instructions count as fences, as on x86; without it only explicit ones do
    #[arg(long)]
    locked: bool,
    /// Be deaf to some events: a sound trace must then show violations, or the explorer sees nothing
    #[arg(long)]
    without: Option<Deaf>,
    /// Only the moment before this event
    #[arg(long)]
    event: Option<usize>,
    /// Only this image of it
    #[arg(long)]
    state: Option<usize>,
    /// Leave so many of the images, as lists of pages, with what has to be found in them
    #[arg(long, default_value_t = 0)]
    export: u64,
    /// Where
    #[arg(long, default_value = "images")]
    export_to: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(status) => status,
        Err(error) => ochre_tools::fail("ochre-trace", 2, error),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, String> {
    match arguments.command {
        Command::Plan { seed, size } => {
            print!("{}", plan::make(seed, size));
            Ok(ExitCode::SUCCESS)
        }
        Command::Explore(arguments) => explored(&arguments),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The filesystem's part of an NVDIMM's image.
fn read_image(path: &Path) -> Result<Arena, String> {
    let said = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(said)?;
    let len = file.metadata().map_err(said)?.len();
    let size = len
        .checked_sub(START + LABELS)
        .ok_or(format!("{}: too short", path.display()))?
        / START
        * START;
    let arena = Arena::new(size, true);
    let mut page = [0; PAGE];
    for at in (0..size).step_by(PAGE) {
        file.read_exact_at(&mut page, START + at).map_err(said)?;
        let words = page.chunks_exact(8).enumerate().filter_map(|(i, bytes)| {
            let value = u64::from_le_bytes(bytes.try_into().ok()?);
            (value != 0).then(|| Word::whole(at + i as u64 * 8, value))
        });
        arena.put(&words.collect::<Vec<_>>());
    }
    Ok(arena)
}

/// The first byte at which two images differ.
fn difference(a: &Arena, b: &Arena) -> Result<Option<u64>, String> {
    let (mut x, mut y) = ([0; PAGE], [0; PAGE]);
    for at in (0..a.size()).step_by(PAGE) {
        let read = a.read(at, &mut x).and_then(|()| b.read(at, &mut y));
        read.map_err(|e| format!("{at:#x}: {e:?}"))?;
        if let Some(i) = (0..PAGE).find(|i| x[*i] != y[*i]) {
            return Ok(Some(at + i as u64));
        }
    }
    Ok(None)
}

fn explored(arguments: &Explore) -> Result<ExitCode, String> {
    let run = &arguments.run;
    let trace = events::Trace::read(&run.join("trace"))?;
    let lines = call::parse(&read_text(&run.join("calls"))?)?;
    let options = arguments.options();
    let walk = || {
        let initial = read_image(&run.join("trace.initial"))?;
        Ok(Walk::new(&trace, &lines, START, initial, options.seed))
    };
    // Nothing is worth a word if the trace is not the whole truth: played to its end it gives what the NVDIMM held in the end.
    let mut counts = Counts::default();
    let end = walk()?.finish(&options, &mut counts)?;
    if let Some(at) = difference(&end, &read_image(&run.join("pmem/nvdimm0.img"))?)? {
        return Err(format!("the trace is not whole: played to its end, it differs from the NVDIMM at byte {at:#x} of the filesystem"));
    }
    drop(end);
    println!(
        "trace: {} events; played to the end they give what the NVDIMM held, byte by byte",
        trace.len()
    );
    println!(
        "trace: {} stores, {} write-backs and {} fences in the filesystem",
        counts.stores, counts.write_backs, counts.fences
    );
    if counts.probes == 0 {
        return Err("the calls have no probe of the plugin".into());
    }
    println!(
        "trace: {} probes of the plugin recorded as they must be",
        counts.probes
    );
    explore::hush_panics();
    let replay = arguments.replay();
    let moments = counts.moments.min(options.points);
    let exporter = Exporter {
        arguments,
        options: &options,
        every: (moments / arguments.export.max(1)).max(1),
    };
    let mut report = explore(walk, &options, &replay, |walk, number| {
        exporter.see(walk, number)
    })?;
    report.violations.sort();
    for line in report.violations.iter().take(20) {
        println!("violation: {line}");
    }
    println!(
        "crash-vm: {} system calls traced, {moments} crash points, {} images, {} violations",
        counts.calls,
        report.images,
        report.violations.len()
    );
    let good = report.violations.is_empty() && report.images > 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Explore {
    fn options(&self) -> Options {
        Options {
            states: self.states,
            between: self.between,
            points: self.points,
            seed: self.seed,
            locked: self.locked,
            without: self.without,
            event: self.event,
            state: self.state,
        }
    }

    /// The command that explores as this one does.
    fn replay(&self) -> String {
        let locked = if self.locked { " --locked" } else { "" };
        let (run, states, seed) = (self.run.display(), self.states, self.seed);
        format!("build/bin/ochre-trace explore {run} --states {states} --seed {seed}{locked}")
    }
}

/// Leaves an even choice of images for the module.
struct Exporter<'a> {
    arguments: &'a Explore,
    options: &'a Options,
    every: u64,
}

impl Exporter<'_> {
    /// Image `n` as `n.pages`: for each page that is not zero its number (8 bytes) and its bytes; `n.manifest`: what it holds.
    fn see(&self, walk: &Walk<'_>, moment: u64) -> Result<(), String> {
        let number = moment / self.every;
        if moment % self.every != 0 || number >= self.arguments.export {
            return Ok(());
        }
        let to = &self.arguments.export_to;
        let said = |e: std::io::Error| format!("{}: {e}", to.display());
        std::fs::create_dir_all(to).map_err(said)?;
        let states = walk.states(self.options);
        // Among the images of a moment another one each time.
        let words = states.state(number as usize % states.len());
        let Ok(tree) = walk.judge(&words) else {
            return Ok(());
        };
        walk.arena().push();
        walk.arena().put(&words);
        let pages = pages(walk.arena());
        walk.arena().pop();
        std::fs::write(to.join(format!("{number}.pages")), pages?).map_err(said)?;
        std::fs::write(to.join(format!("{number}.manifest")), tree.manifest()).map_err(said)
    }
}

/// The pages of an image that hold something.
fn pages(image: &impl Media) -> Result<Vec<u8>, String> {
    let mut pages = Vec::new();
    let mut page = [0; PAGE];
    for number in 0..image.size() / PAGE as u64 {
        image
            .read(number * PAGE as u64, &mut page)
            .map_err(|e| format!("page {number}: {e:?}"))?;
        if page.iter().any(|b| *b != 0) {
            pages.extend(number.to_le_bytes());
            pages.extend(page);
        }
    }
    Ok(pages)
}
