//! Header fields of an exchange, as Python and Lua change them alike.

use headgate_engine::exchange::Exchange;

/// Replace a request header; `Host` is also the upstream's name.
pub fn set_request_header(exchange: &mut Exchange, name: &str, values: &[Vec<u8>]) {
    if name.eq_ignore_ascii_case("host") {
        exchange.overrides.host = values.last().cloned();
    }
    exchange.request.headers.set(name.as_bytes(), values);
}

/// Add a request header; there is one `Host` only.
pub fn add_request_header(exchange: &mut Exchange, name: &str, value: Vec<u8>) {
    if name.eq_ignore_ascii_case("host") {
        set_request_header(exchange, "host", &[value]);
    } else {
        exchange.request.headers.add(name.as_bytes(), &value);
    }
}

/// Tell whether the upstream sent a header of this name.
pub fn sent_by_upstream(exchange: &Exchange, name: &[u8]) -> bool {
    exchange
        .upstream_names
        .iter()
        .any(|sent| headgate_engine::http::headers::names_equal(sent, name))
}
