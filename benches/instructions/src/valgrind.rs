//! Tells callgrind when to count; without valgrind the processor does nothing.
//!
//! A request is a sequence of instructions that has no effect, which valgrind looks for in what it translates (`valgrind.h`,
//! `callgrind.h`): the low register is turned around twice, then a register is swapped with itself.

/// From here on every instruction of every thread counts.
pub fn start_counting() {
    request(4);
}

/// From here on none does.
pub fn stop_counting() {
    request(5);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn request(number: u64) {
    /// `VG_USERREQ_TOOL_BASE('C', 'T')`.
    const CALLGRIND: u64 = 0x4354_0000;
    let request = [CALLGRIND + number, 0, 0, 0, 0, 0];
    // SAFETY: rdi is turned by 128 bits in all and has its old value; valgrind reads the six numbers that rax points to, which live until
    // after this, and writes rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdx") 0_u64 => _,
            in("rax") request.as_ptr(),
            options(nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_number: u64) {}
