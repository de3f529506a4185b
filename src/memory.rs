//! How the program deals with the system's memory: what it frees is kept, and where none is left it ends with an exit
//! code.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, but for one thing: where it has nothing left the program ends with exit code 2 ("could not
/// be analysed") and a sentence, instead of an abort whose code is nobody's verdict.
struct OrEnd;

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

#[expect(unsafe_code, reason = "an allocator is written in no other way")]
// SAFETY: every call goes to the system's allocator with the caller's own arguments; what it returns is returned, or
// never returned from.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is handed on.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn or_end(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        end();
    }
    memory
}

/// Ends without allocating anything: no destructors, no buffers, no locks that another thread may hold.
#[cfg(unix)]
#[cold]
fn end() -> ! {
    const MESSAGE: &[u8] =
        b"error: out of memory: nothing was decided. Give the program more memory, or less to do at once\n";
    #[expect(unsafe_code, reason = "the standard library has no way to end without running what may allocate")]
    // SAFETY: both calls are async-signal-safe; the message is a live buffer of that length.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(2)
    }
}

#[cfg(not(unix))]
#[cold]
fn end() -> ! {
    std::process::abort()
}

/// Tells glibc to reuse large freed blocks instead of returning them: activations of equal size come and go layer after
/// layer, and faulting their pages in anew took a tenth of the time of a forward pass.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_freed() {
    const LARGEST_KEPT: i32 = 1 << 29;
    #[expect(unsafe_code, reason = "the C library has no other door to this setting")]
    // SAFETY: mallopt only sets two thresholds of the allocator; no memory is touched.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGEST_KEPT);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed() {}
