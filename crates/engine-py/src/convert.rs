//! Text and header fields between the two worlds.
//!
//! On the wire there are bytes, in Python there is text: UTF-8, with bytes that are not UTF-8 as surrogate escapes, so
//! that what a plugin only passes on comes out unchanged.

use std::borrow::Cow;

use headgate_engine::http::headers::HeaderBlock;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

/// Bytes of the wire as Python text.
pub fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => PyBytes::new(py, bytes)
            .call_method1("decode", ("utf-8", "surrogateescape"))?
            .cast_into::<PyString>()
            .map_err(PyErr::from),
    }
}

/// Python text as bytes of the wire.
pub fn wire(value: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    match value.to_cow() {
        Ok(text) => Ok(text.into_owned().into_bytes()),
        Err(_) => value.call_method1("encode", ("utf-8", "surrogateescape"))?.extract(),
    }
}

/// Text as a field value, see `escaped`.
pub fn field_value(value: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    wire(value).map(escaped)
}

/// Bytes as a field value: what would end the field or the line is percent-encoded, so no plugin can split a message.
pub fn escaped(bytes: Vec<u8>) -> Vec<u8> {
    let is_control = |byte: &u8| *byte != b'\t' && (*byte < 32 || *byte == 127);
    if !bytes.iter().any(is_control) {
        return bytes;
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if is_control(&byte) {
            escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            escaped.push(byte);
        }
    }
    escaped
}

/// Text as a field name.
///
/// # Errors
/// ValueError for what is no token (RFC 9110, section 5.6.2).
pub fn field_name<'a>(value: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, str>> {
    let name = value.to_cow()?;
    if !is_field_name(&name) {
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "invalid header name {name:?}"
        )));
    }
    Ok(name)
}

/// Tell whether a text is a token (RFC 9110, section 5.6.2).
pub fn is_field_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// All fields of a block as (name, value) pairs.
pub fn pairs<'py>(py: Python<'py>, block: &HeaderBlock) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (_, name, value) in block.iter() {
        list.append((text(py, name)?, text(py, value)?))?;
    }
    Ok(list)
}

/// The first value of a field.
pub fn first<'py>(py: Python<'py>, block: &HeaderBlock, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
    block.get(name.as_bytes()).map(|value| text(py, value)).transpose()
}

/// Texts as field values.
pub fn values_of(values: &Bound<'_, PyList>) -> PyResult<Vec<Vec<u8>>> {
    values
        .iter()
        .map(|value| field_value(value.cast::<PyString>()?))
        .collect()
}

/// (name, value) pairs as fields of an answer of our own.
pub fn header_list(headers: &Bound<'_, PyList>) -> PyResult<Vec<(String, String)>> {
    let mut list = Vec::with_capacity(headers.len());
    for pair in headers.iter() {
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = pair.extract()?;
        let value = String::from_utf8_lossy(&field_value(&value)?).into_owned();
        list.push((field_name(&name)?.into_owned(), value));
    }
    Ok(list)
}

/// A response name, checked.
pub fn response_name(name: &Bound<'_, PyString>) -> PyResult<String> {
    Ok(with_dashes(&field_name(name)?).into_owned())
}

/// Response names go out with dashes (PDK reference 8).
pub fn with_dashes(name: &str) -> Cow<'_, str> {
    if name.contains('_') {
        name.replace('_', "-").into()
    } else {
        name.into()
    }
}
