//! One product, some times over, and nothing else worth counting: for counters of instructions, which take the difference of two runs.
//!
//! `instructions ISA forward|backward f32|fast TYPE TOKENS ROWS COLS TIMES` on one thread; see `bench/instructions`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::{Buf, Region};
use attune_core::quant::Type;
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_core::weights::Weight;
use attune_cpu::{Isa, Pool, Precision};
use std::sync::Arc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == args[0]).expect("the first argument is an instruction set");
    if !isa.available() {
        println!("skipped: {isa}");
        std::process::exit(3);
    }
    let backward = args[1] == "backward";
    let precision = if args[2] == "fast" { Precision::Fast } else { Precision::F32 };
    let ty = Type::from_name(&args[3]).expect("the fourth argument is a type of weights");
    let [tokens, n, k, times] = [4, 5, 6, 7].map(|i| args[i].parse::<usize>().expect("the last four arguments are numbers"));
    let len = ty.row_bytes(k).expect("columns are whole blocks") * n;
    let (wide, lent) = (tokens * n.max(k) * 4 + 64, rounded_bytes(tokens, n.max(k)));
    let mut t = attune_cpu::target_as(isa, Arc::new(Pool::new(1).unwrap()), precision, None).unwrap();
    attune_cpu::take(&mut t, Region::WORK, len + 2 * wide + lent + 256).unwrap();
    let at = |offset: usize, len: usize| Buf { region: Region::WORK, offset: offset.next_multiple_of(64), len };
    let (x, y) = (at(0, wide - 64), at(wide, wide - 64));
    t.lend(at(2 * wide, lent));
    let w = Weight { buf: at(2 * wide + lent + 64, len), ty, rows: n, cols: k };
    // Any bytes are integers; scales that are no numbers take as many instructions as those that are.
    t.write(w.buf, &(0..len).map(|i| (i * 89 % 64) as u8).collect::<Vec<u8>>()).unwrap();
    let numbers: Vec<f32> = (0..tokens * if backward { n } else { k }).map(|i| (i % 61) as f32 - 30.0).collect();
    t.write(x, bytemuck::cast_slice(&numbers)).unwrap();
    t.set(Slot::TOKENS, tokens as u32);
    for _ in 0..times {
        if backward {
            t.linear_backward(y, x, &w, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        } else {
            t.linear(y, x, &w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        }
    }
}
