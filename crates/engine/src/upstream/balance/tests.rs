use super::*;
use crate::plan::TargetPlan;

fn upstream(algorithm: &str, weights: &[u32]) -> UpstreamPlan {
    UpstreamPlan {
        id: "u1".to_owned(),
        name: "orders".to_owned(),
        algorithm: algorithm.to_owned(),
        host_header: None,
        client_certificate: None,
        targets: weights
            .iter()
            .enumerate()
            .map(|(position, &weight)| TargetPlan {
                host: format!("10.0.0.{position}"),
                port: 80,
                weight,
            })
            .collect(),
    }
}

fn balancer(weights: &[u32]) -> Balancer {
    Balancer::build(&upstream("round-robin", weights)).balancer
}

fn picks(balancer: &Balancer, count: usize) -> Vec<usize> {
    (0..count).filter_map(|_| balancer.pick(&[])).collect()
}

#[test]
fn equal_weights_take_turns_from_the_first() {
    assert_eq!(picks(&balancer(&[100, 100, 100]), 6), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_round_gives_each_target_its_weight_without_runs() {
    let order = picks(&balancer(&[5, 1, 1]), 7);
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn weight_zero_is_never_picked_even_as_last_resort() {
    let balancer = balancer(&[0, 7]);
    assert_eq!(picks(&balancer, 3), [1, 1, 1]);
    assert_eq!(balancer.pick(&[1]), Some(1));
}

#[test]
fn no_target_with_weight_gives_none() {
    assert_eq!(balancer(&[]).pick(&[]), None);
    assert_eq!(balancer(&[0, 0]).pick(&[]), None);
}

#[test]
fn tried_targets_are_avoided_while_others_are_left() {
    let balancer = balancer(&[10, 1, 1]);
    let first = balancer.pick(&[0]);
    assert!(matches!(first, Some(1 | 2)));
    assert_eq!(balancer.pick(&[1, 0]), Some(2));
    assert!(balancer.pick(&[0, 1, 2]).is_some());
}

#[test]
fn shares_hold_over_many_rounds_with_retries_between() {
    let balancer = balancer(&[3, 2, 1]);
    let mut counts = [0_u32; 3];
    for round in 0..6_000 {
        if round % 10 == 0 {
            balancer.pick(&[0]);
        }
        if let Some(position) = balancer.pick(&[]) {
            counts[position] += 1;
        }
    }
    assert!(counts[0].abs_diff(3_000) < 400, "{counts:?}");
    assert!(counts[2].abs_diff(1_000) < 400, "{counts:?}");
}

#[test]
fn an_unchanged_upstream_goes_on_where_it_was() {
    let old = balancer(&[1, 1, 1]);
    picks(&old, 2);
    let new = balancer(&[1, 1, 1]).carry_over(&old);
    assert_eq!(new.pick(&[]), Some(2));
}

#[test]
fn a_changed_weight_starts_over() {
    let old = balancer(&[1, 1, 1]);
    picks(&old, 2);
    let new = balancer(&[2, 1, 1]).carry_over(&old);
    assert_eq!(new.pick(&[]), Some(0));
}

#[test]
fn other_algorithms_are_served_with_a_notice() {
    let built = Balancer::build(&upstream("least-connections", &[1]));
    assert_eq!(
        built.notice.as_deref(),
        Some("upstream orders: algorithm least-connections is served as round-robin by this version")
    );
    assert_eq!(built.balancer.pick(&[]), Some(0));
    assert_eq!(Balancer::build(&upstream("round-robin", &[1])).notice, None);
}
