// SPDX-License-Identifier: Apache-2.0
//! The other crate of the Rust chain: a generic function with a closure, and a method of a trait.
use std::hint::black_box;

pub trait Step {
    fn step(&self, rounds: u64) -> u64;
}

pub struct Worker<T> {
    pub extra: T,
}

impl Step for Worker<u64> {
    #[inline(never)]
    fn step(&self, rounds: u64) -> u64 {
        black_box(burn(black_box(rounds + self.extra))) + 1
    }
}

#[inline(never)]
pub fn apply<F: Fn(u64) -> u64>(work: F, rounds: u64) -> u64 {
    black_box(work(black_box(rounds))) ^ 1
}

#[inline(never)]
pub fn burn(rounds: u64) -> u64 {
    let mut x = rounds;
    for i in 0..rounds {
        x = black_box(x.wrapping_mul(6364136223846793005).wrapping_add(i));
    }
    x
}
