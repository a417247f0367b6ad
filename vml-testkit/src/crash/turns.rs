//! Several processes side by side, one operation of one of them at a time, in an order that a seed decides.

use crate::noise::Rng;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Whose turn it is. Drawn anew before each operation, by who has it.
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    turn: usize,
    running: Vec<bool>,
    rng: Rng,
}

impl State {
    fn draw(&mut self) {
        let running: Vec<usize> = (0..self.running.len()).filter(|actor| self.running[*actor]).collect();
        if running.is_empty() {
            return;
        }
        // Often the same one goes on for a while, so that whole phases fall into one step of another.
        if !self.running[self.turn] || self.rng.below(4) == 0 {
            self.turn = running[self.rng.below(running.len())];
        }
    }
}

impl Turns {
    /// Turns of so many.
    pub fn new(actors: usize, rng: Rng) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { turn: 0, running: vec![true; actors], rng }), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is the actor's turn.
    pub fn wait(&self, actor: usize) {
        let mut state = self.state();
        if state.turn == actor {
            state.draw();
            self.changed.notify_all();
        }
        while state.turn != actor {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, actor: usize) {
        let mut state = self.state();
        state.running[actor] = false;
        state.draw();
        self.changed.notify_all();
    }
}

/// Leaves when it is dropped.
struct Leaving(Arc<Turns>, usize);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// Runs all of them to their ends, each on a thread, taking turns. What they do waits for its turn before each operation.
pub fn side_by_side<'a>(turns: &Arc<Turns>, acts: Vec<Box<dyn FnOnce() + Send + 'a>>) {
    std::thread::scope(|scope| {
        for (actor, act) in acts.into_iter().enumerate() {
            scope.spawn(move || {
                // Also when it panics, or the others would wait for ever.
                let _leaving = Leaving(Arc::clone(turns), actor);
                act();
            });
        }
    });
}
