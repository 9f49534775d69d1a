//! What `build` refuses, and what a rebuild keeps.

use super::*;
use crate::router::RouterFault;

#[test]
fn every_fault_of_every_rule_is_reported_at_once() {
    let rules = [
        with_headers(with_paths(rule(1), &["/fine", "~/(open"]), "X-Version", &["1", "~*[a"]),
        rule(2),
        with_snis(with_hosts(rule(3), &["a.*.com", "*.a.*"]), &["*.*"]),
    ];
    let faults = Router::build(Flavor::TraditionalCompatible, &rules)
        .err()
        .unwrap_or_default();
    let places: Vec<_> = faults.iter().map(|fault| (fault.route, fault.field.as_str())).collect();
    assert_eq!(
        places,
        [
            (0, "headers.X-Version[1]"),
            (0, "paths[1]"),
            (2, "hosts[0]"),
            (2, "hosts[1]"),
            (2, "snis[0]"),
        ]
    );
    assert_eq!(faults[1].message, "invalid regex: '/(open' (unclosed group)");
    assert_eq!(
        faults[3],
        RouterFault {
            route: 2,
            field: "hosts[1]".into(),
            message: "invalid wildcard: must have at most one wildcard".into(),
        }
    );
}

#[test]
fn look_around_is_a_fault_in_both_flavours() {
    let rules = [with_paths(rule(1), &["~/a(?=b)"])];
    for flavor in [Flavor::Traditional, Flavor::TraditionalCompatible] {
        assert_eq!(Router::build(flavor, &rules).err().map(|faults| faults.len()), Some(1));
    }
}

#[test]
fn a_rebuilt_router_answers_like_a_new_one() {
    let first = [with_paths(rule(1), &[r"~/a/\d+", "~/b"])];
    let second = [with_paths(rule(1), &[r"~/c"]), with_paths(rule(2), &[r"~/a/\d+"])];
    let old = build(Flavor::TraditionalCompatible, &first);
    let new = Router::build_after(Flavor::TraditionalCompatible, &second, Some(&old));
    let new = new.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(new.find(&get("h", "/a/12").key()).map(|found| found.route), Some(1));
    assert_eq!(new.find(&get("h", "/b").key()), None);
}

#[test]
fn a_router_of_another_flavour_lends_no_patterns() {
    let rules = [with_paths(rule(1), &["~/a|/b"])];
    let compatible = build(Flavor::TraditionalCompatible, &rules);
    let traditional = Router::build_after(Flavor::Traditional, &rules, Some(&compatible));
    let traditional = traditional.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert!(compatible.find(&get("h", "/x/b").key()).is_some());
    assert!(traditional.find(&get("h", "/x/b").key()).is_none());
    assert!(traditional.find(&get("h", "/b").key()).is_some());
}

#[test]
fn no_rules_match_nothing() {
    for flavor in [Flavor::Traditional, Flavor::TraditionalCompatible] {
        assert_eq!(winner(flavor, &[], &get("a.com", "/")), None);
    }
}
