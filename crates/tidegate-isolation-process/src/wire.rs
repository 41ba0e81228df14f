//! Datagrams with descriptors over `SOCK_SEQPACKET` socket pairs: the one way in which server, launcher, inits and
//! zygotes talk. A datagram arrives whole or not at all, so there is no framing to get wrong.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Longest datagram in bytes. What may be longer (an environment, secrets) goes in a memory file beside it.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// Most descriptors in one datagram; the largest of ours has nine.
pub(crate) const MAX_FDS: usize = 16;

/// A connected pair, close-on-exec.
pub(crate) fn pair(flags: SocketFlags) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | flags,
        None,
    )?)
}

/// Sends one datagram. `WouldBlock` on a non-blocking socket whose buffer is full.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "message of {} bytes and {} descriptors: at most {MAX_MESSAGE} and {MAX_FDS} go in one",
                bytes.len(),
                fds.len()
            ),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    loop {
        match rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one datagram into `buffer`, and its descriptors, close-on-exec. No bytes and no descriptors mean that the
/// other side is gone.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            // A peer that died with our messages unread resets the connection: for us it is gone all the same.
            Err(rustix::io::Errno::CONNRESET) => return Ok((0, Vec::new())),
            other => break other?,
        }
    };
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message was longer than agreed",
        ));
    }
    Ok((message.bytes, fds))
}

/// Puts bytes into an anonymous memory file and rewinds it.
pub(crate) fn memory_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut rest = bytes;
    let mut at = 0;
    while !rest.is_empty() {
        let written = rustix::io::pwrite(&fd, rest, at)?;
        at += written as u64;
        rest = &rest[written..];
    }
    Ok(fd)
}

/// Reads a memory file, up to `limit` bytes.
pub(crate) fn read_memory_file(fd: &OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let size = usize::try_from(rustix::fs::fstat(fd)?.st_size).map_err(io::Error::other)?;
    if size > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("payload of {size} bytes: at most {limit} are taken"),
        ));
    }
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        match rustix::io::pread(fd, &mut bytes[at..], at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => at += read,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_carries_descriptors_and_its_boundaries() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        let file = memory_file("x", b"payload").unwrap();
        send(&a, b"one", &[file.as_fd()]).unwrap();
        send(&a, b"two", &[]).unwrap();
        let mut buffer = [0; 16];
        let (len, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"one");
        assert_eq!(read_memory_file(&fds[0], 7).unwrap(), b"payload");
        assert!(read_memory_file(&fds[0], 6).is_err());
        let (len, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..len], fds.len()), (&b"two"[..], 0));
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn too_long_is_refused_by_both_sides() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        assert!(send(&a, &vec![0; MAX_MESSAGE + 1], &[]).is_err());
        send(&a, b"longer than four", &[]).unwrap();
        assert!(receive(&b, &mut [0; 4]).is_err());
    }
}
