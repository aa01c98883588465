//! What a tokenizer takes is what it says that it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use attune::tokenizer::{Special, Tokenizer, Vocabulary};

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A vocabulary of `count` made-up words with a merge for each.
fn words(count: usize) -> (Vec<String>, Vec<String>, Vec<f32>) {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend((b'a'..=b'z').map(|letter| char::from(letter).to_string()));
    let mut merges = Vec::new();
    let mut parts: Vec<String> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
    let mut at = 0;
    while tokens.len() < count {
        let (left, right) = (parts[at / 26].clone(), char::from(b'a' + (at % 26) as u8));
        merges.push(format!("{left} {right}"));
        tokens.push(format!("{left}{right}"));
        parts.push(format!("{left}{right}"));
        at += 1;
    }
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    (tokens, merges, scores)
}

#[test]
fn the_estimate_is_within_15_percent_of_what_is_taken() {
    for (model, pre, count) in [("llama", None, 32_000), ("gpt2", Some("gpt-2"), 50_000), ("gpt2", Some("qwen2"), 150_000)] {
        let (tokens, merges, scores) = words(count);
        let before = LIVE.load(Ordering::Relaxed);
        let vocabulary = Vocabulary {
            model,
            pre,
            tokens: tokens.iter().map(String::as_str).collect(),
            merges: if model == "gpt2" { merges.iter().map(String::as_str).collect() } else { Vec::new() },
            scores: scores.clone(),
            ..Vocabulary::default()
        };
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        // Expressions build their tables as they go.
        let text = "Hello there 12345, it's 你好!\n\n  x".repeat(50);
        drop(tokenizer.encode(&text, Special::Plain));
        let taken = LIVE.load(Ordering::Relaxed) - before;
        let estimate = tokenizer.estimated_bytes();
        println!("{model} {pre:?}: {count} tokens take {taken} bytes, estimated {estimate}");
        let off = estimate.abs_diff(taken) as f64 / taken as f64;
        assert!(off < 0.15, "{model} {pre:?}: took {taken} bytes, estimated {estimate}");
    }
}
