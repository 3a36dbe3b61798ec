// SPDX-License-Identifier: Apache-2.0
//! chain::main > chain::outer > links::apply > chain::by_closure > <links::Worker<u64> as links::Step>::step > links::burn.
extern crate links;
use links::Step;
use std::hint::black_box;

fn cpu() -> f64 {
    // The first two numbers after the name: utime and stime are fields 14 and 15, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[inline(never)]
fn by_closure(rounds: u64, worker: &dyn Step) -> u64 {
    black_box(worker.step(black_box(rounds))) + 3
}

#[inline(never)]
fn outer(rounds: u64) -> u64 {
    let worker = links::Worker { extra: 1u64 };
    black_box(links::apply(|n| by_closure(n, &worker), black_box(rounds))) + 2
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(1.0, |a| a.parse().unwrap());
    let begin = cpu();
    while cpu() - begin < seconds {
        black_box(outer(8_000_000));
    }
    println!("burned {:.6}", cpu() - begin);
}
