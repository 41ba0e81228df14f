//! What a kept request carries that is not for the function: words between those who accept it and those who make the call.
//!
//! They are headers of the request, under names that nobody else may use: a client's own are dropped when it is accepted,
//! and all are taken off before the code sees it.

use http::header::HeaderValue;
use tidegate_contract::Caller;

use super::accept::Named;

/// What their names begin with. Dialects may have some of their own.
pub const DOOR_HEADERS: &str = "x-tidegate-door-";

/// Who called: scheme, address, and address with port.
const CALLER: &str = "x-tidegate-door-caller";
/// The revision or tag that was asked for.
const REVISION: &str = "x-tidegate-door-revision";
/// There if the revision may be a private one.
const PRIVATE: &str = "x-tidegate-door-private";
/// There if it tells of an end to an address, which happens to be a function's.
const TOLD: &str = "x-tidegate-door-told";

type Headers = Vec<(String, Vec<u8>)>;

/// The words of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) caller: Option<Caller>,
    pub(super) revision: Option<Named>,
    /// Whether somebody named the function by an address: then it must not be private, and what the request says of who
    /// calls is not to be believed.
    pub(super) told: bool,
}

impl Marks {
    /// Puts them among headers, in place of what looks like them.
    pub(super) fn write(&self, headers: &mut Headers) {
        headers.retain(|(name, _)| ![CALLER, REVISION, PRIVATE, TOLD].contains(&name.as_str()));
        let mut put = |name: &str, value: Vec<u8>| headers.push((name.to_owned(), value));
        if let Some(caller) = &self.caller {
            let words = [
                caller.scheme.as_bytes(),
                caller.address.as_bytes(),
                caller.peer.as_bytes(),
            ];
            put(CALLER, words.join(&b' '));
        }
        if let Some(named) = &self.revision {
            put(REVISION, named.word.clone().into_bytes());
            if named.may_be_private {
                put(PRIVATE, b"yes".into());
            }
        }
        if self.told {
            put(TOLD, b"yes".into());
        }
    }

    pub(super) fn read(headers: &[(String, Vec<u8>)]) -> Self {
        let find = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_slice())
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self {
            caller: find(CALLER).and_then(caller),
            revision: find(REVISION).map(|word| Named {
                word: text(word),
                may_be_private: find(PRIVATE).is_some(),
            }),
            told: find(TOLD).is_some(),
        }
    }
}

fn caller(value: &[u8]) -> Option<Caller> {
    let mut words = value.split(|byte| *byte == b' ');
    let scheme = match words.next()? {
        b"https" => "https",
        _ => "http",
    };
    let mut address = || HeaderValue::from_bytes(words.next()?).ok();
    Some(Caller {
        scheme,
        address: address()?,
        peer: address()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nobody_elses_is() {
        let marks = Marks {
            caller: Some(Caller {
                scheme: "https",
                address: HeaderValue::from_static("2001:db8::1"),
                peer: HeaderValue::from_static("[2001:db8::1]:5000"),
            }),
            revision: Some(Named {
                word: "beta".to_owned(),
                may_be_private: false,
            }),
            told: false,
        };
        let forged = (PRIVATE.to_owned(), b"yes".to_vec());
        let own = ("x-own".to_owned(), b"1".to_vec());
        let mut headers = vec![forged, own];
        marks.write(&mut headers);
        let read = Marks::read(&headers);
        let caller = read.caller.expect("a caller");
        assert_eq!(caller.scheme, "https");
        assert_eq!(caller.address, "2001:db8::1");
        assert_eq!(caller.peer, "[2001:db8::1]:5000");
        assert_eq!(read.revision, marks.revision);
        assert!(!read.told);
        assert_eq!(headers.len(), 3);
        assert!(headers[0].0 == "x-own");
        assert!(
            headers[1..]
                .iter()
                .all(|(name, _)| name.starts_with(DOOR_HEADERS))
        );
    }
}
