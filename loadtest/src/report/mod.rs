//! What the load test says of itself: a series over time, a line in the terminal while it runs,
//! JSON, one HTML page, and a comparison of two of them.
//!
//! Read `series` for what is recorded every second, `live` for the line, `record` for the file,
//! `page` for the HTML, `flat` for what a soak is judged by.

mod chart;
mod compare;
mod flat;
pub(crate) mod knee_page;
mod lines;
pub(crate) mod live;
pub(crate) mod machine;
mod page;
mod page_text;
pub(crate) mod record;
pub(crate) mod series;
pub(crate) mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

pub use self::compare::{CompareArgs, compare};
use self::record::Record;

/// Where a load test's report goes, and what it has to hold.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Writes the report as JSON into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the report as one HTML page with plots into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Fails when the memory of the process under load grows after it has warmed up.
    #[arg(long)]
    pub(crate) soak: bool,
}

/// Makes a page of a report that was written before.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The report (JSON, as `loadtest run --json` writes it).
    file: PathBuf,
    /// Writes it as one HTML page into this file; without, its table is shown.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl OutputArgs {
    /// Shows the table, writes the files, and says whether the run passes.
    ///
    /// # Errors
    /// When a file cannot be written.
    #[expect(clippy::print_stdout, reason = "the table is what the command is for")]
    pub(crate) fn tell(&self, record: &Record) -> anyhow::Result<ExitCode> {
        println!("\n{}", table::table(&record.report));
        let flat = record.flatness();
        if self.soak {
            println!("{}", flat.as_ref().map_or_else(|why| why.clone(), flat::Flatness::words));
        }
        if let Some(path) = &self.json {
            write(path, &record.json()?)?;
            println!("written: {}", path.display());
        }
        if let Some(path) = &self.html {
            write(path, &page::page(record))?;
            println!("written: {} (open it in a browser)", path.display());
        }
        if !record.report.is_clean() {
            println!("FAILED: frames or calls were lost");
            return Ok(ExitCode::FAILURE);
        }
        if self.soak && !flat.is_ok_and(|flat| flat.is_flat()) {
            println!("FAILED: memory is not flat");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a page of a report, or shows its table.
///
/// # Errors
/// When the report cannot be read, or the page cannot be written.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let record = Record::read(&args.file)?;
    match &args.html {
        Some(path) => {
            write(path, &page::page(&record))?;
            println!("written: {} (open it in a browser)", path.display());
        }
        None => println!("{}", table::table(&record.report)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a file, and the folder that it is to lie in.
///
/// # Errors
/// When that is not possible.
pub(crate) fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
