//! `vml forget`

use super::{Context, Outcome};
use crate::args::ForgetArgs;
use crate::output::{human, json};
use anyhow::{Result, bail};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use std::collections::HashSet;
use vml_core::entry::EntryId;
use vml_core::repository::{Calendar, ForgetOptions, Forgetting, KeepPolicy, LocalTime, Row, Within};
use vml_core::{Error, Repository};

pub fn run(context: &Context, args: &ForgetArgs) -> Result<Outcome> {
    let policy = policy_of(args);
    match (args.entries.is_empty(), policy.is_empty()) {
        (true, true) => bail!(Error::invalid("say which entries to forget, or what to keep: --keep-last, --keep-daily and so on")),
        (false, false) => bail!(Error::invalid("either entries are named or it is said what to keep, not both")),
        _ => {}
    }
    let repository = context.repository()?;
    if args.entries.is_empty() { by_policy(context, args, &repository, &policy) } else { by_name(context, args, &repository) }
}

fn policy_of(args: &ForgetArgs) -> KeepPolicy {
    KeepPolicy {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
        tags: args.keep_tag.clone(),
        within: args.keep_within,
    }
}

fn by_policy(context: &Context, args: &ForgetArgs, repository: &Repository, policy: &KeepPolicy) -> Result<Outcome> {
    let progress = context.progress();
    let options = ForgetOptions { policy, area: args.area.as_deref(), calendar: &Local(TimeZone::system()) };
    let planned = repository.plan_forgetting(&options, &progress)?;
    let going = planned.forgotten();
    if context.json() {
        crate::output::value(&json!({
            "dry_run": args.dry_run,
            "areas": planned.areas.iter().map(|(area, rows)| area_json(area, rows)).collect::<Vec<_>>(),
            "forgotten": going.len(),
            "problems": json::problems(&progress.problems()),
        }))?;
    }
    if args.dry_run || !going.is_empty() {
        table(context, &planned)?;
    }
    finish(context, args, repository, &going)?;
    Ok(Outcome::of(progress.problems().len() as u64))
}

fn by_name(context: &Context, args: &ForgetArgs, repository: &Repository) -> Result<Outcome> {
    if args.area.is_some() {
        bail!(Error::invalid("--area goes with --keep-...; an entry that is named is in the area that it is in"));
    }
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    for name in &args.entries {
        let id = repository.resolve(name)?;
        if seen.insert(id) {
            ids.push(id);
        }
    }
    if context.json() {
        crate::output::value(
            &json!({ "dry_run": args.dry_run, "entries": ids.iter().map(ToString::to_string).collect::<Vec<_>>(), "forgotten": ids.len() }),
        )?;
    }
    for id in &ids {
        // One that is damaged can be forgotten too.
        let what = repository.entry(id).map_or_else(
            |_| "cannot be read".to_owned(),
            |entry| format!("{}  {}  {}", human::time(entry.time_ms), entry.origin(), human::first_line(&entry.message)),
        );
        context.say(format_args!("forget  {}  {what}", id.short()))?;
    }
    finish(context, args, repository, &ids)?;
    Ok(Outcome::Done)
}

fn finish(context: &Context, args: &ForgetArgs, repository: &Repository, ids: &[EntryId]) -> Result<()> {
    let count = human::counted(ids.len() as u64, "entry");
    if args.dry_run {
        return context.say(format_args!("would forget {count}"));
    }
    if ids.is_empty() {
        return context.say("nothing to forget");
    }
    context.confirm(&format!("Forget {count}?"), args.yes)?;
    repository.forget(ids, args.force, &vml_core::NoMonitor)?;
    context.say(format_args!("forgot {count}; `vml gc` frees what only they needed"))
}

fn table(context: &Context, planned: &Forgetting) -> Result<()> {
    for (area, rows) in &planned.areas {
        context.say(format_args!("{area}:"))?;
        for row in rows {
            let reasons: Vec<&str> = row.decision.reasons.iter().map(|reason| reason.name()).collect();
            let (what, why) = if row.decision.is_kept() { ("keep", reasons.join(", ")) } else { ("forget", String::new()) };
            let tags = if row.tags.is_empty() { String::new() } else { format!("  [{}]", row.tags.join(", ")) };
            let message = human::first_line(&row.message);
            let time = human::time(row.time_ms);
            context.say(format!("  {what:<6}  {}  {time}  {why:<24}  {message}{tags}", row.decision.id.short()).trim_end())?;
        }
    }
    Ok(())
}

fn area_json(area: &str, rows: &[Row]) -> Value {
    let entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "entry": row.decision.id.to_string(),
                "time": human::time_utc(row.time_ms),
                "time_ms": row.time_ms,
                "message": row.message,
                "tags": row.tags,
                "keep": row.decision.is_kept(),
                "reasons": row.decision.reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "area": area, "entries": entries })
}

/// The calendar of this host.
struct Local(TimeZone);

impl Calendar for Local {
    fn local(&self, time_ms: i64) -> LocalTime {
        let time = Timestamp::from_millisecond(time_ms).unwrap_or(if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX });
        let zoned = time.to_zoned(self.0.clone());
        let week = zoned.date().iso_week_date();
        let small = |number: i8| u8::try_from(number).unwrap_or_default();
        LocalTime {
            year: zoned.year().into(),
            month: small(zoned.month()),
            day: small(zoned.day()),
            hour: small(zoned.hour()),
            week_year: week.year().into(),
            week: small(week.week()),
        }
    }

    fn before(&self, time_ms: i64, within: &Within) -> i64 {
        // Before the calendar begins everything is young enough.
        let before = || {
            let span = Span::new()
                .try_years(within.years)
                .and_then(|span| span.try_months(within.months))
                .and_then(|span| span.try_days(within.days))
                .and_then(|span| span.try_hours(within.hours))
                .ok()?;
            let zoned = Timestamp::from_millisecond(time_ms).ok()?.to_zoned(self.0.clone());
            Some(zoned.checked_sub(span).ok()?.timestamp().as_millisecond())
        };
        before().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_that_of_its_zone() {
        let east = Local(TimeZone::fixed(jiff::tz::offset(9)));
        // 2024-12-31 20:00 UTC is the first hour-before-dawn of 2025 there, in the first week of 2025.
        let at = east.local(1_735_675_200_000);
        assert_eq!((at.year, at.month, at.day, at.hour, at.week_year, at.week), (2025, 1, 1, 5, 2025, 1));
        let utc = Local(TimeZone::UTC);
        assert_eq!(utc.local(1_735_675_200_000).year, 2024);
        let month = Within { months: 1, hours: 2, ..Within::default() };
        // A month before the 31st of March is the last day of February.
        assert_eq!(utc.before(1_711_886_400_000, &month), 1_709_200_800_000);
        assert_eq!(utc.before(0, &Within { years: u32::MAX, ..Within::default() }), i64::MIN);
    }
}
