//! Messages of the name system: as much of them as it takes to answer a question.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// Bytes of a message's head.
const HEAD: usize = 12;

/// Most addresses in one answer: with the question they fit into the 512 bytes that every client takes.
pub(crate) const MAX_ADDRESSES: usize = 12;

/// Longest name in bytes, as it is written in a message.
const MAX_NAME: usize = 255;

/// Kinds of questions that are understood.
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

const INTERNET: u16 = 1;

/// Kind of the record that says what the asker understands.
const OPTIONS: u16 = 41;

/// Kinds of questions that are about no record: whole zones, everything there is, keys for a session.
const OF_NO_RECORD: RangeInclusive<u16> = 128..=255;

/// Longest answer, in bytes, that is asked for without a connection: what gets through every network in one piece.
const DATAGRAM: u16 = 1232;

/// A question, and the bytes of it that an answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    id: [u8; 2],
    /// Whether the asker wants us to ask others.
    recursion: bool,
    /// Whether it came with options, so that the asker understands them in an answer.
    options: bool,
    question: Vec<u8>,
    /// Lower case, without a dot at its end.
    pub(crate) name: String,
    pub(crate) kind: u16,
}

/// What is wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing that could be answered: too short, or an answer.
    Noise,
    /// It cannot be read.
    Malformed([u8; 2]),
    /// It asks for something that no name server of this sort does.
    Unknown([u8; 2]),
}

/// How an answer came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Fine = 0,
    Malformed = 1,
    /// Nobody could tell.
    Failed = 2,
    NoSuchName = 3,
    Unknown = 4,
}

impl Question {
    pub(crate) fn read(message: &[u8]) -> Result<Self, Wrong> {
        let Some((head, rest)) = message.split_at_checked(HEAD) else {
            return Err(Wrong::Noise);
        };
        let id = [head[0], head[1]];
        if head[2] & 0x80 != 0 {
            return Err(Wrong::Noise);
        }
        if head[2] & 0x78 != 0 {
            return Err(Wrong::Unknown(id));
        }
        if head[4..6] != [0, 1] {
            return Err(Wrong::Malformed(id));
        }
        let mut name = String::new();
        let mut at = 0;
        loop {
            let wrong = Wrong::Malformed(id);
            let len = usize::from(*rest.get(at).ok_or(wrong)?);
            at += 1;
            if len == 0 {
                break;
            }
            // The two upper bits would be a pointer, and there is nothing before that it could point to.
            if len > 63 {
                return Err(wrong);
            }
            let label = rest.get(at..at + len).ok_or(wrong)?;
            at += len;
            if at > MAX_NAME {
                return Err(wrong);
            }
            if !name.is_empty() {
                name.push('.');
            }
            // What is no letter is never a name that we look for, and must not be taken for a dot.
            name.extend(label.iter().map(|&byte| match byte {
                b'.' => '\u{fffd}',
                byte if byte.is_ascii_graphic() => char::from(byte.to_ascii_lowercase()),
                _ => '\u{fffd}',
            }));
        }
        let tail = rest.get(at..at + 4).ok_or(Wrong::Malformed(id))?;
        if u16::from_be_bytes([tail[2], tail[3]]) != INTERNET {
            return Err(Wrong::Unknown(id));
        }
        Ok(Self {
            id,
            recursion: head[2] & 1 != 0,
            options: head[10..12] != [0, 0],
            question: rest[..at + 4].to_vec(),
            name,
            kind: u16::from_be_bytes([tail[0], tail[1]]),
        })
    }

    /// The answer with these addresses, to be kept for so many seconds.
    pub(crate) fn addresses(&self, addresses: &[Ipv4Addr], ttl: u32) -> Vec<u8> {
        let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        let mut answer = self.head(Code::Fine, addresses.len());
        for address in addresses {
            // The name is the question's, which begins behind the head.
            answer.extend([0xc0, HEAD as u8, 0, 1, 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        answer
    }

    /// The answer without any.
    pub(crate) fn empty(&self, code: Code) -> Vec<u8> {
        self.head(code, 0)
    }

    fn head(&self, code: Code, answers: usize) -> Vec<u8> {
        let flags = 0x80 | u8::from(self.recursion);
        let answers = u8::try_from(answers).unwrap_or(u8::MAX);
        let mut head = vec![self.id[0], self.id[1], flags, 0x80 | code as u8];
        head.extend([0, 1, 0, answers, 0, 0, 0, 0]);
        head.extend(&self.question);
        head
    }

    /// Whether it asks for something that no name has. An answer to one may be a whole zone, or hold addresses that nobody
    /// has judged.
    pub(crate) fn is_of_no_record(&self) -> bool {
        self.kind == OPTIONS || OF_NO_RECORD.contains(&self.kind)
    }

    /// The question as somebody else is asked it: what was read of it, and nothing that came with it.
    pub(crate) fn message(&self) -> Vec<u8> {
        let options = u8::from(self.options);
        let mut message = vec![self.id[0], self.id[1], u8::from(self.recursion), 0];
        message.extend([0, 1, 0, 0, 0, 0, 0, options]);
        message.extend(&self.question);
        if self.options {
            message.push(0);
            message.extend(OPTIONS.to_be_bytes());
            message.extend(DATAGRAM.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    }

    /// Whether this message answers it.
    pub(crate) fn is_answered_by(&self, message: &[u8]) -> bool {
        let Some((head, rest)) = message.split_at_checked(HEAD) else {
            return false;
        };
        let same = |ours: &[u8], theirs: &[u8]| ours.eq_ignore_ascii_case(theirs);
        head[..2] == self.id
            && head[2] & 0x80 != 0
            && rest
                .get(..self.question.len())
                .is_some_and(|theirs| same(&self.question, theirs))
    }
}

/// The answer to what cannot be answered, where there is one.
pub(crate) fn refuse(wrong: Wrong) -> Option<Vec<u8>> {
    let (id, code) = match wrong {
        Wrong::Noise => return None,
        Wrong::Malformed(id) => (id, Code::Malformed),
        Wrong::Unknown(id) => (id, Code::Unknown),
    };
    let mut head = vec![id[0], id[1], 0x80, 0x80 | code as u8];
    head.resize(HEAD, 0);
    Some(head)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|l| !l.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let message = question("Api.Example.org", A);
        let asked = Question::read(&message).unwrap();
        assert_eq!((asked.name.as_str(), asked.kind), ("api.example.org", A));
        let answer = asked.addresses(&[Ipv4Addr::new(1, 2, 3, 4)], 30);
        assert!(asked.is_answered_by(&answer));
        assert_eq!(
            &answer[..12],
            [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
        );
        assert_eq!(&answer[12..message.len()], &message[12..]);
        assert_eq!(
            &answer[message.len()..],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 1, 2, 3, 4]
        );
        assert_eq!(asked.empty(Code::NoSuchName)[3] & 15, 3);
        let many = asked.addresses(&[Ipv4Addr::LOCALHOST; 99], 1);
        assert!(many.len() <= 512);
        assert!(!asked.is_answered_by(&question("api.example.org", A)));
        assert!(
            !Question::read(&question("other.org", A))
                .unwrap()
                .is_answered_by(&answer)
        );
    }

    #[test]
    fn what_is_passed_on_is_the_question_alone() {
        let plain = question("a.org", 16);
        assert_eq!(Question::read(&plain).unwrap().message(), plain);
        let mut more = plain.clone();
        // It says that two records follow, which are anything but.
        more[9] = 1;
        more[11] = 1;
        more.extend([0xff; 500]);
        let passed = Question::read(&more).unwrap().message();
        let mut expected = plain;
        expected[11] = 1;
        expected.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert_eq!(passed, expected);
        for (kind, is_of_none) in [
            (A, false),
            (16, false),
            (41, true),
            (252, true),
            (255, true),
        ] {
            let read = Question::read(&question("a.org", kind)).unwrap();
            assert_eq!(read.is_of_no_record(), is_of_none, "{kind}");
        }
    }

    #[test]
    fn what_is_no_question_is_told_from_one_that_is_wrong() {
        let good = question("a.b", A);
        for len in 0..good.len() {
            let expected = match len < HEAD {
                true => Wrong::Noise,
                false => Wrong::Malformed([0xab, 0xcd]),
            };
            assert_eq!(Question::read(&good[..len]), Err(expected), "{len}");
        }
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            Question::read(&message)
        };
        assert_eq!(with(2, 0x81), Err(Wrong::Noise));
        assert_eq!(with(2, 0x29), Err(Wrong::Unknown([0xab, 0xcd])));
        assert_eq!(with(5, 2), Err(Wrong::Malformed([0xab, 0xcd])));
        assert_eq!(with(12, 0xc0), Err(Wrong::Malformed([0xab, 0xcd])));
        assert_eq!(with(good.len() - 1, 3), Err(Wrong::Unknown([0xab, 0xcd])));
        assert_eq!(with(13, b'.').unwrap().name, "\u{fffd}.b");
        let mut long = good[..12].to_vec();
        for _ in 0..5 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.extend([0, 0, 1, 0, 1]);
        assert!(Question::read(&long).is_err());
        assert!(refuse(Wrong::Noise).is_none());
        assert_eq!(
            refuse(Wrong::Unknown([1, 2])).unwrap()[..4],
            [1, 2, 0x80, 0x84]
        );
    }
}
