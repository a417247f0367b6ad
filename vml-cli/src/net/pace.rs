//! How fast: a limit that is kept, and a speed below which somebody is left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of so long may go at once after a pause.
const BURST: Duration = Duration::from_millis(200);

/// A bound on the bytes of a second, or none; shared by everything that goes over one line.
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
        end.saturating_duration_since(now)
    }
}

/// Sees whether enough comes in each window of time.
pub struct Window {
    len: Duration,
    least: u64,
    started: Instant,
    bytes: u64,
}

impl Window {
    /// At least `least` bytes in each `len`.
    pub fn new(len: Duration, least: u64) -> Self {
        Self { len, least, started: Instant::now(), bytes: 0 }
    }

    /// So many bytes came; whether that is enough so far.
    pub fn took(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        if self.started.elapsed() < self.len {
            return true;
        }
        let enough = self.bytes >= self.least;
        (self.started, self.bytes) = (Instant::now(), 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept() {
        let (started, limit) = (Instant::now(), Limit::new(Some(1_000_000)));
        (0..20).for_each(|_| limit.wait_for(10_000));
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(199) && took < Duration::from_secs(5), "{took:?}");
        let (started, limit) = (Instant::now(), Limit::new(None));
        (0..1000).for_each(|_| limit.wait_for(u64::MAX / 4000));
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_window_sees_who_is_slow() {
        let mut window = Window::new(Duration::from_millis(5), 100);
        assert!(window.took(1), "the window is not over");
        std::thread::sleep(Duration::from_millis(6));
        assert!(!window.took(98));
        std::thread::sleep(Duration::from_millis(6));
        assert!(window.took(100));
    }

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
