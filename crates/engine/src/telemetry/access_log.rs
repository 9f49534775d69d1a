//! The access log: one line per request in combined format, with the request id behind it.
//!
//! Lines are collected in memory and written at most `FLUSH_INTERVAL` later or when the buffer is full, so a request costs
//! formatting and a copy. The file is opened for appending and opened anew on demand (log rotation).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::exchange::Exchange;
use crate::http::headers::Known;
use crate::stream::session::StreamProtocol;

/// How long a line may wait in memory.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes collected before a write.
const BUFFER_BYTES: usize = 64 * 1024;

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    buffer: Vec<u8>,
    has_failed: bool,
}

impl AccessLog {
    /// Open the file for appending.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let state = State {
            file: open(path)?,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            has_failed: false,
        };
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(state),
        })
    }

    /// Add a line for a finished request.
    pub fn write(&self, exchange: &Exchange) {
        self.write_with(|buffer| line(buffer, exchange));
    }

    /// Add a line for a finished stream.
    pub fn write_stream(&self, exchange: &Exchange) {
        self.write_with(|buffer| stream_line(buffer, exchange));
    }

    fn write_with(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        line(&mut state.buffer);
        if state.buffer.len() >= BUFFER_BYTES {
            state.flush(&self.path);
        }
    }

    /// Write what is collected.
    pub fn flush(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush(&self.path);
    }

    /// Write what is collected and open the file anew.
    pub fn reopen(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flush(&self.path);
        match open(&self.path) {
            Ok(file) => state.file = file,
            Err(error) => tracing::error!("access log {}: {error}", self.path.display()),
        }
    }
}

impl State {
    fn flush(&mut self, path: &Path) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.has_failed = false,
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                tracing::error!("access log {}: {error}; lines are lost", path.display());
            }
            Err(_) => {}
        }
        self.buffer.clear();
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn line(buffer: &mut Vec<u8>, exchange: &Exchange) {
    let headers = &exchange.request.headers;
    let text = |known: Known| headers.known(known).unwrap_or(b"-");
    let (address, _) = exchange.forwarded_client;
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    // Writing to a Vec cannot fail.
    let _ = write!(buffer, "{address} - - [");
    push_time(buffer, seconds);
    let _ = write!(buffer, "] \"{} ", exchange.sent_method());
    push_escaped(buffer, exchange.request.target());
    let version = exchange.request.version.number();
    let _ = write!(
        buffer,
        " HTTP/{version:.1}\" {} {} \"",
        exchange.response.status, exchange.response_bytes
    );
    push_escaped(buffer, text(Known::Referer));
    buffer.extend_from_slice(b"\" \"");
    push_escaped(buffer, text(Known::UserAgent));
    let _ = writeln!(buffer, "\" request_id: \"{}\"", exchange.id_text());
}

/// `basic`: address, time, protocol, status, bytes sent and received, seconds (configuration reference, section 2).
fn stream_line(buffer: &mut Vec<u8>, exchange: &Exchange) {
    let Some(session) = &exchange.session else {
        return;
    };
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let protocol = match session.protocol {
        StreamProtocol::Udp => "UDP",
        _ => "TCP",
    };
    let (_, _, took_ms, _) = exchange.latencies_ms();
    // Writing to a Vec cannot fail.
    let _ = write!(buffer, "{} [", exchange.forwarded_client.0);
    push_time(buffer, seconds);
    let _ = writeln!(
        buffer,
        "] {protocol} {} {} {} {}.{:03}",
        session.status,
        exchange.response_bytes,
        exchange.request_bytes,
        took_ms / 1000,
        took_ms % 1000
    );
}

/// Clients choose these bytes: what could end the field or the line is written as `\xXX`.
fn push_escaped(buffer: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'"' | b'\\' | 0..=31 | 127..=255 => {
                let _ = write!(buffer, "\\x{byte:02X}");
            }
            other => buffer.push(*other),
        }
    }
}

/// `21/Nov/2026:11:05:02 +0000`
fn push_time(buffer: &mut Vec<u8>, seconds: u64) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (year, month, day) = civil_date(seconds / 86_400);
    let rest = seconds % 86_400;
    let _ = write!(
        buffer,
        "{day:02}/{}/{year}:{:02}:{:02}:{:02} +0000",
        MONTHS.get(month as usize - 1).unwrap_or(&"Jan"),
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
}

/// (year, month, day) of a day number since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(19_782), (2024, 2, 29));
        assert_eq!(civil_date(20_778), (2026, 11, 21));
    }

    #[test]
    fn what_a_client_sends_cannot_forge_a_line() {
        let mut buffer = Vec::new();
        push_escaped(&mut buffer, b"a\"\n\\b");
        assert_eq!(buffer, b"a\\x22\\x0A\\x5Cb");
    }
}
