//! What frame handlers see and say about a WebSocket: the session of an exchange for Python.

use bytes::{Bytes, BytesMut};
use headgate_engine::exchange::Exchange;
use headgate_engine::ws::session::{Farewell, Session};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Payload, kind, status of a close frame.
pub type MessageParts<'py> = (Bound<'py, PyBytes>, &'static str, Option<u16>);

fn session(exchange: &mut Exchange) -> PyResult<&mut Session> {
    exchange
        .websocket
        .as_deref_mut()
        .ok_or_else(|| PyRuntimeError::new_err("the request is no WebSocket"))
}

/// The message in its phase.
pub fn message<'py>(py: Python<'py>, exchange: &mut Exchange) -> PyResult<MessageParts<'py>> {
    let message = session(exchange)?
        .message
        .as_ref()
        .ok_or_else(|| PyRuntimeError::new_err("no message is in its phase"))?;
    Ok((PyBytes::new(py, &message.data), message.kind.name(), message.status))
}

/// Replace the payload, the status, or both.
pub fn set_message(exchange: &mut Exchange, data: Option<&[u8]>, status: Option<u16>) -> PyResult<()> {
    if let Some(message) = session(exchange)?.message.as_mut() {
        if let Some(data) = data {
            message.data = BytesMut::from(data);
        }
        message.status = status.or(message.status);
    }
    Ok(())
}

/// Do not pass the message on.
pub fn drop_message(exchange: &mut Exchange) -> PyResult<()> {
    session(exchange)?.is_dropped = true;
    Ok(())
}

/// End the connection: status and reason for each side.
pub fn close(exchange: &mut Exchange, client: (u16, &[u8]), upstream: (u16, &[u8])) -> PyResult<()> {
    let farewell = |(status, reason): (u16, &[u8])| Farewell {
        status,
        reason: Bytes::copy_from_slice(reason),
    };
    session(exchange)?.farewells = Some((farewell(client), farewell(upstream)));
    Ok(())
}

/// Set the largest message of a side; 0 is the node's default.
pub fn set_limit(exchange: &mut Exchange, side: &str, size_bytes: usize) -> PyResult<()> {
    let defaults = exchange.live.settings.limits;
    let session = session(exchange)?;
    let chosen = |default: usize| if size_bytes == 0 { default } else { size_bytes };
    match side {
        "client" => session.client_limit_bytes = chosen(defaults.websocket_client_payload_bytes),
        "upstream" => session.upstream_limit_bytes = chosen(defaults.websocket_upstream_payload_bytes),
        other => return Err(PyValueError::new_err(format!("unknown side: {other}"))),
    }
    Ok(())
}
