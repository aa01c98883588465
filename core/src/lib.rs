#![no_std]
//! Filled in below.
