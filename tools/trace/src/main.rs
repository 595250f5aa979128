// SPDX-License-Identifier: GPL-2.0

//! `ochre-trace`: crashes of the real module in a real machine, explored on the host.
//!
//! `plan` makes a list of calls. scripts/crash-vm lets a guest carry it out under the trace plugin (qemu/plugin). `explore` reads
//! the trace, forms the images that a power cut may have left at many of its moments, and judges each.

use clap::{Args, Parser, Subcommand};
use explore::{explore, Deaf, Options, Walk};
use ochre::engine::media::Media;
use ochre_sim::MemoryMedia;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod call;
mod events;
mod explore;
mod file;
mod model;
mod plan;
mod recovered;

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
        /// About so many calls in each of the eight sections
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
fn read_image(path: &Path) -> Result<MemoryMedia, String> {
    let said = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(said)?;
    let len = file.metadata().map_err(said)?.len();
    let size = len
        .checked_sub(START + LABELS)
        .ok_or(format!("{}: too short", path.display()))?
        / START
        * START;
    let media = MemoryMedia::new(size);
    let mut page = [0; PAGE];
    for at in (0..size).step_by(PAGE) {
        file.read_exact_at(&mut page, START + at).map_err(said)?;
        if page.iter().any(|b| *b != 0) {
            media.store(at, &page);
        }
    }
    Ok(media)
}

/// The first byte at which two images differ.
fn difference(a: &MemoryMedia, b: &MemoryMedia) -> Result<Option<u64>, String> {
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
    let trace = events::Trace::read(&arguments.run.join("trace"))?;
    let lines = call::parse(&read_text(&arguments.run.join("calls"))?)?;
    let initial = read_image(&arguments.run.join("trace.initial"))?;
    let options = Options {
        states: arguments.states,
        between: arguments.between,
        points: arguments.points,
        seed: arguments.seed,
        locked: arguments.locked,
        without: arguments.without,
        event: arguments.event,
        state: arguments.state,
    };
    // Nothing is worth a word if the trace is not the whole truth: played to its end it gives what the NVDIMM held in the end.
    let whole = Options {
        without: None,
        ..options.clone()
    };
    let end = Walk::new(&trace, &lines, START, initial.snapshot(), 0).finish(&whole)?;
    let real = read_image(&arguments.run.join("pmem/nvdimm0.img"))?;
    if let Some(at) = difference(&end, &real)? {
        return Err(format!("the trace is not whole: played to its end, it differs from the NVDIMM at byte {at:#x} of the filesystem"));
    }
    println!(
        "trace: {} events; played to the end they give what the NVDIMM held, byte by byte",
        trace.len()
    );
    // The engine's complaints about what a crash left are none of this tool's: a panic is reported as a violation.
    std::panic::set_hook(Box::new(|_| ()));
    let replay = format!(
        "build/bin/ochre-trace explore {} --states {} --seed {}{}",
        arguments.run.display(),
        options.states,
        options.seed,
        if options.locked { " --locked" } else { "" }
    );
    let mut walk = Walk::new(&trace, &lines, START, initial, options.seed);
    let mut exporter = Exporter {
        arguments,
        seen: 0,
        every: 1,
        left: Vec::new(),
    };
    let report = explore(&mut walk, &options, &replay, |point| exporter.see(point))?;
    exporter.write()?;
    for line in report.violations.iter().take(20) {
        println!("violation: {line}");
    }
    let [stores, write_backs, fences] = report.events;
    println!("{stores} stores, {write_backs} write-backs and {fences} fences in the filesystem");
    println!(
        "crash-vm: {} system calls traced, {} crash points, {} images, {} violations",
        report.calls,
        report.points,
        report.images,
        report.violations.len()
    );
    if arguments.without.is_some() {
        println!("(deaf on purpose: violations are right here)");
    }
    if report.violations.is_empty() && (report.images > 0 || arguments.event.is_some()) {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Numbers and bytes.
type Pages = Vec<(u64, Vec<u8>)>;

/// Keeps an even choice of images, however many moments there will be: each second one goes when there are twice as many as
/// wanted.
struct Exporter<'a> {
    arguments: &'a Explore,
    seen: u64,
    every: u64,
    left: Vec<(Pages, String)>,
}

impl Exporter<'_> {
    fn see(&mut self, point: &explore::Point) -> Result<(), String> {
        let wanted = self.arguments.export;
        self.seen += 1;
        if wanted == 0 || self.seen % self.every != 0 {
            return Ok(());
        }
        // Among the images of a moment take another one each time.
        let state = self.seen as usize % point.len();
        let Ok(tree) = point.judge(state) else {
            return Ok(());
        };
        self.left
            .push((pages(&point.image(state))?, tree.manifest()));
        if self.left.len() as u64 >= 2 * wanted {
            let mut keep = false;
            self.left.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
        Ok(())
    }

    /// Image `n` as `n.pages`: for each page that is not zero its number (8 bytes) and its bytes; `n.manifest`: what it holds.
    fn write(&self) -> Result<(), String> {
        if self.arguments.export == 0 {
            return Ok(());
        }
        let to = &self.arguments.export_to;
        let said = |e: std::io::Error| format!("{}: {e}", to.display());
        std::fs::create_dir_all(to).map_err(said)?;
        let step = (self.left.len() / self.arguments.export.max(1) as usize).max(1);
        for (n, (pages, manifest)) in self
            .left
            .iter()
            .step_by(step)
            .take(self.arguments.export as usize)
            .enumerate()
        {
            let mut file = File::create(to.join(format!("{n}.pages"))).map_err(said)?;
            for (number, bytes) in pages {
                file.write_all(&number.to_le_bytes())
                    .and_then(|()| file.write_all(bytes))
                    .map_err(said)?;
            }
            std::fs::write(to.join(format!("{n}.manifest")), manifest).map_err(said)?;
        }
        Ok(())
    }
}

/// The pages of an image that hold something.
fn pages(image: &impl Media) -> Result<Pages, String> {
    let mut pages = Vec::new();
    let mut page = [0; PAGE];
    for number in 0..image.size() / PAGE as u64 {
        image
            .read(number * PAGE as u64, &mut page)
            .map_err(|e| format!("page {number}: {e:?}"))?;
        if page.iter().any(|b| *b != 0) {
            pages.push((number, page.to_vec()));
        }
    }
    Ok(pages)
}
