//! Small examples of the routers' rules: scores, gates and thresholds.

use super::aibrix::select;
use super::llmd::{Range, load_aware_score, prefix_score_scaled};
use crate::fleet::replicas::Replicas;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn prefix_scores_of_llmd() {
    close(prefix_score_scaled(5, 10, 1.0, 0.0, 8192.0), 0.5);
    close(prefix_score_scaled(5, 10, 1.0, 0.5, 100.0), 0.25125);
    close(prefix_score_scaled(50, 100, 1.0, 0.5, 100.0), 0.375);
    close(prefix_score_scaled(0, 0, 64.0, 0.0, 8192.0), 0.0);
}

#[test]
fn load_scores_of_llmd() {
    let scores = |loads: &[u32], score: fn(Range, u32) -> f64| -> Vec<f64> {
        let range = Range::of(Replicas::first(loads.len()), loads);
        loads.iter().map(|&load| score(range, load)).collect()
    };
    assert_eq!(scores(&[0, 5, 10], Range::least_first), [1.0, 0.5, 0.0]);
    assert_eq!(scores(&[3, 3], Range::least_first), [1.0, 1.0]);
    assert_eq!(scores(&[0, 1, 4], Range::idle_first), [1.0, 0.75, 0.0]);
    for (load, score) in [(0, 0.5), (64, 0.25), (128, 0.0), (500, 0.0)] {
        close(load_aware_score(load), score);
    }
}

#[test]
fn aibrix_passes_over_what_is_loaded_too_much() {
    let all = Replicas::first(4);
    let one = Replicas::one(3);
    assert!(select(one, all, &[0, 0, 1, 2], &[0, 0, 0, 100], 1.0).is_empty());
    let two = Replicas(0b1010);
    assert_eq!(select(two, all, &[0, 2, 1, 2], &[0, 100, 0, 100], 1.0), two);
}
