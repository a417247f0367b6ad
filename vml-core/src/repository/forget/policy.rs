//! Which entries of an area are kept; pure. The calendar, and with it the time zone, is the caller's.

use crate::entry::EntryId;

/// A moment as a calendar on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// The year that the week belongs to, after ISO 8601.
    pub week_year: i32,
    /// The week's number, 1 to 53.
    pub week: u8,
}

/// A span of time by the calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Within {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

/// Somebody's calendar.
pub trait Calendar {
    /// What it shows at a moment, in milliseconds since 1970-01-01 00:00 UTC.
    fn local(&self, time_ms: i64) -> LocalTime;

    /// The moment so long before another.
    fn before(&self, time_ms: i64, span: &Within) -> i64;
}

/// What to keep. An entry is kept if any of these says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// So many of the newest.
    pub last: u32,
    /// The newest of an hour, for so many hours that have one; and so on.
    pub hourly: u32,
    /// Of a day.
    pub daily: u32,
    /// Of a week.
    pub weekly: u32,
    /// Of a month.
    pub monthly: u32,
    /// Of a year.
    pub yearly: u32,
    /// Those that have or were born with one of these tags.
    pub tags: Vec<String>,
    /// Those that are at most so much older than the area's newest. The time now is not asked: an area that rests loses nothing.
    pub within: Option<Within>,
}

impl KeepPolicy {
    /// Whether it keeps nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an entry is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is the area's latest.
    Latest,
    /// A tag names it.
    Tagged,
    /// An entry is relative to it, or it is a base.
    Base,
    /// One of the newest.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// It has or was born with a tag that is kept.
    KeepTag,
    /// It is young enough.
    Within,
}

impl Reason {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Tagged => "tagged",
            Self::Base => "base",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::KeepTag => "keep-tag",
            Self::Within => "within",
        }
    }
}

/// What a policy needs to know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The entry.
    pub id: EntryId,
    /// When it was saved.
    pub time_ms: i64,
    /// Tags it was born with.
    pub born_tags: Vec<String>,
    /// Tags that name it now.
    pub tags: Vec<String>,
    /// Whether it is the area's latest.
    pub is_latest: bool,
    /// Whether an entry is relative to it.
    pub is_base: bool,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The entry.
    pub id: EntryId,
    /// Why it is kept; forgotten if there is no reason.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides about the entries of one area, the newest first.
pub fn decide(candidates: &[Candidate], policy: &KeepPolicy, calendar: &dyn Calendar) -> Vec<Decision> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    // Among equal times the latest stands first, then the id decides.
    order.sort_by_key(|one| std::cmp::Reverse((one.time_ms, one.is_latest, one.id)));
    let mut decisions: Vec<Decision> = order.iter().map(|candidate| Decision { id: candidate.id, reasons: Vec::new() }).collect();
    let since = policy.within.as_ref().zip(order.first()).map(|(span, newest)| calendar.before(newest.time_ms, span));
    for (candidate, decision) in order.iter().zip(&mut decisions) {
        let rules = [
            (candidate.is_latest, Reason::Latest),
            (!candidate.tags.is_empty(), Reason::Tagged),
            (candidate.is_base, Reason::Base),
            (policy.tags.iter().any(|tag| candidate.born_tags.contains(tag) || candidate.tags.contains(tag)), Reason::KeepTag),
            (since.is_some_and(|since| candidate.time_ms >= since), Reason::Within),
        ];
        decision.reasons.extend(rules.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason));
    }
    type Bucket = fn(&LocalTime) -> [i32; 4];
    let rules: [(u32, Reason, Option<Bucket>); 6] = [
        (policy.last, Reason::Last, None),
        (policy.hourly, Reason::Hourly, Some(|at| [at.year, at.month.into(), at.day.into(), at.hour.into()])),
        (policy.daily, Reason::Daily, Some(|at| [at.year, at.month.into(), at.day.into(), 0])),
        (policy.weekly, Reason::Weekly, Some(|at| [at.week_year, at.week.into(), 0, 0])),
        (policy.monthly, Reason::Monthly, Some(|at| [at.year, at.month.into(), 0, 0])),
        (policy.yearly, Reason::Yearly, Some(|at| [at.year, 0, 0, 0])),
    ];
    for (count, reason, bucket) in rules {
        let mut left = count;
        let mut filled = None;
        for (candidate, decision) in order.iter().zip(&mut decisions) {
            if left == 0 {
                break;
            }
            let own = bucket.map(|bucket| bucket(&calendar.local(candidate.time_ms)));
            if own.is_some() && own == filled {
                continue;
            }
            filled = own;
            left -= 1;
            decision.reasons.push(reason);
        }
    }
    for decision in &mut decisions {
        decision.reasons.sort_unstable();
    }
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// UTC with months of 30 days and years of 360, so that a test can count.
    struct Round;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    impl Calendar for Round {
        fn local(&self, time_ms: i64) -> LocalTime {
            let days = time_ms.div_euclid(DAY);
            let (year, week) = (days.div_euclid(360), days.div_euclid(7));
            LocalTime {
                year: year as i32,
                month: (days.rem_euclid(360) / 30 + 1) as u8,
                day: (days.rem_euclid(30) + 1) as u8,
                hour: (time_ms.rem_euclid(DAY) / HOUR) as u8,
                week_year: week.div_euclid(50) as i32,
                week: (week.rem_euclid(50) + 1) as u8,
            }
        }

        fn before(&self, time_ms: i64, span: &Within) -> i64 {
            let days = i64::from(span.years) * 360 + i64::from(span.months) * 30 + i64::from(span.days);
            time_ms - days * DAY - i64::from(span.hours) * HOUR
        }
    }

    fn candidates(times: &[i64]) -> Vec<Candidate> {
        let latest = times.iter().max().and_then(|newest| times.iter().position(|time| time == newest));
        times
            .iter()
            .enumerate()
            .map(|(number, time_ms)| Candidate {
                id: EntryId::of(&number.to_le_bytes()),
                time_ms: *time_ms,
                born_tags: Vec::new(),
                tags: Vec::new(),
                is_latest: Some(number) == latest,
                is_base: false,
            })
            .collect()
    }

    /// The numbers of those that are kept.
    fn kept(candidates: &[Candidate], policy: &KeepPolicy) -> Vec<usize> {
        let decisions = decide(candidates, policy, &Round);
        let is_kept = |candidate: &Candidate| decisions.iter().any(|decision| decision.id == candidate.id && decision.is_kept());
        candidates.iter().enumerate().filter(|(_, candidate)| is_kept(candidate)).map(|(number, _)| number).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_time() {
        // Two an hour, in two hours of each of three days.
        let times: Vec<i64> = (0..3).flat_map(|day| [0, 10, 60, 70].map(|minute| 1000 * DAY + day * DAY + minute * 60_000)).collect();
        let all = candidates(&times);
        let policy = KeepPolicy::default();
        assert_eq!(kept(&all, &policy), [11], "the latest, whatever the policy");
        assert_eq!(kept(&all, &KeepPolicy { last: 3, ..policy.clone() }), [9, 10, 11]);
        assert_eq!(kept(&all, &KeepPolicy { hourly: 3, ..policy.clone() }), [7, 9, 11]);
        assert_eq!(kept(&all, &KeepPolicy { daily: 2, ..policy.clone() }), [7, 11]);
        assert_eq!(kept(&all, &KeepPolicy { monthly: 5, ..policy.clone() }), [11]);
        let within = Some(Within { days: 1, ..Within::default() });
        assert_eq!(kept(&all, &KeepPolicy { within, ..policy }), [7, 8, 9, 10, 11], "to the minute");
    }

    #[test]
    fn tags_and_bases_are_kept() {
        let mut all = candidates(&[0, DAY, 2 * DAY, 3 * DAY]);
        all[0].born_tags = vec!["nightly".to_owned()];
        all[1].tags = vec!["stable".to_owned()];
        all[2].is_base = true;
        assert_eq!(kept(&all, &KeepPolicy::default()), [1, 2, 3]);
        assert_eq!(kept(&all, &KeepPolicy { tags: vec!["nightly".to_owned()], ..KeepPolicy::default() }), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn more_is_never_less_and_no_rule_keeps_more_than_it_says(
            times in proptest::collection::vec(-400 * DAY..400 * DAY, 1..40),
            counts in [0_u32..8, 0..8, 0..8, 0..8, 0..8, 0..8],
        ) {
            let all = candidates(&times);
            let policy = |c: [u32; 6]| KeepPolicy {
                last: c[0], hourly: c[1], daily: c[2], weekly: c[3], monthly: c[4], yearly: c[5], ..KeepPolicy::default()
            };
            let decisions = decide(&all, &policy(counts), &Round);
            prop_assert_eq!(decisions.len(), all.len());
            let mut turned = all.clone();
            turned.reverse();
            prop_assert_eq!(&decide(&turned, &policy(counts), &Round), &decisions, "the order does not matter");
            let rules = [Reason::Last, Reason::Hourly, Reason::Daily, Reason::Weekly, Reason::Monthly, Reason::Yearly];
            for (reason, count) in rules.iter().zip(counts) {
                let with = decisions.iter().filter(|decision| decision.reasons.contains(reason)).count();
                prop_assert!(with <= count as usize);
                prop_assert!(count == 0 || with > 0);
            }
            let few = kept(&all, &policy(counts));
            prop_assert!(few.iter().any(|number| all[*number].is_latest));
            for rule in 0..6 {
                let mut more = counts;
                more[rule] += 1;
                let many = kept(&all, &policy(more));
                prop_assert!(few.iter().all(|number| many.contains(number)), "rule {}", rule);
            }
            // What is forgotten once stays so when the rest is looked at again.
            let rest: Vec<Candidate> = few.iter().map(|number| all[*number].clone()).collect();
            prop_assert_eq!(kept(&rest, &policy(counts)).len(), rest.len());
        }
    }
}
