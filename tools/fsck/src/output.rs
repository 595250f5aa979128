// SPDX-License-Identifier: GPL-2.0

//! What a person, or a program, gets to see.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{stderr, stdin, stdout, IsTerminal, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ochre::engine::error::Error;
use ochre::engine::fsck::{Action, Class, Issue, Observer, Outcome, Repairer, Stage, Summary};
use ochre::engine::superblock::SuperInfo;
use ochre::engine::types::BLOCK_SIZE;
use ochre_tools::units::show_size;
use serde::Serialize;

use crate::{Arguments, CANCELLED};

/// Bad blocks that are listed at most.
const MOST_BAD: usize = 1 << 16;

/// Who decides about repairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is changed; says what would be.
    No,
    /// Everything is repaired.
    Yes,
    /// What is safe is repaired.
    Preen,
    /// Someone at a terminal.
    Ask,
    /// There is nobody to ask.
    Nobody,
}

/// An issue as JSON.
#[derive(Serialize)]
struct Finding {
    issue: &'static str,
    message: String,
    remedy: &'static str,
    #[serde(skip)]
    safe: bool,
}

/// An action as JSON.
#[derive(Serialize)]
struct Deed {
    action: &'static str,
    step: &'static str,
    message: String,
}

/// The result as JSON.
#[derive(Default, Serialize)]
struct Report {
    device: String,
    status: u8,
    unmounted: bool,
    checked: bool,
    superblock_restored: bool,
    /// Blocks that the device lists as bad.
    bad_blocks: Vec<u64>,
    records_replayed: Option<u64>,
    replay_error: Option<String>,
    orphans_finished: u64,
    inodes: u64,
    directories: u64,
    files: u64,
    symlinks: u64,
    orphans: u64,
    names: u64,
    extents: u64,
    blocks: u64,
    blocks_used: u64,
    /// What the first check found.
    issues: Vec<Finding>,
    /// What was done, or with -n would be.
    actions: Vec<Deed>,
    /// Whether the actions were done in memory only.
    dry_run: bool,
    /// The step that was refused.
    refused: Option<&'static str>,
    /// What is still wrong after the repair.
    left: Vec<Finding>,
    /// Why nothing could be done.
    error: Option<String>,
    /// `clean`, `corrected`, `errors left`, `cancelled` or `failed`.
    result: &'static str,
}

/// The standard output, the progress bar, and what the report is made of.
pub struct Output {
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    stage: Option<&'static str>,
    report: Report,
    /// Where `-C` wants progress in numbers.
    numbers: Option<File>,
    mode: Mode,
    /// Something is wrong, and there is nobody to be asked.
    unasked: bool,
    /// The answer "all" was given.
    all: bool,
    /// Checks after a repair.
    second: bool,
    interrupted: Arc<AtomicBool>,
}

/// Passes of a check as fsck(8) counts them; those of a repair follow.
fn pass(stage: Stage) -> (u32, &'static str) {
    match stage {
        Stage::Groups => (1, "groups"),
        Stage::Inodes => (2, "inodes and extents"),
        Stage::Directories => (3, "directories"),
        Stage::Links => (4, "links"),
        Stage::Space => (5, "free space"),
    }
}

impl Output {
    /// As the command line asks for.
    pub fn new(arguments: &Arguments) -> Self {
        let wanted = match arguments.progress {
            Some(descriptor) => descriptor == 0,
            None => stderr().is_terminal(),
        };
        let wanted = wanted && !arguments.json;
        // As e2fsck does it: 0 is a bar, another number a descriptor for a program to read from.
        let numbers = arguments.progress.filter(|&descriptor| descriptor > 0);
        let numbers = numbers.and_then(|descriptor| {
            let path = format!("/proc/self/fd/{descriptor}");
            OpenOptions::new().append(true).open(path).ok()
        });
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Without it the signal ends the process at once, which the image survives as well.
            let _ = signal_hook::flag::register(signal, interrupted.clone());
        }
        let bar = ProgressBar::hidden();
        if wanted {
            let template = "{msg:<20} [{bar:40}] {percent:>3}% {elapsed}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        Self {
            json: arguments.json,
            quiet: arguments.quiet,
            bar,
            stage: None,
            report: Report::default(),
            numbers,
            mode: Mode::Nobody,
            unasked: false,
            all: false,
            second: false,
            interrupted,
        }
    }

    /// What the first check found.
    pub fn issues(&self) -> usize {
        self.report.issues.len()
    }

    /// Whether all that was found can be put right without losing anything.
    pub fn all_safe(&self) -> bool {
        self.report.issues.iter().all(|finding| finding.safe)
    }

    /// What the device lists as bad. Metadata there is found by the check; the bytes of files are not read by it.
    pub fn bad_blocks(&mut self, bad: &[Range<u64>]) {
        let blocks = bad
            .iter()
            .flat_map(|range| range.start / BLOCK_SIZE..range.end.div_ceil(BLOCK_SIZE));
        let blocks: BTreeSet<u64> = blocks.take(MOST_BAD).collect();
        self.report.bad_blocks = blocks.into_iter().collect();
        let name = &self.report.device;
        if let Some(first) = self.report.bad_blocks.first() {
            self.line(&format!(
                "{name}: the device lists {} bad blocks of 4 KiB, the first is block {first}; `ochre owner {name} block {first}` \
                 tells what it holds",
                self.report.bad_blocks.len()
            ));
        }
    }

    /// Preening ends here.
    pub fn not_safe(&mut self) {
        let name = &self.report.device;
        self.line(&format!(
            "{name}: UNEXPECTED INCONSISTENCY; run fsck.ochre manually (without -p, or with -y)"
        ));
    }

    /// There is nobody to be asked about a repair.
    pub fn nobody(&mut self) {
        self.unasked = true;
    }

    /// A repair begins.
    pub fn repairing(&mut self, mode: Mode) {
        self.mode = mode;
        self.report.dry_run = mode == Mode::No;
    }

    /// A repair is through.
    pub fn repaired(&mut self, outcome: &Outcome) {
        self.bar.finish_and_clear();
        self.report.refused = outcome.refused.map(Class::text);
        let name = &self.report.device;
        if let Some(class) = outcome.refused {
            self.line(&format!(
                "{name}: repair ended before {}, which what follows builds on",
                class.text()
            ));
        }
        if outcome.cancelled {
            self.line(&format!(
                "{name}: repair interrupted; it cannot be mounted until fsck.ochre has finished it"
            ));
        }
    }

    /// There is nothing to start a repair from.
    pub fn hopeless(&mut self) {
        let name = &self.report.device;
        self.line(&format!(
            "{name}: the superblock and its copy are lost, and with them the key of all checksums: \
             this cannot be repaired"
        ));
    }

    /// The check after a repair.
    pub fn again(&mut self) {
        self.second = true;
        self.report.left.clear();
    }

    fn line(&self, text: &str) {
        if !self.json {
            self.bar.suspend(|| say(text));
        }
    }

    /// Which filesystem this is.
    pub fn identity(&mut self, name: &str, info: Option<&SuperInfo>) {
        name.clone_into(&mut self.report.device);
        self.report.unmounted = info.is_some_and(|info| info.clean);
    }

    /// The check was not needed.
    pub fn skipped(&mut self) {
        if !self.quiet {
            self.line(&format!("{}: clean", self.report.device));
        }
    }

    /// The primary superblock was damaged and is written anew from its copy.
    pub fn superblock_restored(&mut self) {
        self.report.superblock_restored = true;
        let name = &self.report.device;
        self.line(&format!(
            "{name}: the superblock is damaged; restored from its copy"
        ));
    }

    /// The journal was replayed.
    pub fn replayed(&mut self, records: u64) {
        self.report.records_replayed = Some(records);
        self.line(&format!(
            "{}: was not unmounted; journal replayed ({})",
            self.report.device,
            counted(records, "record", "records")
        ));
    }

    /// The journal could not be replayed.
    pub fn not_replayed(&mut self, error: &Error) {
        self.report.replay_error = Some(error.to_string());
        self.line(&format!(
            "{}: was not unmounted, and cannot be mounted to replay its journal: {error}",
            self.report.device
        ));
    }

    /// Orphans were finished.
    pub fn orphans_finished(&mut self, count: u64) {
        self.report.orphans_finished = count;
        let name = &self.report.device;
        self.line(&format!(
            "{name}: {} finished",
            counted(count, "orphan", "orphans")
        ));
    }

    /// The check is through.
    pub fn checked(&mut self, summary: &Summary) {
        self.bar.finish_and_clear();
        let report = &mut self.report;
        report.checked = true;
        report.inodes = summary.inodes;
        report.directories = summary.directories;
        report.files = summary.files;
        report.symlinks = summary.symlinks;
        report.orphans = summary.orphans;
        report.names = summary.names;
        report.extents = summary.extents;
        report.blocks = summary.blocks;
        report.blocks_used = summary.used;
        if !summary.complete {
            self.line("The check ended early: without a superblock nothing else can be found.");
        }
    }

    /// The last lines.
    pub fn finish(&mut self, status: u8) {
        self.report.status = status;
        self.report.result = match status {
            crate::CLEAN => "clean",
            crate::CORRECTED => "corrected",
            CANCELLED => "cancelled",
            crate::OPERATIONAL => "failed",
            _ => "errors left",
        };
        self.bar.finish_and_clear();
        if self.json {
            match serde_json::to_string_pretty(&self.report) {
                Ok(text) => say(&text),
                Err(error) => ochre_tools::complain("fsck.ochre", error),
            }
            return;
        }
        let report = &self.report;
        let issues = report.issues.len();
        if report.checked && (issues != 0 || !self.quiet) {
            let share = (report.blocks_used * 100)
                .checked_div(report.blocks)
                .unwrap_or(0);
            let verdict = match issues {
                0 if report.replay_error.is_some() => "journal not replayed".to_owned(),
                0 => "no errors".to_owned(),
                issues if status == crate::CORRECTED => {
                    format!("{}, corrected", counted(issues as u64, "error", "errors"))
                }
                issues => counted(issues as u64, "error", "errors"),
            };
            say(&format!(
                "{}: {verdict}; {}, {}, {}, {} of {} used ({share} %)",
                report.device,
                counted(report.files, "file", "files"),
                counted(report.directories, "directory", "directories"),
                counted(report.symlinks, "symbolic link", "symbolic links"),
                show_size(report.blocks_used.saturating_mul(4096)),
                show_size(report.blocks.saturating_mul(4096)),
            ));
        }
        if status == crate::ERRORS_LEFT {
            let what = if self.unasked {
                "to repair them use -y (yes to all), -p (what is safe) or a terminal to be asked on"
            } else if report.dry_run {
                "nothing was changed; fsck.ochre -y does what is shown here"
            } else {
                "what is left is above; a read-only mount (-o ro) may still show what is needed"
            };
            say(&format!("{}: errors left: {what}", report.device));
        }
    }

    /// Ends without a result: programs are told why, too.
    pub fn abandon(&mut self, device: &Path, why: &str) {
        self.report.device = device.display().to_string();
        self.report.error = Some(why.to_owned());
        if self.json {
            self.finish(crate::OPERATIONAL);
        }
        self.bar.finish_and_clear();
    }
}

/// A line. Whether anybody reads it must not decide whether a repair is finished, so errors are ignored, where `println!` would
/// end the program.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// A number with its noun.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl Output {
    fn advance(&mut self, pass: u32, name: &'static str, done: u64, total: u64) {
        if self.stage != Some(name) {
            self.stage = Some(name);
            self.bar.set_message(name);
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if let Some(file) = &mut self.numbers {
            // Whoever reads may be gone.
            let _ = writeln!(file, "{pass} {done} {total} {}", self.report.device);
        }
    }

    /// Asks at the terminal.
    fn ask(&mut self, class: Class, first: &Action) -> bool {
        if self.all {
            return true;
        }
        let question = format!(
            "Repair {}? The first thing to do: {first}\n(y)es, (n)o and end here, (a)ll: ",
            class.text()
        );
        loop {
            self.bar.suspend(|| {
                print!("{question}");
                let _ = stdout().flush();
            });
            let mut answer = String::new();
            if !stdin().read_line(&mut answer).is_ok_and(|len| len != 0) {
                return false;
            }
            match answer.trim() {
                "y" | "yes" => return true,
                "n" | "no" => return false,
                "a" | "all" => {
                    self.all = true;
                    return true;
                }
                _ => {}
            }
        }
    }
}

impl Observer for Output {
    fn issue(&mut self, issue: &Issue) {
        let message = issue.to_string();
        self.line(&format!("{message}; repair: {}", issue.remedy()));
        let finding = Finding {
            issue: issue.name(),
            message,
            remedy: issue.remedy(),
            safe: issue.is_safe(),
        };
        if self.second {
            self.report.left.push(finding);
        } else {
            self.report.issues.push(finding);
        }
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        if self.interrupted.load(Ordering::Relaxed) {
            // A check has changed nothing.
            self.bar.finish_and_clear();
            std::process::exit(CANCELLED.into());
        }
        let (pass, name) = pass(stage);
        self.advance(pass, name, done, total);
    }
}

impl Repairer for Output {
    fn approve(&mut self, class: Class, first: &Action) -> bool {
        match self.mode {
            Mode::Ask => self.ask(class, first),
            Mode::Nobody => false,
            _ => true,
        }
    }

    fn action(&mut self, action: &Action) {
        let message = action.to_string();
        let verb = match (action.is_left(), self.mode) {
            (true, _) => "NOT REPAIRED",
            (_, Mode::No) => "would be done",
            _ => "done",
        };
        self.line(&format!("{verb}: {message}"));
        self.report.actions.push(Deed {
            action: action.name(),
            step: action.class().text(),
            message,
        });
    }

    fn progress(&mut self, class: Class, done: u64, total: u64) {
        self.advance(6 + class as u32, class.text(), done, total);
    }

    fn cancelled(&mut self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
