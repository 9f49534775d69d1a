//! What a handshake agreed on, in the names that logs and plugins know: those of OpenSSL.

use rustls::{CommonState, ProtocolVersion};

/// The protocol version as variables and log records show it.
#[must_use]
pub fn version_name(session: &CommonState) -> &'static str {
    match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

/// The cipher suite as OpenSSL names it; empty before the handshake has ended.
#[must_use]
pub fn cipher_name(session: &CommonState) -> String {
    session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .map(openssl_name)
        .unwrap_or_default()
}

/// `TLS13_AES_128_GCM_SHA256` is `TLS_AES_128_GCM_SHA256`, `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` is
/// `ECDHE-RSA-AES128-GCM-SHA256`, and the suites of TLS 1.2 with ChaCha20 go without their digest.
fn openssl_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    let Some((exchange, rest)) = name.strip_prefix("TLS_").and_then(|rest| rest.split_once("_WITH_")) else {
        return name.to_owned();
    };
    let rest = match rest.strip_prefix("AES_") {
        Some(rest) => format!("AES{rest}"),
        None => rest
            .strip_suffix("_POLY1305_SHA256")
            .map_or_else(|| rest.to_owned(), |cipher| format!("{cipher}_POLY1305")),
    };
    format!("{exchange}_{rest}").replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::openssl_name;

    #[test]
    fn every_suite_of_the_provider_has_the_name_that_openssl_gives_it() {
        let mut names: Vec<String> = crate::tls::provider()
            .cipher_suites
            .iter()
            .filter_map(|suite| suite.suite().as_str())
            .map(openssl_name)
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
            ]
        );
    }
}
