use super::*;

fn upstream(hash_on: &str, hash_fallback: &str) -> UpstreamPlan {
    let plan = format!(
        r#"{{"id": "u", "name": "u", "algorithm": "consistent-hashing", "hash_on": {hash_on}, "hash_fallback": {hash_fallback}}}"#
    );
    serde_json::from_str(&plan).unwrap()
}

const NONE: &str = r#"{"input": "none"}"#;
const HEADER: &str = r#"{"input": "header", "name": "x-user"}"#;
const IP: &str = r#"{"input": "ip"}"#;
const COOKIE: &str = r#"{"input": "cookie", "name": "session", "path": "/shop"}"#;

/// What is chosen when the inputs of these kinds are there.
fn chosen(hash_on: &str, hash_fallback: &str, header: Option<&'static str>, cookie: Option<&'static str>) -> Wishes {
    Wishes::hashed(&upstream(hash_on, hash_fallback), |input| {
        let text = match input {
            HashInput::Header { .. } => header,
            HashInput::Cookie(_) => cookie,
            HashInput::Ip => Some("10.0.0.1"),
            _ => None,
        };
        text.map(|text| Cow::Borrowed(text.as_bytes()))
    })
}

fn headers(lines: &[(&str, &str)]) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for (name, value) in lines {
        block.add(name.as_bytes(), value.as_bytes());
    }
    block
}

fn cookie(lines: &[&str], name: &str) -> Option<String> {
    let fields: Vec<_> = lines.iter().map(|line| ("Cookie", *line)).collect();
    cookie_of(&headers(&fields), name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn argument(query: &str, name: &str) -> Option<String> {
    query_argument(query.as_bytes(), name.as_bytes()).map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn nothing_to_hash_on_wishes_for_nothing() {
    let wishes = chosen(NONE, IP, Some("anna"), None);
    assert_eq!(wishes.wish().hash, None);
    assert_eq!(wishes.set_cookie, None);
}

#[test]
fn the_input_counts_before_its_fallback_and_the_fallback_when_it_is_missing() {
    assert_eq!(chosen(HEADER, IP, Some("anna"), None).hash, Some(xxh32(b"anna")));
    assert_eq!(chosen(HEADER, IP, None, None).hash, Some(xxh32(b"10.0.0.1")));
    // An empty value is a value.
    assert_eq!(chosen(HEADER, IP, Some(""), None).hash, Some(xxh32(b"")));
}

#[test]
fn requests_with_neither_go_one_way() {
    assert_eq!(chosen(HEADER, NONE, None, None).hash, Some(xxh32(b"")));
    assert_eq!(chosen(HEADER, HEADER, None, None).hash, Some(xxh32(b"")));
}

#[test]
fn a_cookie_that_is_there_is_hashed_and_one_that_is_missing_is_made() {
    let known = chosen(COOKIE, NONE, None, Some("abc"));
    assert_eq!((known.hash, known.set_cookie), (Some(xxh32(b"abc")), None));
    for wishes in [chosen(COOKIE, NONE, None, None), chosen(HEADER, COOKIE, None, None)] {
        let line = wishes.set_cookie.unwrap();
        let value = line
            .strip_prefix("session=")
            .and_then(|rest| rest.strip_suffix("; Path=/shop; Same-Site=Lax; HttpOnly"))
            .unwrap();
        assert_eq!(
            wishes.hash,
            Some(xxh32(value.as_bytes())),
            "the next request goes the same way"
        );
    }
    // Made only where it counts.
    assert_eq!(chosen(HEADER, COOKIE, Some("anna"), None).set_cookie, None);
}

#[test]
fn made_values_are_random_uuids() {
    let (one, other) = (new_uuid(), new_uuid());
    assert_ne!(one, other);
    for made in [one, other] {
        let lengths: Vec<_> = made.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(made.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&made.as_bytes()[19]), "{made}");
    }
}

#[test]
fn several_fields_of_one_name_count_together() {
    let block = headers(&[("X-User", "anna"), ("x-other", "no"), ("x-user", "bert")]);
    let all = joined(block.values(b"x-user"), b"").unwrap();
    assert_eq!(&*all, b"annabert");
    let one = joined(block.values(b"x-other"), b"").unwrap();
    assert!(matches!(one, Cow::Borrowed(b"no")), "a single value is not copied");
    assert!(joined(block.values(b"x-missing"), b"").is_none());
}

#[test]
fn a_cookie_is_found_by_its_whole_name_wherever_it_stands() {
    assert_eq!(cookie(&["session=abc"], "session").as_deref(), Some("abc"));
    assert_eq!(cookie(&["a=1; session=abc; b=2"], "session").as_deref(), Some("abc"));
    assert_eq!(cookie(&["a=1;session=abc"], "session").as_deref(), Some("abc"));
    assert_eq!(cookie(&["a=1", "session=abc"], "session").as_deref(), Some("abc"));
    assert_eq!(
        cookie(&["session=first; session=second"], "session").as_deref(),
        Some("first")
    );
    assert_eq!(cookie(&["session=a=b"], "session").as_deref(), Some("a=b"));
    assert_eq!(cookie(&["session="], "session").as_deref(), Some(""));
    for other in [
        "sessions=abc",
        "my-session=abc",
        "Session=abc",
        "session",
        "a=session=abc",
        "",
    ] {
        assert_eq!(cookie(&[other], "session"), None, "{other}");
    }
    // Longer than the pair, and not at the boundary of a character.
    assert_eq!(cookie(&["é=1"], "e"), None);
}

#[test]
fn arguments_are_decoded_sorted_and_joined() {
    assert_eq!(argument("a=1&user=anna", "user").as_deref(), Some("anna"));
    assert_eq!(argument("user=b&user=a&user=c", "user").as_deref(), Some("a,b,c"));
    assert_eq!(argument("user", "user").as_deref(), Some("true"));
    assert_eq!(argument("user=", "user").as_deref(), Some(""));
    assert_eq!(argument("&&user=x&", "user").as_deref(), Some("x"));
    assert_eq!(argument("us%65r=a%2Cb+c", "user").as_deref(), Some("a,b c"));
    assert_eq!(argument("user=a=b", "user").as_deref(), Some("a=b"));
    for other in ["", "a=1", "users=1", "User=1", "=user"] {
        assert_eq!(argument(other, "user"), None, "{other}");
    }
}

#[test]
fn what_is_no_escape_stays_as_it_is() {
    for (escaped, plain) in [
        ("100%", "100%"),
        ("%2", "%2"),
        ("%zz", "%zz"),
        ("%+1", "% 1"),
        ("%-1", "%-1"),
        ("%25%32", "%2"),
        ("%c3%a9", "é"),
    ] {
        assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
    }
}

#[test]
fn captures_have_names_or_numbers() {
    let captures = Captures {
        unnamed: vec![Some(b"/users/7".to_vec()), Some(b"7".to_vec()), None],
        named: vec![("id".to_owned(), Some(b"7".to_vec())), ("rest".to_owned(), None)],
    };
    assert_eq!(capture(&captures, "id"), Some(&b"7"[..]));
    assert_eq!(capture(&captures, "0"), Some(&b"/users/7"[..]));
    assert_eq!(capture(&captures, "1"), Some(&b"7"[..]));
    for missing in ["2", "3", "rest", "other", ""] {
        assert_eq!(capture(&captures, missing), None, "{missing}");
    }
}
