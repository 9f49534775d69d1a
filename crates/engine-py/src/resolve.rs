//! Name resolution for plugins: the engine's resolver, its records as Python tuples, handed to a callback.

use headgate_engine::upstream::resolve::{Record, RecordKind, ResolveError, Usage};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Address, and what an SRV record says beside it: port (None: it says none), weight and target.
pub type RecordTuple = (String, Option<(Option<u16>, u32, String)>);

/// Hits, stale hits, misses, queries that succeeded, queries that failed.
pub type UsageTuple = (u64, u64, u64, u64, u64);

/// How a name was used, for Python.
pub fn counters(usage: Usage) -> UsageTuple {
    (usage.hits, usage.stale, usage.misses, usage.succeeded, usage.failed)
}

/// The kind of records of a name.
pub fn kind_named(name: &str) -> PyResult<RecordKind> {
    RecordKind::named(name).ok_or_else(|| PyValueError::new_err(format!("no kind of records is called '{name}'")))
}

/// Give a callback the records, or the text of the error; on the engine thread.
pub fn hand_over(callback: &Py<PyAny>, answer: Result<Vec<Record>, ResolveError>) {
    let (records, fault) = match answer {
        Ok(records) => (Some(records.iter().map(tuple_of).collect::<Vec<_>>()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Python::attach(|py| {
        if let Err(error) = callback.call1(py, (records, fault)) {
            // The loop is closed: the worker is ending.
            tracing::debug!("an answer about a name is not taken: {error}");
        }
    });
}

fn tuple_of(record: &Record) -> RecordTuple {
    let service = record.service.as_ref();
    (
        record.address.to_string(),
        service.map(|service| (service.port, service.weight, service.name.clone())),
    )
}
