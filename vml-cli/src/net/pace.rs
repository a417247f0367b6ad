//! How fast: a limit that is kept, and a speed below which somebody is left.

use std::time::{Duration, Instant};

/// Keeps to so many bytes a second.
pub struct Pace {
    limit: Option<u64>,
    started: Instant,
    bytes: u64,
}

impl Pace {
    /// Without a limit it never waits.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.filter(|limit| *limit > 0), started: Instant::now(), bytes: 0 }
    }

    /// So many bytes went: waits until they may have.
    pub fn took(&mut self, bytes: u64) {
        let Some(limit) = self.limit else { return };
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / limit as f64);
        let elapsed = self.started.elapsed();
        if elapsed < due {
            std::thread::sleep(due - elapsed);
        } else if elapsed > due + Duration::from_secs(1) {
            // Time that was lost is not made up for by a burst.
            (self.started, self.bytes) = (Instant::now(), 0);
        }
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
        let (started, mut pace) = (Instant::now(), Pace::new(Some(1_000_000)));
        (0..20).for_each(|_| pace.took(10_000));
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(199) && took < Duration::from_secs(5), "{took:?}");
        let (started, mut pace) = (Instant::now(), Pace::new(None));
        (0..1000).for_each(|_| pace.took(u64::MAX / 4000));
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
}
