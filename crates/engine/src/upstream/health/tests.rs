use super::*;
use Observation::{HttpFailure, Success, TcpFailure, Timeout};

const LIMITS: Thresholds = Thresholds {
    successes: 2,
    http_failures: 3,
    tcp_failures: 2,
    timeouts: 1,
};

fn after(observations: &[Observation], thresholds: &Thresholds) -> Health {
    let mut machine = HealthMachine::default();
    for observation in observations {
        machine.observe(*observation, 1, thresholds);
    }
    machine.health()
}

#[test]
fn failures_of_one_kind_add_up_to_unhealthy() {
    assert_eq!(after(&[HttpFailure, HttpFailure], &LIMITS), Health::MostlyHealthy);
    assert_eq!(after(&[HttpFailure; 3], &LIMITS), Health::Unhealthy);
    assert_eq!(after(&[TcpFailure; 2], &LIMITS), Health::Unhealthy);
    assert_eq!(after(&[Timeout], &LIMITS), Health::Unhealthy);
}

#[test]
fn failures_of_other_kinds_are_counted_apart() {
    assert_eq!(
        after(&[HttpFailure, TcpFailure, HttpFailure], &LIMITS),
        Health::MostlyHealthy
    );
}

#[test]
fn a_success_zeroes_all_failures() {
    assert_eq!(
        after(
            &[HttpFailure, HttpFailure, TcpFailure, Success, HttpFailure, HttpFailure],
            &LIMITS
        ),
        Health::MostlyHealthy
    );
}

#[test]
fn ignored_successes_zero_nothing() {
    let without_successes = Thresholds { successes: 0, ..LIMITS };
    assert_eq!(
        after(
            &[HttpFailure, Success, HttpFailure, Success, HttpFailure],
            &without_successes
        ),
        Health::Unhealthy
    );
}

#[test]
fn an_ignored_failure_does_not_touch_successes() {
    let without_timeouts = Thresholds { timeouts: 0, ..LIMITS };
    let observations = [TcpFailure, TcpFailure, Success, Timeout, Success];
    assert_eq!(after(&observations, &without_timeouts), Health::Healthy);
}

#[test]
fn recovery_takes_successes_in_a_row() {
    let down = [TcpFailure, TcpFailure];
    let with = |more: &[Observation]| after(&[&down[..], more].concat(), &LIMITS);
    assert_eq!(with(&[Success]), Health::MostlyUnhealthy);
    assert_eq!(with(&[Success, TcpFailure, Success]), Health::MostlyUnhealthy);
    assert_eq!(with(&[Success, Success]), Health::Healthy);
    assert_eq!(with(&[Success, TcpFailure, TcpFailure]), Health::Unhealthy);
}

#[test]
fn a_state_set_by_hand_counts_from_zero() {
    let mut machine = HealthMachine::default();
    machine.observe(HttpFailure, 2, &LIMITS);
    machine.set(Health::Healthy);
    assert!(machine.observe(HttpFailure, 2, &LIMITS));
    assert_eq!(machine.health(), Health::MostlyHealthy);
}

#[test]
fn the_cell_shows_what_the_machine_says() {
    let cell = HealthCell::default();
    assert_eq!(cell.observe(Success, &LIMITS), (Health::Healthy, Health::Healthy));
    assert_eq!(cell.observe(Timeout, &LIMITS), (Health::Healthy, Health::Unhealthy));
    assert!(!cell.is_healthy());
    cell.set(Health::Healthy);
    assert!(cell.is_healthy());
}

#[test]
fn what_was_on_its_way_does_not_undo_a_decision_of_this_worker() {
    let cell = HealthCell::default();
    cell.observe(Timeout, &LIMITS);
    assert!(!cell.take(Health::MostlyHealthy, false));
    assert_eq!(cell.get(), Health::Unhealthy, "control did not know yet");
    assert!(!cell.take(Health::Unhealthy, false), "confirmed");
    assert!(cell.take(Health::Healthy, false), "and decided anew by control");
    assert!(cell.is_healthy());
}

#[test]
fn a_decision_to_use_an_address_again_is_kept_in_the_same_way() {
    let cell = HealthCell::default();
    cell.set(Health::Unhealthy);
    cell.observe(Success, &LIMITS);
    cell.observe(Success, &LIMITS);
    assert!(!cell.take(Health::MostlyUnhealthy, false));
    assert!(cell.is_healthy());
    assert!(cell.take(Health::Unhealthy, true), "what is set by hand counts at once");
}

#[test]
fn a_control_that_was_told_everything_is_believed() {
    let cell = HealthCell::default();
    cell.observe(Timeout, &LIMITS);
    cell.confirm();
    assert!(cell.take(Health::Healthy, false));
}

#[test]
fn the_same_state_again_leaves_the_counters_unless_it_is_a_reset() {
    for (is_reset, expected) in [(false, Health::Unhealthy), (true, Health::MostlyHealthy)] {
        let cell = HealthCell::default();
        cell.observe(TcpFailure, &LIMITS);
        assert!(!cell.take(Health::MostlyHealthy, is_reset));
        cell.observe(TcpFailure, &LIMITS);
        assert_eq!(cell.get(), expected);
    }
}
