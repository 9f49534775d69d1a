//! What Lua code calls of a request by itself: C functions for LuaJIT's foreign-function interface.
//!
//! The most frequent functions of the PDK take this way, without Python in between: no thread state to take, no texts
//! to convert, no frames. Each knows the common case only. Whatever is unusual (another phase, an odd name, a large
//! value) is REFUSED without a trace, and the caller goes the way through Python, where all rules and texts are.
//!
//! A request is known by a handle, a number that Lua code may keep for as long as it likes: the registry gives each
//! number once, and a request that is over has none. A handle holds nothing alive.

use std::borrow::Cow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use headgate_engine::exchange::Exchange;
use headgate_engine::router::path::split_target;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{escaped, is_field_name, with_dashes};
use crate::exchange::{lock, Slot};
use crate::headers::{add_request_header, sent_by_upstream, set_request_header};

/// There is no such value: nil.
const ABSENT: i32 = -1;
/// Ask through Python.
const REFUSED: i32 = -2;

/// Which of the registry's places a handle means; above it the generation of the place.
const PLACE_BITS: u32 = 20;
/// Generations of a place before they begin anew: handles stay below 2^52, exact as the doubles of Lua.
const MOST_GENERATIONS: u32 = u32::MAX;

/// The exchanges that Lua code has asked about.
struct Registry {
    places: Vec<Place>,
    free: Vec<usize>,
    /// Handles of requests that are over; Lua code drops what it keeps for them.
    released: Vec<u64>,
}

struct Place {
    generation: u32,
    slot: Option<Arc<Mutex<Slot>>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    places: Vec::new(),
    free: Vec::new(),
    released: Vec::new(),
});

fn handle_of(place: usize, generation: u32) -> u64 {
    u64::from(generation) << PLACE_BITS | place as u64
}

/// Make a handle; None when there are too many.
pub fn register(slot: &Arc<Mutex<Slot>>) -> Option<u64> {
    let mut registry = lock(&REGISTRY);
    let place = match registry.free.pop() {
        Some(place) => place,
        None if registry.places.len() < 1 << PLACE_BITS => {
            registry.places.push(Place {
                generation: 0,
                slot: None,
            });
            registry.places.len() - 1
        }
        None => return None,
    };
    let entry = registry.places.get_mut(place)?;
    entry.generation = entry.generation % MOST_GENERATIONS + 1;
    entry.slot = Some(slot.clone());
    Some(handle_of(place, entry.generation))
}

/// The request is over: nothing is found under its handle any more.
pub fn release(handle: u64) {
    let mut registry = lock(&REGISTRY);
    let place = place_of(handle);
    let slot = registry.places.get_mut(place).and_then(|entry| entry.slot.take());
    registry.free.push(place);
    registry.released.push(handle);
    drop(registry);
    // The last reference may take the exchange with it, and whatever that holds.
    drop(slot);
}

fn place_of(handle: u64) -> usize {
    (handle & ((1 << PLACE_BITS) - 1)) as usize
}

fn find(handle: u64) -> Option<Arc<Mutex<Slot>>> {
    let registry = lock(&REGISTRY);
    let entry = registry.places.get(place_of(handle))?;
    if u64::from(entry.generation) != handle >> PLACE_BITS {
        return None;
    }
    entry.slot.clone()
}

/// Do something with the exchange of a handle while one of the phases in `mask` runs; None refuses.
///
/// Streams are left to Python: their phases have other rules.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "handles are whole numbers below 2^53; what is none is not found"
)]
fn with<R>(handle: f64, mask: u32, read: impl FnOnce(&mut Exchange) -> Option<R>) -> Option<R> {
    let found = catch_unwind(AssertUnwindSafe(|| {
        let slot = find(handle as u64)?;
        let mut slot = lock(&slot);
        let exchange = slot.exchange.as_mut()?;
        if exchange.session.is_some() || exchange.phase.bit() & mask == 0 {
            return None;
        }
        read(exchange)
    }));
    found.ok().flatten()
}

/// Bytes that Lua code lends for the time of a call.
#[expect(
    unsafe_code,
    reason = "the arguments come from foreign code as a pointer and a length"
)]
fn lent<'a>(data: *const u8, size_bytes: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: only `library/headgate/direct.lua` calls these functions. It passes a Lua string and its length; strings
    // are immutable, and one that is an argument is not collected before the call is over. No reference outlives it.
    unsafe { std::slice::from_raw_parts(data, size_bytes) }
}

/// Copy a text out to Lua; one that is longer than the room takes the other way.
#[expect(unsafe_code, reason = "the text leaves through a buffer of foreign code")]
fn copy_out(text: &[u8], buffer: *mut u8, capacity_bytes: usize) -> Option<i32> {
    if text.len() > capacity_bytes || buffer.is_null() {
        return None;
    }
    // SAFETY: only `library/headgate/direct.lua` calls these functions. It passes an array of `capacity_bytes` bytes that
    // it keeps for good and that nobody else writes: one thread at a time runs the machine. The text is ours, so the two
    // do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, text.len()) };
    i32::try_from(text.len()).ok()
}

type Text = fn(&Exchange) -> Cow<'_, [u8]>;
type NamedText = for<'a> fn(&'a Exchange, &[u8]) -> Option<&'a [u8]>;
/// Tells every field, its name as it is spelt.
type Headers = fn(&Exchange, &mut dyn FnMut(&[u8], &[u8]));
type Number = fn(&Exchange) -> Option<u16>;
/// Gets a name that is a token and a value without control characters; false refuses.
type Setter = fn(&mut Exchange, &str, Vec<u8>) -> bool;
type Clearer = fn(&mut Exchange, &str);

/// Functions of the PDK that return a text.
const TEXTS: [(&str, Text); 10] = [
    ("request.get_scheme", |exchange| {
        exchange.connection.scheme().as_bytes().into()
    }),
    ("request.get_host", |exchange| exchange.host().into()),
    ("request.get_method", |exchange| {
        exchange.request.method.as_str().as_bytes().into()
    }),
    ("request.get_raw_path", |exchange| {
        split_target(exchange.request.target()).path.into()
    }),
    ("request.get_path", |exchange| exchange.path.as_slice().into()),
    ("request.get_path_with_query", |exchange| {
        exchange.request.target().into()
    }),
    ("request.get_raw_query", |exchange| {
        exchange.query().unwrap_or_default().into()
    }),
    ("client.get_ip", |exchange| {
        exchange.connection.peer_ip_text.as_bytes().into()
    }),
    ("client.get_forwarded_ip", |exchange| {
        exchange.forwarded_client.0.to_string().into_bytes().into()
    }),
    ("response.get_source", |exchange| exchange.source().as_bytes().into()),
];

/// Functions that return a text for a name, or nothing.
const NAMED_TEXTS: [(&str, NamedText); 3] = [
    ("request.get_header", |exchange, name| {
        exchange.request.headers.get(name)
    }),
    ("response.get_header", |exchange, name| {
        exchange.response.headers.get(name)
    }),
    ("service.response.get_header", |exchange, name| {
        sent_by_upstream(exchange, name)
            .then(|| exchange.response.headers.get(name))
            .flatten()
    }),
];

/// Functions that return all fields of a head.
const HEADERS: [(&str, Headers); 3] = [
    ("request.get_headers", |exchange, tell| {
        exchange
            .request
            .headers
            .iter()
            .for_each(|(_, name, value)| tell(name, value));
    }),
    ("response.get_headers", |exchange, tell| {
        exchange
            .response
            .headers
            .iter()
            .for_each(|(_, name, value)| tell(name, value));
    }),
    ("service.response.get_headers", |exchange, tell| {
        let sent = |name: &[u8]| sent_by_upstream(exchange, name);
        let fields = exchange.response.headers.iter();
        fields
            .filter(|(_, name, _)| sent(name))
            .for_each(|(_, name, value)| tell(name, value));
    }),
];

/// Functions that return a whole number, or nothing.
const NUMBERS: [(&str, Number); 5] = [
    ("request.get_port", |exchange| Some(exchange.connection.local.port())),
    ("client.get_port", |exchange| Some(exchange.connection.peer.port())),
    ("client.get_forwarded_port", |exchange| {
        Some(exchange.forwarded_client.1)
    }),
    ("response.get_status", |exchange| Some(exchange.response.status)),
    ("service.response.get_status", |exchange| {
        exchange.upstream_statuses.last().copied()
    }),
];

/// Functions that take a name and a text.
const SETTERS: [(&str, Setter); 4] = [
    ("service.request.set_header", |exchange, name, value| {
        set_request_header(exchange, name, &[value]);
        true
    }),
    ("service.request.add_header", |exchange, name, value| {
        add_request_header(exchange, name, value);
        true
    }),
    ("response.set_header", |exchange, name, value| {
        let name = with_dashes(name);
        // Python ignores it, with a warning.
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return false;
        }
        exchange.response.headers.set(name.as_bytes(), &[value]);
        true
    }),
    ("response.add_header", |exchange, name, value| {
        exchange.response.headers.add(with_dashes(name).as_bytes(), &value);
        true
    }),
];

/// Functions that take a name.
const CLEARERS: [(&str, Clearer); 2] = [
    ("service.request.clear_header", |exchange, name| {
        exchange.request.headers.remove(name.as_bytes());
    }),
    ("response.clear_header", |exchange, name| {
        exchange.response.headers.remove(name.as_bytes());
    }),
];

extern "C" fn text(handle: f64, mask: u32, which: u32, buffer: *mut u8, capacity_bytes: usize) -> i32 {
    with(handle, mask, |exchange| {
        let (_, read) = TEXTS.get(which as usize)?;
        copy_out(&read(exchange), buffer, capacity_bytes)
    })
    .unwrap_or(REFUSED)
}

extern "C" fn named_text(
    handle: f64,
    mask: u32,
    which: u32,
    name: *const u8,
    name_bytes: usize,
    buffer: *mut u8,
    capacity_bytes: usize,
) -> i32 {
    let name = lent(name, name_bytes);
    with(handle, mask, |exchange| {
        let (_, read) = NAMED_TEXTS.get(which as usize)?;
        if !name.is_ascii() {
            return None;
        }
        match read(exchange, name) {
            Some(value) => copy_out(value, buffer, capacity_bytes),
            None => Some(ABSENT),
        }
    })
    .unwrap_or(REFUSED)
}

/// Write the fields as: length of the name, of the value (two bytes each, the low one first), lower-case name, value.
///
/// More than `most` of them, or more than the room, are refused.
extern "C" fn headers(handle: f64, mask: u32, which: u32, most: u32, buffer: *mut u8, capacity_bytes: usize) -> i32 {
    with(handle, mask, |exchange| {
        let (_, read) = HEADERS.get(which as usize)?;
        let (mut written, mut left, mut is_told_whole) = (Vec::with_capacity(512), most, true);
        read(exchange, &mut |name, value| {
            let lengths = (u16::try_from(name.len()), u16::try_from(value.len()));
            let ((Ok(name_bytes), Ok(value_bytes)), Some(fewer)) = (lengths, left.checked_sub(1)) else {
                is_told_whole = false;
                return;
            };
            left = fewer;
            written.extend_from_slice(&name_bytes.to_le_bytes());
            written.extend_from_slice(&value_bytes.to_le_bytes());
            written.extend(name.iter().map(u8::to_ascii_lowercase));
            written.extend_from_slice(value);
        });
        is_told_whole
            .then(|| copy_out(&written, buffer, capacity_bytes))
            .flatten()
    })
    .unwrap_or(REFUSED)
}

extern "C" fn number(handle: f64, mask: u32, which: u32) -> i32 {
    with(handle, mask, |exchange| {
        let (_, read) = NUMBERS.get(which as usize)?;
        Some(read(exchange).map_or(ABSENT, i32::from))
    })
    .unwrap_or(REFUSED)
}

extern "C" fn set(
    handle: f64,
    mask: u32,
    which: u32,
    name: *const u8,
    name_bytes: usize,
    value: *const u8,
    value_bytes: usize,
) -> i32 {
    let (name, value) = (lent(name, name_bytes), lent(value, value_bytes));
    with(handle, mask, |exchange| {
        let (_, write) = SETTERS.get(which as usize)?;
        write(exchange, token(name)?, escaped(value.to_vec())).then_some(0)
    })
    .unwrap_or(REFUSED)
}

extern "C" fn clear(handle: f64, mask: u32, which: u32, name: *const u8, name_bytes: usize) -> i32 {
    let name = lent(name, name_bytes);
    with(handle, mask, |exchange| {
        let (_, write) = CLEARERS.get(which as usize)?;
        write(exchange, token(name)?);
        Some(0)
    })
    .unwrap_or(REFUSED)
}

fn token(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok().filter(|name| is_field_name(name))
}

/// A handle whose request is over, each told once; 0: there is none.
#[expect(clippy::cast_precision_loss, reason = "handles are below 2^53")]
extern "C" fn next_released() -> f64 {
    lock(&REGISTRY).released.pop().map_or(0.0, |handle| handle as f64)
}

/// The C functions by kind: (address, names of the PDK's functions in the order of their numbers).
///
/// # Errors
/// When Python has no memory left.
pub fn table(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    fn names<T>(list: &[(&'static str, T)]) -> Vec<&'static str> {
        list.iter().map(|(name, _)| *name).collect()
    }
    let kinds = PyDict::new(py);
    kinds.set_item("text", (text as *const () as usize, names(&TEXTS)))?;
    kinds.set_item("named_text", (named_text as *const () as usize, names(&NAMED_TEXTS)))?;
    kinds.set_item("headers", (headers as *const () as usize, names(&HEADERS)))?;
    kinds.set_item("number", (number as *const () as usize, names(&NUMBERS)))?;
    kinds.set_item("set", (set as *const () as usize, names(&SETTERS)))?;
    kinds.set_item("clear", (clear as *const () as usize, names(&CLEARERS)))?;
    kinds.set_item(
        "next_released",
        (next_released as *const () as usize, Vec::<&str>::new()),
    )?;
    Ok(kinds)
}
