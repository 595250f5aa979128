// SPDX-License-Identifier: GPL-2.0

//! What a person, or a program, gets to see.

use std::io::{stderr, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ochre::engine::error::Error;
use ochre::engine::fsck::{Issue, Observer, Stage, Summary};
use ochre::engine::superblock::SuperInfo;
use ochre_tools::units::show_size;
use serde::Serialize;

use crate::Arguments;

/// An issue as JSON.
#[derive(Serialize)]
struct Finding {
    issue: &'static str,
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
    issues: Vec<Finding>,
}

/// The standard output, the progress bar, and what the report is made of.
pub struct Output {
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    stage: Option<Stage>,
    report: Report,
}

impl Output {
    /// As the command line asks for.
    pub fn new(arguments: &Arguments) -> Self {
        let wanted = !arguments.json && (arguments.progress.is_some() || stderr().is_terminal());
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
        }
    }

    fn line(&self, text: &str) {
        if !self.json {
            self.bar.suspend(|| println!("{text}"));
        }
    }

    /// Which filesystem this is.
    pub fn identity(&mut self, name: &str, info: &SuperInfo) {
        name.clone_into(&mut self.report.device);
        self.report.unmounted = info.clean;
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
            "{}: was not unmounted, and the journal cannot be replayed: {error}",
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
        self.bar.finish_and_clear();
        if self.json {
            match serde_json::to_string_pretty(&self.report) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("fsck.ochre: {error}"),
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
                issues => counted(issues as u64, "error", "errors"),
            };
            println!(
                "{}: {verdict}; {}, {}, {}, {} of {} used ({share} %)",
                report.device,
                counted(report.files, "file", "files"),
                counted(report.directories, "directory", "directories"),
                counted(report.symlinks, "symbolic link", "symbolic links"),
                show_size(report.blocks_used.saturating_mul(4096)),
                show_size(report.blocks.saturating_mul(4096)),
            );
        }
        if status == crate::ERRORS_LEFT {
            println!(
                "{}: errors left. This version of fsck.ochre does not repair them; mount read-only \
                 (-o ro), copy what is needed, then mkfs.ochre",
                report.device
            );
        }
    }

    /// Ends without a result.
    pub fn abandon(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number with its noun.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl Observer for Output {
    fn issue(&mut self, issue: &Issue) {
        let message = issue.to_string();
        self.line(&message);
        self.report.issues.push(Finding {
            issue: issue.name(),
            message,
        });
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            self.bar.set_message(match stage {
                Stage::Groups => "groups",
                Stage::Inodes => "inodes and extents",
                Stage::Directories => "directories",
                Stage::Links => "links",
                Stage::Space => "free space",
            });
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}
