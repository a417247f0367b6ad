//! Several connections to one export, so that threads read side by side.

use super::disk::NbdOptions;
use super::link::{NbdAddress, Socket};
use super::session::{Export, Session, Wanted};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vml_core::{Error, ErrorKind, Result};

/// So long a further connection may take: a server that accepts no more clients does not answer, and fewer do as well.
const FURTHER_LIMIT: Duration = Duration::from_secs(5);

/// The connections to an export; the first is there from the beginning, the others when they are needed.
pub(super) struct Pool {
    address: NbdAddress,
    export_name: String,
    contexts: Vec<String>,
    found: Vec<bool>,
    limit: Duration,
    export: Export,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    idle: Vec<Session<Socket>>,
    count: usize,
    count_max: usize,
    /// What was wrong with a connection that was lost; nothing is asked any more.
    lost: Option<(ErrorKind, String)>,
}

impl Pool {
    /// Connects once.
    pub(super) fn open(address: &NbdAddress, options: &NbdOptions, contexts: Vec<String>) -> Result<Self> {
        let first = connect(address, &options.export, &contexts, options.limit)?;
        let (export, found) = (first.export(), first.contexts().collect());
        let count_max = if export.is_shared { options.connections.max(1) } else { 1 };
        Ok(Self {
            address: address.clone(),
            export_name: options.export.clone(),
            contexts,
            found,
            limit: options.limit,
            export,
            state: Mutex::new(State { idle: vec![first], count: 1, count_max, lost: None }),
            freed: Condvar::new(),
        })
    }

    /// Which of the contexts there are.
    pub(super) fn found(&self) -> &[bool] {
        &self.found
    }

    pub(super) fn export(&self) -> Export {
        self.export
    }

    /// Opens all connections that there may be; fewer are no error.
    pub(super) fn open_all(&self) {
        let mut state = self.state();
        while state.count < state.count_max {
            match self.connect_further() {
                Some(session) => {
                    state.idle.push(session);
                    state.count += 1;
                }
                None => state.count_max = state.count,
            }
        }
    }

    /// Works with a connection that nobody else uses.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Session<Socket>) -> Result<T>) -> Result<T> {
        let mut session = self.take()?;
        let result = work(&mut session);
        let mut state = self.state();
        match &result {
            Err(error) if session.is_lost() => {
                state.lost.get_or_insert((error.kind(), error.to_string()));
                state.idle.clear();
                self.freed.notify_all();
            }
            _ => {
                state.idle.push(session);
                self.freed.notify_one();
            }
        }
        result
    }

    fn take(&self) -> Result<Session<Socket>> {
        let mut state = self.state();
        loop {
            if let Some((kind, message)) = &state.lost {
                return Err(Error::new(*kind, message.clone()).context("the connection to the NBD server was given up"));
            }
            if let Some(session) = state.idle.pop() {
                return Ok(session);
            }
            if state.count < state.count_max {
                // While one connects, others may finish; the count is taken before.
                state.count += 1;
                drop(state);
                let session = self.connect_further();
                state = self.state();
                if let Some(session) = session {
                    return Ok(session);
                }
                state.count -= 1;
                state.count_max = state.count;
                continue;
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn connect_further(&self) -> Option<Session<Socket>> {
        let mut session = connect(&self.address, &self.export_name, &self.contexts, self.limit.min(FURTHER_LIMIT)).ok()?;
        session.set_limit(self.limit);
        (session.export() == self.export && session.contexts().eq(self.found.iter().copied())).then_some(session)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(address: &NbdAddress, export: &str, contexts: &[String], limit: Duration) -> Result<Session<Socket>> {
    let link = Socket::connect(address, limit)?;
    Session::open(link, &Wanted { export, contexts }, limit)
        .map_err(|error| error.context(format!("cannot open what the NBD server at {address} exports")))
}
