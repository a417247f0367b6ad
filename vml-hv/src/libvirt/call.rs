//! Calls of libvirt with a time limit.
//!
//! A call of libvirt's returns when its daemon answers, and not before. So each runs in a thread and on a connection of its own; one that
//! does not answer in time is left to itself. Nothing is kept between calls: a daemon that was started anew is found again.

use super::uri::DomainUri;
use super::{error, raw};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;
use virt::connect::Connect;
use virt::domain::Domain;
use vml_core::{Error, ErrorKind, Result};

/// Runs `call` on the domain.
///
/// # Errors
/// `NotFound` when it is not there, `Interrupted` when libvirt does not answer within `limit`; else what `call` says.
pub(super) fn on_domain<T: Send + 'static>(
    uri: &DomainUri,
    limit: Duration,
    call: impl FnOnce(&Domain) -> Result<T> + Send + 'static,
) -> Result<T> {
    let name = uri.domain.clone();
    on_connection(uri, limit, move |connection| {
        let found = Domain::lookup_by_name(connection, &name).or_else(|first| {
            // It may be a UUID.
            Domain::lookup_by_uuid_string(connection, &name).map_err(|_| first)
        });
        call(&found.map_err(|cause| error::from_virt(&cause).context(format!("cannot use the machine {name:?}")))?)
    })
}

/// Runs `call` on a connection.
pub(super) fn on_connection<T: Send + 'static>(
    uri: &DomainUri,
    limit: Duration,
    call: impl FnOnce(&Connect) -> Result<T> + Send + 'static,
) -> Result<T> {
    raw::quiet();
    let (sender, receiver) = sync_channel(1);
    let address = uri.uri.clone();
    let work = move || {
        let result = (|| {
            let mut connection = Connect::open(Some(&address))
                .map_err(|cause| error::from_virt(&cause).context(format!("cannot connect to libvirt at {address}")))?;
            let result = call(&connection);
            _ = connection.close();
            result
        })();
        // Nobody may wait any more.
        _ = sender.send(result);
    };
    thread::Builder::new()
        .name("libvirt".to_owned())
        .spawn(work)
        .map_err(|error| Error::new(ErrorKind::Io, "cannot start a thread").because(error))?;
    receiver.recv_timeout(limit).unwrap_or_else(|error| {
        let message = match error {
            RecvTimeoutError::Timeout => format!("libvirt at {} does not answer within {} s", uri.uri, limit.as_secs()),
            RecvTimeoutError::Disconnected => format!("the call of libvirt at {} ended without an answer", uri.uri),
        };
        Err(Error::new(ErrorKind::Interrupted, message))
    })
}
