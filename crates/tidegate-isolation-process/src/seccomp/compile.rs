//! From a table of answers to a BPF program.

use std::collections::BTreeMap;

use super::{Answer, How, Then};

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the process isolation knows x86_64 and aarch64");

/// Offsets in `struct seccomp_data`; both architectures are little-endian, so an argument's low half comes first.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GE: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// What is not in the table, and calls of another architecture (32-bit, x32).
const UNKNOWN: Answer = Answer::Errno(libc::ENOSYS);

/// The program for these answers by call number.
pub(super) fn compile(rules: BTreeMap<u32, Answer>) -> Vec<libc::sock_filter> {
    let mut ranges: Vec<(u32, Answer)> = vec![(0, UNKNOWN)];
    let mut next = 0;
    let mut put = |from: u32, answer: Answer| match ranges.last_mut() {
        Some((_, last)) if *last == answer => {}
        Some((start, last)) if *start == from => *last = answer,
        _ => ranges.push((from, answer)),
    };
    for (number, answer) in rules {
        if number > next {
            put(next, UNKNOWN);
        }
        put(number, answer);
        next = number + 1;
    }
    put(next, UNKNOWN);

    let mut out = vec![
        step(LOAD, 0, 0, AT_ARCH),
        step(JUMP_EQ, 1, 0, AUDIT_ARCH),
        step(RETURN, 0, 0, verdict(libc::ENOSYS)),
        step(LOAD, 0, 0, AT_NUMBER),
    ];
    tree(&ranges, &mut out);
    out
}

/// A binary search: the left half follows the comparison, the right half is jumped to by the instruction whose distance
/// has 32 bits, since conditional jumps have 8.
fn tree(ranges: &[(u32, Answer)], out: &mut Vec<libc::sock_filter>) {
    if let [(_, answer)] = ranges {
        leaf(*answer, out);
        return;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    out.push(step(JUMP_GE, 0, 1, right[0].0));
    let far = out.len();
    out.push(step(JUMP, 0, 0, 0));
    tree(left, out);
    out[far].k = distance(far, out.len());
    tree(right, out);
}

fn leaf(answer: Answer, out: &mut Vec<libc::sock_filter>) {
    match answer {
        Answer::Allow => out.push(step(RETURN, 0, 0, RET_ALLOW)),
        Answer::Errno(number) => out.push(step(RETURN, 0, 0, verdict(number))),
        Answer::Check(tests, otherwise) => {
            let mut to_end = Vec::new();
            for test in tests {
                out.push(step(LOAD, 0, 0, AT_ARGUMENTS + 8 * test.argument));
                let compare = match test.how {
                    How::Equals => JUMP_EQ,
                    How::HasAnyOf => JUMP_SET,
                };
                out.push(step(compare, 0, 1, test.value));
                match test.then {
                    Then::Allow => out.push(step(RETURN, 0, 0, RET_ALLOW)),
                    Then::Errno(number) => out.push(step(RETURN, 0, 0, verdict(number))),
                    Then::Next => {
                        // On a match skip the jump to the end that a mismatch takes.
                        let compare = out.len() - 1;
                        out[compare].jt = 1;
                        out[compare].jf = 0;
                        to_end.push(out.len());
                        out.push(step(JUMP, 0, 0, 0));
                    }
                }
            }
            for at in to_end {
                out[at].k = distance(at, out.len());
            }
            leaf(*otherwise, out);
        }
    }
}

fn distance(from: usize, to: usize) -> u32 {
    u32::try_from(to - from - 1).expect("a program has at most 4096 steps")
}

const fn verdict(errno: i32) -> u32 {
    RET_ERRNO | errno.cast_unsigned()
}

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    /// Runs a program as the kernel does, and counts its steps.
    fn run(
        program: &[libc::sock_filter],
        arch: u32,
        number: u32,
        arguments: [u32; 6],
    ) -> (u32, u32) {
        let (mut at, mut a, mut steps) = (0, 0_u32, 0);
        loop {
            let s = program[at];
            steps += 1;
            at += 1;
            match s.code {
                LOAD if s.k == AT_ARCH => a = arch,
                LOAD if s.k == AT_NUMBER => a = number,
                LOAD => a = arguments[((s.k - AT_ARGUMENTS) / 8) as usize],
                JUMP => at += s.k as usize,
                JUMP_EQ => at += usize::from(if a == s.k { s.jt } else { s.jf }),
                JUMP_GE => at += usize::from(if a >= s.k { s.jt } else { s.jf }),
                JUMP_SET => at += usize::from(if a & s.k != 0 { s.jt } else { s.jf }),
                RETURN => return (s.k, steps),
                other => panic!("unexpected instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_answers_as_the_table_says_for_every_number() {
        let rules = table::rules(false);
        let program = compile(rules.clone());
        let mut most = 0;
        for number in (0..1024).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let (got, steps) = run(&program, AUDIT_ARCH, number, [0; 6]);
            most = most.max(steps);
            match rules.get(&number).copied().unwrap_or(UNKNOWN) {
                Answer::Allow => assert_eq!(got, RET_ALLOW, "{number}"),
                Answer::Errno(errno) => assert_eq!(got, verdict(errno), "{number}"),
                Answer::Check(..) => {}
            }
        }
        assert!(most < 40, "{most} steps at most");
        assert!(program.len() < 400, "{} steps in all", program.len());
        assert_eq!(
            run(&program, 0x4000_0003, 0, [0; 6]).0,
            verdict(libc::ENOSYS)
        );
    }

    #[test]
    fn memory_that_a_watchdog_cannot_see_is_refused_where_there_is_one() {
        for (watched, expected) in [(false, RET_ALLOW), (true, verdict(libc::ENOSYS))] {
            let program = compile(table::rules(watched));
            for call in super::super::table::UNSEEN {
                let number = u32::try_from(*call).unwrap();
                assert_eq!(run(&program, AUDIT_ARCH, number, [0; 6]).0, expected);
            }
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = compile(table::rules(false));
        let answer = |call: libc::c_long, arguments: [u32; 6]| {
            run(
                &program,
                AUDIT_ARCH,
                u32::try_from(call).unwrap(),
                arguments,
            )
            .0
        };
        let with = |at: usize, value: i32| {
            let mut arguments = [0; 6];
            arguments[at] = value.cast_unsigned();
            arguments
        };
        let eperm = verdict(libc::EPERM);
        assert_eq!(
            answer(libc::SYS_clone, with(0, libc::CLONE_VM | libc::SIGCHLD)),
            RET_ALLOW
        );
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            assert_eq!(
                answer(libc::SYS_clone, with(0, flag | libc::SIGCHLD)),
                eperm
            );
            assert_eq!(answer(libc::SYS_unshare, with(0, flag)), eperm);
        }
        assert_eq!(
            answer(libc::SYS_unshare, with(0, libc::CLONE_FILES)),
            RET_ALLOW
        );
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            assert_eq!(answer(libc::SYS_socket, with(0, family)), RET_ALLOW);
        }
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK] {
            assert_eq!(
                answer(libc::SYS_socket, with(0, family)),
                verdict(libc::EAFNOSUPPORT)
            );
        }
        let mut netlink = with(0, libc::AF_NETLINK);
        assert_eq!(answer(libc::SYS_socket, netlink), RET_ALLOW);
        netlink[2] = 9;
        assert_eq!(
            answer(libc::SYS_socket, netlink),
            verdict(libc::EAFNOSUPPORT)
        );
        assert_eq!(answer(libc::SYS_ioctl, with(1, 0x5412)), eperm);
        assert_eq!(answer(libc::SYS_ioctl, with(1, 0x5401)), RET_ALLOW);
        assert_eq!(answer(libc::SYS_personality, with(0, -1)), RET_ALLOW);
        assert_eq!(answer(libc::SYS_personality, with(0, 0x0040_0000)), eperm);
        assert_eq!(answer(libc::SYS_clone3, [0; 6]), verdict(libc::ENOSYS));
        assert_eq!(
            answer(libc::SYS_socketpair, with(0, libc::AF_UNIX)),
            RET_ALLOW
        );
        assert_eq!(
            answer(libc::SYS_socketpair, with(0, libc::AF_TIPC)),
            verdict(libc::EAFNOSUPPORT)
        );
        // Itself, and nobody else.
        for (call, at) in [
            (libc::SYS_prlimit64, 0),
            (libc::SYS_sched_setscheduler, 0),
            (libc::SYS_setpriority, 1),
        ] {
            assert_eq!(answer(call, with(at, 0)), RET_ALLOW);
            assert_eq!(answer(call, with(at, 1)), eperm);
        }
    }
}
