//! Messages to the kernel about networks: as many as the launcher and the init need, and no more.
//!
//! A tool would be executed for each namespace, and would have to be there. The kernel answers before a send returns, so
//! nothing here waits.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Bytes of the kernel's answers to one packet: some three dozen each, with what was asked quoted where it went wrong.
const ANSWERS: usize = 8 * 1024;

/// Bytes of a message's head: length, kind, flags, number, sender.
const HEAD: usize = 16;

/// Says that an attribute holds others.
const NESTED: u16 = 0x8000;

/// Flags of messages.
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACKNOWLEDGE: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

/// Kind of the messages that answer.
const ERROR: u16 = 2;

/// Messages in the making, sent together.
#[derive(Default)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    messages: u32,
    acknowledged: usize,
}

/// One message's attributes in the making.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Packet {
    /// Adds a message: the fixed part that its kind has, then what `fill` adds.
    pub(super) fn message(
        mut self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> Self {
        let start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(fixed);
        fill(&mut Attributes(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.messages += 1;
        self.acknowledged += usize::from(flags & ACKNOWLEDGE != 0);
        self
    }

    /// Sends it to this part of the kernel, routes where none is named, and hears what became of each message.
    pub(super) fn send(self, to: Option<Protocol>) -> io::Result<()> {
        let socket: OwnedFd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            to,
        )?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&socket, &self.bytes, SendFlags::empty(), &kernel)?;
        let mut left = self.acknowledged;
        let mut buffer = [MaybeUninit::uninit(); ANSWERS];
        while left > 0 {
            let ((answers, _), _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::DONTWAIT)?;
            left = left.saturating_sub(heard(answers)?);
        }
        Ok(())
    }
}

/// How many messages went well; an error for one that did not.
fn heard(mut answers: &[u8]) -> io::Result<usize> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut well = 0;
    while answers.len() >= HEAD {
        let number = |at: usize| {
            let bytes = answers.get(at..at + 4).ok_or_else(bad)?;
            Ok::<_, io::Error>(u32::from_ne_bytes(bytes.try_into().map_err(|_| bad())?))
        };
        let len = usize::try_from(number(0)?).map_err(|_| bad())?;
        let kind = u16::from_ne_bytes([answers[4], answers[5]]);
        if kind == ERROR {
            match number(HEAD)?.cast_signed() {
                0 => well += 1,
                errno => return Err(io::Error::from_raw_os_error(-errno)),
            }
        }
        let next = len.next_multiple_of(4);
        if next < HEAD {
            return Err(bad());
        }
        answers = answers.get(next..).unwrap_or_default();
    }
    Ok(well)
}

impl Attributes<'_> {
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A word, with the zero that the kernel wants at its end.
    pub(super) fn word(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// A number as the packet filter has it.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend(0_u16.to_ne_bytes());
        self.0.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes(self.0));
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let packet = Packet::default().message(20, ACKNOWLEDGE, &[2, 32, 0, 0], |a| {
            a.nest(4, |inner| inner.word(1, "lo"));
            a.number(2, 7);
        });
        assert_eq!(packet.acknowledged, 1);
        let expected = [
            40, 0, 0, 0, 20, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 32, 0, 0, 12, 0, 4, 0x80, 7, 0, 1,
            0, b'l', b'o', 0, 0, 8, 0, 2, 0, 0, 0, 0, 7,
        ];
        assert_eq!(packet.bytes, expected);
    }

    #[test]
    fn answers_are_counted_and_an_error_is_one() {
        let answer = |errno: i32| {
            let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend((-errno).to_ne_bytes());
            bytes.resize(36, 0);
            bytes
        };
        assert_eq!(heard(&[answer(0), answer(0)].concat()).unwrap(), 2);
        let error = heard(&[answer(0), answer(libc::EPERM)].concat()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(heard(&[]).unwrap(), 0);
        assert!(heard(&[0; 16]).is_err());
    }
}
