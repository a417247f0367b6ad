//! Arguments of what takes entries and their data away.

use clap::Args as ClapArgs;
use std::path::PathBuf;
use vml_core::repository::{COMPACTION_LEVEL, Within};

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
An entry is kept if any --keep-... says so. The latest of an area, one that a tag names, and one that others
are relative to are always kept, unless they are named.

Examples:
  vml forget --keep-last 5 --keep-daily 14 --keep-weekly 8 --dry-run
  vml forget --area analysis --keep-within 1m --keep-monthly 12 --yes
  vml forget 3f9a27c1 analysis@~3 --yes")]
pub struct ForgetArgs {
    /// The entries to forget
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<String>,
    /// Keep the newest N of an area
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_last: u32,
    /// Keep the newest of each of N hours that have one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_hourly: u32,
    /// Of each of N days
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_daily: u32,
    /// Of each of N weeks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_weekly: u32,
    /// Of each of N months
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_monthly: u32,
    /// Of each of N years
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_yearly: u32,
    /// Keep what has this tag or was saved with it (repeatable)
    #[arg(long, value_name = "TAG")]
    pub keep_tag: Vec<String>,
    /// Keep what is at most so much older than the newest of its area: 36h, 14d, 1y6m
    #[arg(long, value_name = "DURATION", value_parser = parse_within)]
    pub keep_within: Option<Within>,
    /// One area only
    #[arg(long)]
    pub area: Option<String>,
    /// Forget entries that are named although tags name them; the tags go with them
    #[arg(long)]
    pub force: bool,
    /// Tell what would be forgotten and forget nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before forgetting
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
It may run while states are saved, read and built, and be interrupted at any moment.

Examples:
  vml gc --dry-run
  vml gc --max-repack 2G")]
pub struct GcArgs {
    /// Tell what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Copy at most so many bytes out of packs that are mostly unneeded
    #[arg(long, value_name = "SIZE", value_parser = parse_long_size)]
    pub max_repack: Option<u64>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
It takes about a quarter of an hour a gigabyte at level 19, on one core, and says first what it expects to gain. It
may run while states are saved, read and built, and be interrupted at any moment: run it again to go on. What was
compacted before is left alone.

Examples:
  vml compact --dry-run
  vml compact
  vml compact --level 12 --max 20G")]
pub struct CompactArgs {
    /// Tell what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// zstd's level
    #[arg(long, value_name = "N", default_value_t = COMPACTION_LEVEL, value_parser = clap::value_parser!(u8).range(1..=19))]
    pub level: u8,
    /// Take packs of at most so many bytes in hand
    #[arg(long, value_name = "SIZE", value_parser = parse_long_size)]
    pub max: Option<u64>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
An entry brought what none before it had. That is what saving it cost, not what forgetting it frees: a later one may need it too.

Examples:
  vml stats
  vml stats --detail
  vml stats --svg bytes.svg")]
pub struct StatsArgs {
    /// Walk all entries, and tell where the bytes are
    #[arg(long)]
    pub detail: bool,
    /// Draw that into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Reads `1y6m2w3d12h`, each unit at most once and in this order.
fn parse_within(text: &str) -> Result<Within, String> {
    let wrong = || format!("{text:?} is no duration: write hours, days, weeks, months and years as 36h, 14d, 2w, 6m, 1y or 1y6m");
    let mut within = Within::default();
    let mut rest = text;
    let mut last = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..end].parse().map_err(|_| wrong())?;
        let (unit, tail) = rest[end..].split_at(rest[end..].chars().next().map_or(0, char::len_utf8));
        let place = 1 + "ymwdh".find(unit).ok_or_else(wrong)?;
        if place <= last {
            return Err(wrong());
        }
        last = place;
        match unit {
            "y" => within.years = number,
            "m" => within.months = number,
            "w" => within.days = number.checked_mul(7).ok_or_else(wrong)?,
            "d" => within.days = within.days.checked_add(number).ok_or_else(wrong)?,
            _ => within.hours = number,
        }
        rest = tail;
    }
    if within == Within::default() { Err(wrong()) } else { Ok(within) }
}

/// Reads `500M`, `2G`, `1T` or a number of bytes.
fn parse_long_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write bytes, or 64K, 500M, 2G, 1T");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read() {
        assert_eq!(parse_within("1y6m").unwrap(), Within { years: 1, months: 6, ..Within::default() });
        assert_eq!(parse_within("2w1d5h").unwrap(), Within { days: 15, hours: 5, ..Within::default() });
        for wrong in ["", "5", "h", "1h1d", "1d1d", "0d", "99999999999d", "4000000000w", "1µ", "-1d"] {
            assert!(parse_within(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!((parse_long_size("64K"), parse_long_size("2G"), parse_long_size("7")), (Ok(65536), Ok(2 << 30), Ok(7)));
        for wrong in ["", "G", "1.5G", "99999999T", "-1"] {
            assert!(parse_long_size(wrong).is_err(), "{wrong:?}");
        }
    }
}
