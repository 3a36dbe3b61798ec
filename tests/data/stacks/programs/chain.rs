// SPDX-License-Identifier: Apache-2.0

// What the recorded case of Rust is made of. Build: rustc -O -C force-frame-pointers=no chain.rs
use std::hint::black_box;

#[inline(never)]
fn deep(depth: u32, text: &str) -> usize {
    let room = black_box([depth as u8; 100]);
    if depth == 0 {
        unsafe { std::arch::asm!("int3") };
        return room[3] as usize + text.len();
    }
    let inner: Vec<usize> = (0..1).map(|i| deep(depth - 1, text) + i).collect();
    inner[0] + room[5] as usize
}

fn main() {
    let thread = std::thread::spawn(|| deep(12, "thread"));
    println!("{}", thread.join().unwrap());
}
