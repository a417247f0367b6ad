//! Who failed a moment ago: a way that failed is passed over for a while, longer each time, and then tried again.

use super::proxies::{Hop, ProxyList};
use std::collections::HashMap;
use std::time::Duration;

/// How long a way is passed over after its first failure; each further one doubles that.
const FIRST_REST: Duration = Duration::from_secs(15);
/// The longest that it is; CVMFS goes back to its first proxies after five minutes too.
const LONGEST_REST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Rest {
    failures: u32,
    until: Duration,
}

/// What is known of ways. Time is told as what has passed since some moment, the same one always.
#[derive(Debug, Default)]
pub struct Health {
    resting: HashMap<Hop, Rest>,
}

impl Health {
    /// A way failed at `now`.
    pub fn failed(&mut self, hop: &Hop, now: Duration) {
        let failures = self.resting.get(hop).map_or(0, |rest| rest.failures).saturating_add(1);
        let rest = FIRST_REST.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_REST);
        self.resting.insert(hop.clone(), Rest { failures, until: now + rest });
    }

    /// It led somewhere.
    pub fn worked(&mut self, hop: &Hop) {
        self.resting.remove(hop);
    }

    /// Whether it is passed over at `now`.
    pub fn is_resting(&self, hop: &Hop, now: Duration) -> bool {
        self.resting.get(hop).is_some_and(|rest| rest.until > now)
    }

    /// The ways of a list in the order in which to try them: group by group, each turned by `turn` so that many who ask spread over it, without those that rest.
    /// Where all rest, all of them, first who rested longest: better one that may be back than none.
    pub fn order(&self, list: &ProxyList, now: Duration, turn: usize) -> Vec<Hop> {
        let all: Vec<&Hop> = list
            .groups()
            .iter()
            .flat_map(|group| {
                let start = turn % group.len().max(1);
                group[start..].iter().chain(&group[..start])
            })
            .collect();
        let mut order: Vec<Hop> = Vec::new();
        for hop in all {
            if !order.contains(hop) {
                order.push(hop.clone());
            }
        }
        if order.iter().any(|hop| !self.is_resting(hop, now)) {
            order.retain(|hop| !self.is_resting(hop, now));
        } else {
            order.sort_by_key(|hop| self.resting.get(hop).map(|rest| rest.until));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn list(text: &str) -> ProxyList {
        ProxyList::parse(text).unwrap()
    }

    fn names(hops: &[Hop]) -> Vec<String> {
        hops.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn groups_are_in_order_and_turned_within() {
        let health = Health::default();
        let list = list("http://a:1|http://b:2|http://c:3;http://d:4;DIRECT");
        let at = |turn| names(&health.order(&list, Duration::ZERO, turn));
        assert_eq!(at(0), ["http://a:1", "http://b:2", "http://c:3", "http://d:4", "DIRECT"]);
        assert_eq!(at(1), ["http://b:2", "http://c:3", "http://a:1", "http://d:4", "DIRECT"]);
        assert_eq!(at(5), ["http://c:3", "http://a:1", "http://b:2", "http://d:4", "DIRECT"]);
    }

    #[test]
    fn who_failed_rests_longer_each_time_and_comes_back() {
        let mut health = Health::default();
        let list = list("http://a:1;DIRECT");
        let a = list.groups()[0][0].clone();
        let seconds = Duration::from_secs;
        health.failed(&a, seconds(100));
        assert_eq!(names(&health.order(&list, seconds(114), 0)), ["DIRECT"]);
        assert_eq!(names(&health.order(&list, seconds(115), 0)), ["http://a:1", "DIRECT"]);
        health.failed(&a, seconds(115));
        assert!(health.is_resting(&a, seconds(144)) && !health.is_resting(&a, seconds(145)));
        for _ in 0..40 {
            health.failed(&a, seconds(200));
        }
        assert!(health.is_resting(&a, seconds(499)) && !health.is_resting(&a, seconds(500)), "never longer than five minutes");
        health.worked(&a);
        assert!(!health.is_resting(&a, seconds(200)));
    }

    #[test]
    fn where_all_rest_the_first_to_come_back_is_tried_first() {
        let mut health = Health::default();
        let list = list("http://a:1;http://b:2");
        health.failed(&list.groups()[0][0], Duration::from_secs(9));
        health.failed(&list.groups()[1][0], Duration::from_secs(5));
        assert_eq!(names(&health.order(&list, Duration::from_secs(10), 0)), ["http://b:2", "http://a:1"]);
    }

    proptest! {
        #[test]
        fn an_order_has_each_living_way_once(
            groups in prop::collection::vec(prop::collection::vec(0_u16..12, 1..4), 1..5),
            failed in prop::collection::vec(0_u16..12, 0..8),
            turn in any::<usize>(),
        ) {
            let hop = |n: &u16| if *n == 0 { "DIRECT".to_owned() } else { format!("http://p{n}:3128") };
            let text: Vec<String> = groups.iter().map(|group| group.iter().map(hop).collect::<Vec<_>>().join("|")).collect();
            let list = list(&text.join(";"));
            let mut health = Health::default();
            for n in &failed {
                health.failed(&ProxyList::parse(&hop(n)).unwrap().groups()[0][0], Duration::ZERO);
            }
            let order = health.order(&list, Duration::from_secs(1), turn);
            let all: HashSet<Hop> = list.groups().iter().flatten().cloned().collect();
            let got: HashSet<Hop> = order.iter().cloned().collect();
            prop_assert_eq!(got.len(), order.len(), "nobody twice");
            let living: HashSet<Hop> = all.iter().filter(|hop| !health.is_resting(hop, Duration::from_secs(1))).cloned().collect();
            prop_assert_eq!(&got, if living.is_empty() { &all } else { &living });
            // An earlier group's come first.
            let group_of = |hop: &Hop| list.groups().iter().position(|group| group.contains(hop)).unwrap();
            if !living.is_empty() {
                prop_assert!(order.windows(2).all(|pair| group_of(&pair[0]) <= group_of(&pair[1])));
            }
        }
    }
}
