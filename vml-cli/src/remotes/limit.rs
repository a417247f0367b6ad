//! A bound on the bytes of a second, shared by everything that goes over one line.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of so long may go at once after a pause.
const BURST: Duration = Duration::from_millis(200);
/// Longest pause in one piece.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A bound, or none.
pub struct Limit {
    bytes_a_second: Option<u64>,
    /// When what was sent so far has had its time.
    due: Mutex<Option<Instant>>,
}

impl Limit {
    /// At most so many bytes a second; `None` for as fast as it goes.
    pub fn new(bytes_a_second: Option<u64>) -> Self {
        Self { bytes_a_second: bytes_a_second.filter(|rate| *rate > 0), due: Mutex::default() }
    }

    /// Waits as long as these bytes take.
    pub fn wait_for(&self, bytes: u64) {
        let pause = self.pause_for(bytes, Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    fn pause_for(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_a_second else { return Duration::ZERO };
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = due.map_or(now, |due| due.max(now.checked_sub(BURST).unwrap_or(now)));
        let end = begun + takes;
        *due = Some(end);
        end.saturating_duration_since(now).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_send_adds_up_and_a_pause_earns_little() {
        let limit = Limit::new(Some(1000));
        let now = Instant::now();
        assert_eq!(limit.pause_for(500, now), Duration::from_millis(500));
        assert_eq!(limit.pause_for(500, now), Duration::from_secs(1));
        let later = now + Duration::from_secs(100);
        assert_eq!(limit.pause_for(100, later), Duration::ZERO);
        assert_eq!(limit.pause_for(300, later), Duration::from_millis(200));
        assert_eq!(Limit::new(None).pause_for(1 << 40, now), Duration::ZERO);
    }
}
