//! The engine's log lines, handed to Python's `logging`.
//!
//! One logger, `headgate.engine`. Lines are rare (faults, refusals at debug levels), so each takes the GIL on its own.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const LOGGER: &str = "headgate.engine";

/// Python's effective level of the logger.
static LEVEL: AtomicU32 = AtomicU32::new(20);

/// Send the engine's lines to Python from now on.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let level: u32 = py
        .import("logging")?
        .call_method1("getLogger", (LOGGER,))?
        .call_method0("getEffectiveLevel")?
        .extract()?;
    LEVEL.store(level, Ordering::Relaxed);
    // Already installed when a process builds a second engine.
    let _ = tracing::subscriber::set_global_default(PythonLogging);
    Ok(())
}

struct PythonLogging;

fn python_level(level: Level) -> u32 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

impl Subscriber for PythonLogging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("headgate") || *metadata.level() <= Level::WARN;
        metadata.is_event() && is_ours && python_level(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields);
        let level = python_level(*event.metadata().level());
        Python::attach(|py| {
            let outcome = py
                .import("logging")
                .and_then(|logging| logging.call_method1("getLogger", (LOGGER,)))
                .and_then(|logger| logger.call_method1("log", (level, "%s", text)));
            if let Err(error) = outcome {
                error.write_unraisable(py, None);
            }
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Message first, other fields behind it as `name: value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, ", {}: {value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, ", {}: {value}", field.name());
        }
    }
}
