//! netsnoop's kernel half: programs that tell which process does what with which socket.
//!
//! Each program is one hook; twins of one hook (kprobe and fentry, BTF and raw tracepoint) share their body.
//! They decide nothing and format nothing: they fill a record and put it in the ring. Each can be loaded
//! without the others, and a kernel that refuses one still runs the rest. What they are called and where they
//! belong is in `netsnoop_common::programs`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod current;
mod emit;
mod first_use;
mod globals;
mod kernel_read;
mod listed_socket;
mod maps;
mod programs;
mod socket;

/// Programs under both licences may call GPL-only helpers, such as those that read kernel memory (man 7 bpf-helpers).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never linked in: nothing here can panic, and a program that could would be refused by the verifier.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
