//! What the fuzz targets share: a bound on what one allocation may take, a cursor over an input,
//! and a log's form written down a second time.

use std::alloc::{GlobalAlloc, Layout, System};

pub mod input;
pub mod log;

/// No input is longer than some KiB, so whoever asks for as much as this believed a length that
/// nothing stands behind.
const MOST: usize = 64 << 20;

struct Bounded;

#[global_allocator]
static BOUNDED: Bounded = Bounded;

fn check(size: usize) {
    if size > MOST {
        // No panic: that may not pass through an allocator. The fuzzer keeps the input.
        eprintln!("{size} bytes were asked for at once; at most {MOST} make sense here");
        std::process::abort();
    }
}

// SAFETY: all of it is the system's allocator, which gets what came.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        unsafe { System.realloc(at, layout, size) }
    }
}
