// SPDX-License-Identifier: GPL-2.0

//! `ochre-bad-images`: damages sound filesystems and lets the engine loose on them.

use clap::{Parser, Subcommand};
use ochre_mutate::base::{self, Base};
use ochre_mutate::pack;
use ochre_mutate::runner::{self, Limits};
use ochre_mutate::targets;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Damages sound filesystems and lets Ochre's engine loose on them.
#[derive(Parser)]
#[command(name = "ochre-bad-images", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many images on all cores; exit status 1 if anything happened that must not
    Fuzz {
        /// At most so many images
        #[arg(short = 'n', long, default_value_t = 100_000)]
        images: u64,
        /// And for so many seconds
        #[arg(short, long, default_value_t = 3600)]
        seconds: u64,
        /// The first seed; a random one if not given
        #[arg(long)]
        seed: Option<u64>,
        /// Repair each image at the end, and check it again
        #[arg(short, long)]
        repair: bool,
        /// Threads
        #[arg(short, long, default_value_t = 2)]
        threads: usize,
        /// Also say what the errors were, and what else failed
        #[arg(short, long)]
        verbose: bool,
    },
    /// Images for the test in the guest
    Pack {
        /// How many
        #[arg(short = 'n', long, default_value_t = 400)]
        images: usize,
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The file to write
        file: PathBuf,
    },
    /// Inputs for the fuzz targets to begin with
    Corpus {
        /// The folder; each target's inputs go to one of its name
        folder: PathBuf,
    },
    /// One image again, by the seed that was printed
    Replay {
        /// The seed
        seed: u64,
    },
}

fn bases() -> Vec<Base> {
    vec![
        base::everything(),
        base::dirty(),
        base::groups(),
        base::deep(),
    ]
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Fuzz {
            images,
            seconds,
            seed,
            threads,
            repair,
            verbose,
        } => {
            let seed = seed.unwrap_or_else(|| ochre::platform::random_u64() >> 16);
            println!("seed {seed}");
            let limits = Limits {
                images,
                time: Duration::from_secs(seconds),
                threads,
                seed,
                repair,
            };
            fuzz(&limits, verbose)
        }
        Command::Pack { images, seed, file } => {
            let bases = [base::everything(), base::dirty()];
            let pack = pack::write(&bases, &base::foreign(), seed, images);
            match std::fs::write(&file, pack) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("ochre-bad-images: {}: {error}", file.display());
                    ExitCode::FAILURE
                }
            }
        }
        Command::Corpus { folder } => match corpus(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("ochre-bad-images: {}: {error}", folder.display());
                ExitCode::FAILURE
            }
        },
        Command::Replay { seed } => replay(seed),
    }
}

fn corpus(folder: &Path) -> std::io::Result<()> {
    for (name, ..) in targets::ALL {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in targets::corpus(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), input)?;
        }
    }
    Ok(())
}

fn fuzz(limits: &Limits, verbose: bool) -> ExitCode {
    let tally = runner::run(&bases(), &base::foreign(), limits);
    println!("{}", tally.table());
    if verbose {
        for (what, (n, seed)) in &tally.messages {
            println!("said {n} times (seed {seed}): {what}");
        }
        for ((what, error), (n, seed)) in &tally.odd {
            println!("{what} failed {n} times (seed {seed}): {error}");
        }
    }
    println!(
        "{} images, at most {} accesses on one, {} failures",
        tally.images,
        tally.most_steps,
        tally.failures.len()
    );
    for failure in tally.failures.iter().take(100) {
        println!("FAILED {failure}");
    }
    ExitCode::from(u8::from(!tally.failures.is_empty()))
}

fn replay(seed: u64) -> ExitCode {
    let bases = bases();
    let foreign = base::foreign();
    let base = runner::base_of(&bases, seed);
    let media = base.media(base::PLENTY);
    let mut random = ochre_sim::seed::Random::new(seed);
    for damage in ochre_mutate::trial::damage(base, &foreign, &media, &mut random) {
        println!("{}: {damage}", base.name);
    }
    let report = ochre_mutate::trial::run_and_repair(base, &foreign, seed);
    println!(
        "{:?}, {} accesses, first error: {:?}",
        report.outcome,
        report.steps,
        report.error.map(|e| e.to_string())
    );
    for (what, error) in &report.odd {
        println!("{what}: {error}");
    }
    for problem in &report.problems {
        println!("FAILED {problem}");
    }
    ExitCode::from(u8::from(!report.problems.is_empty()))
}
