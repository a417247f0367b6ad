//! What can be asked for.

use super::tools::NAMES;
use anyhow::{Result, bail};
use clap::Parser;
use std::path::PathBuf;

/// Compares VML with restic, Borg and rustic on the states of a corpus.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare")]
pub struct Options {
    /// A directory with trees/{base,w1,w2,w3,v1}, and for disks images/{base,w1,w2,w3}.raw: states of a guest
    #[arg(long, value_name = "DIR")]
    pub corpus: Option<PathBuf>,
    /// How often everything is measured; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub runs: u16,
    /// Where repositories and built trees go, best in memory
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub work: PathBuf,
    /// Which tools, in this order in the tables
    #[arg(long, value_delimiter = ',', default_value = "vml,vml-encrypted,restic,borg,rustic,casync,bup,zpaq")]
    pub tools: Vec<String>,
    /// This vml, instead of one built now
    #[arg(long, value_name = "FILE")]
    pub vml: Option<PathBuf>,
    /// This rustic, instead of the one in PATH
    #[arg(long, value_name = "FILE")]
    pub rustic: Option<PathBuf>,
    /// Write every number here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables between the markers of this page
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Draw what was measured as SVG files in this directory
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Measure nothing: draw what --json wrote here
    #[arg(long, value_name = "FILE", requires = "plots", conflicts_with = "corpus")]
    pub plot_from: Option<PathBuf>,
    /// Measure disk images instead of trees
    #[arg(long, requires = "corpus")]
    pub disks: bool,
    /// Try settings on disk images with vml tune; without --disks, nothing else
    #[arg(long, requires = "corpus")]
    pub tune: bool,
    /// Measure log, show and check on a repository with a million chunks
    #[arg(long)]
    pub log_million: bool,
    /// Measure the index, and commands on repositories, with each of these many chunks
    #[arg(long, value_name = "CHUNKS", value_delimiter = ',', num_args = 0..=1, default_missing_value = "1000000,10000000,100000000",
        value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    pub scale: Vec<u64>,
    /// Measure machines that run, with the guest in this folder, made by testdata/make-guest
    #[arg(long, value_name = "DIR", requires = "corpus")]
    pub machines: Option<PathBuf>,
    /// Measure share files, pushing and pulling, and a service that many use at once
    #[arg(long, requires = "corpus")]
    pub sharing: bool,
    /// Measure checking every byte and collecting, beside restic
    #[arg(long, requires = "corpus")]
    pub upkeep: bool,
    /// Measure builds after a hundred saves, each with 1 % changed
    #[arg(long, requires = "corpus")]
    pub series: bool,
    /// Set by the program itself: it runs in a mount namespace of its own
    #[arg(long, hide = true)]
    pub inside: bool,
    /// Set by the program itself: fill this repository with a million chunks and end
    #[arg(long, hide = true, value_name = "REPOSITORY")]
    pub fill_million: Option<PathBuf>,
    /// Set by the program itself: take this step of --scale in this repository and end
    #[arg(long, hide = true, value_name = "STEP", requires_all = ["scale", "scale_place"])]
    pub scale_step: Option<String>,
    /// Set by the program itself
    #[arg(long, hide = true, value_name = "REPOSITORY")]
    pub scale_place: Option<PathBuf>,
    /// Set by the program itself
    #[arg(long, hide = true, value_name = "FILE")]
    pub scale_key: Option<PathBuf>,
    /// Set by the program itself: cut, hash and compress this tree, write the seconds there, and end
    #[arg(long, hide = true, num_args = 2, value_names = ["DIR", "RESULT"])]
    pub measure_limit: Option<Vec<PathBuf>>,
    /// Set by the program itself: build this entry, count what is decoded, write it there, and end
    #[arg(long, hide = true, num_args = 4, value_names = ["REPOSITORY", "ENTRY", "TARGET", "RESULT"])]
    pub count_decoded: Option<Vec<PathBuf>>,
}

impl Options {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// A sentence that says what to give instead.
    pub fn check(&self) -> Result<()> {
        if let Some(unknown) = self.tools.iter().find(|tool| !NAMES.contains(&tool.as_str())) {
            bail!("there is no tool {unknown:?}: choose from {}", NAMES.join(","));
        }
        if self.corpus.is_none() && !self.log_million && self.scale.is_empty() {
            bail!(
                "give --corpus DIR, a directory with trees/{{base,w1,w2,w3,v1}}: five states of one guest, each a directory tree; \
                 or --log-million or --scale, which make their own repositories"
            );
        }
        // Now, and not after hours of measuring.
        if let Some(page) = self.markdown.as_ref().filter(|page| !page.is_file()) {
            bail!("there is no page {}: --markdown replaces what stands between markers of one", page.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let parse = |args: &[&str]| Options::parse_from([&["compare"], args].concat()).check().map_err(|error| error.to_string());
        assert!(parse(&[]).unwrap_err().contains("trees/{base,w1,w2,w3,v1}"));
        assert!(parse(&["--corpus", "x", "--tools", "vml,tar"]).unwrap_err().contains("\"tar\""));
        assert!(parse(&["--corpus", "x", "--tools", "vml,borg"]).is_ok());
        assert!(parse(&["--log-million"]).is_ok());
        assert!(parse(&["--log-million", "--markdown", "/no/page.md"]).unwrap_err().contains("/no/page.md"));
        assert!(parse(&["--scale"]).is_ok() && parse(&["--scale", "5000"]).is_ok());
        assert_eq!(Options::parse_from(["compare", "--scale", "--runs", "1"]).scale, [1_000_000, 10_000_000, 100_000_000]);
        assert!(parse(&["--corpus", "x", "--disks", "--tune"]).is_ok());
        assert!(Options::try_parse_from(["compare", "--disks", "--log-million"]).is_err(), "disks need a corpus");
    }
}
