//! A router that was changed again and again against one that is compiled of all its rules.

use super::model::{any_request, any_rule, rules};
use super::*;
use proptest::prelude::*;
use proptest::sample::{select, Index};

/// What happens to the routes of a plan: positions stay, and the last takes the place of one that goes.
#[derive(Clone, Debug)]
enum Step {
    Replace(Index, RouteRule),
    Add(RouteRule),
    Remove(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<Index>(), any_rule()).prop_map(|(at, rule)| Step::Replace(at, rule)),
        1 => any_rule().prop_map(Step::Add),
        1 => any::<Index>().prop_map(Step::Remove),
    ]
}

/// Do some steps; returns the positions that were touched.
fn take(rules: &mut Vec<RouteRule>, steps: &[Step]) -> Vec<usize> {
    let mut touched = Vec::new();
    for step in steps {
        match step {
            Step::Add(rule) => rules.push(rule.clone()),
            _ if rules.is_empty() => continue,
            Step::Replace(at, rule) => {
                let at = at.index(rules.len());
                // The same route in another form, every second time.
                let id = if rule.regex_priority == 1 {
                    &rule.id
                } else {
                    &rules[at].id
                };
                rules[at] = RouteRule {
                    id: id.clone(),
                    ..rule.clone()
                };
                touched.push(at);
                continue;
            }
            Step::Remove(at) => {
                let at = at.index(rules.len());
                rules.swap_remove(at);
                touched.push(at);
                continue;
            }
        }
        touched.push(rules.len() - 1);
    }
    touched
}

fn with_expression((mut rule, chosen): (RouteRule, Option<(&str, u64)>)) -> RouteRule {
    if let Some((source, priority)) = chosen {
        rule = RouteRule {
            id: rule.id,
            expression: Some(source.to_owned()),
            priority,
            ..RouteRule::default()
        };
    }
    rule
}

fn expressions() -> impl Strategy<Value = Option<(&'static str, u64)>> {
    let sources = vec![
        r#"http.path ^= "/a""#,
        r#"http.path == "/a/b" && http.method == "GET""#,
        r#"http.host == "a.com" || http.path ~ "^/[ab]""#,
        r#"http.headers.x_a == "1""#,
    ];
    prop::option::of((select(sources), 0_u64..3))
}

fn check(
    flavor: Flavor,
    mut rules: Vec<RouteRule>,
    changes: &[Vec<Step>],
    requests: &[Request],
) -> Result<(), TestCaseError> {
    let mut router = build(flavor, &rules);
    for steps in changes {
        let touched = take(&mut rules, steps);
        router = router
            .after(&touched, rules.len(), |position| rules[position].clone())
            .unwrap();
        let whole = build(flavor, &rules);
        for request in requests {
            prop_assert_eq!(router.find(&request.key()), whole.find(&request.key()), "{:?}", request);
        }
    }
    Ok(())
}

fn changes() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(prop::collection::vec(step(), 0..4), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn compatible_after_changes_is_the_whole(
        rules in rules(), changes in changes(), requests in prop::collection::vec(any_request(), 1..12),
    ) {
        check(Flavor::TraditionalCompatible, rules, &changes, &requests)?;
    }

    #[test]
    fn traditional_after_changes_is_the_whole(
        mut rules in rules(), changes in changes(), requests in prop::collection::vec(any_request(), 1..12),
        has_snis in any::<bool>(),
    ) {
        // With server names it is always compiled whole. Routes of the same age: the id decides.
        for rule in &mut rules {
            rule.created_at /= 8;
            if !has_snis {
                rule.snis.clear();
            }
        }
        check(Flavor::Traditional, rules, &changes, &requests)?;
    }

    #[test]
    fn expressions_after_changes_are_the_whole(
        rules in rules(), changes in changes(), requests in prop::collection::vec(any_request(), 1..12),
        chosen in prop::collection::vec(expressions(), 64),
    ) {
        let mut chosen = chosen.into_iter().cycle();
        let mut mix = |rule| with_expression((rule, chosen.next().flatten()));
        let rules = rules.into_iter().map(&mut mix).collect();
        let changes: Vec<Vec<Step>> = changes
            .into_iter()
            .map(|steps| {
                let mixed = |step| match step {
                    Step::Replace(at, rule) => Step::Replace(at, mix(rule)),
                    Step::Add(rule) => Step::Add(mix(rule)),
                    Step::Remove(at) => Step::Remove(at),
                };
                steps.into_iter().map(mixed).collect()
            })
            .collect();
        check(Flavor::Expressions, rules, &changes, &requests)?;
    }
}

fn numbered(count: u32) -> Vec<RouteRule> {
    (0..count)
        .map(|number| with_paths(rule(number), &[&format!("/{number}")]))
        .collect()
}

#[test]
fn few_changes_share_the_base_and_many_do_not() {
    let mut rules = numbered(1000);
    let before = build(Flavor::TraditionalCompatible, &rules);
    rules[3].paths = texts(&["/new"]);
    let after = before.after(&[3], 1000, |position| rules[position].clone()).unwrap();
    assert!(after.shares_with(&before));
    assert_eq!(after.find(&get("h", "/new/x").key()).unwrap().route, 3);
    assert!(after.find(&get("h", "/3").key()).is_none());
    let many: Vec<usize> = (0..300).collect();
    let later = after.after(&many, 1000, |position| rules[position].clone()).unwrap();
    assert!(!later.shares_with(&before));
    assert_eq!(later.find(&get("h", "/new/x").key()).unwrap().route, 3);
}

#[test]
fn faults_of_changed_routes_name_their_positions() {
    let mut rules = numbered(20);
    let router = build(Flavor::TraditionalCompatible, &rules);
    rules[7].paths = texts(&["~/("]);
    let faults = router
        .after(&[2, 7], 20, |position| rules[position].clone())
        .err()
        .unwrap();
    let places: Vec<_> = faults.iter().map(|fault| (fault.route, fault.field.as_str())).collect();
    assert_eq!(places, [(7, "paths[0]")]);
}
