//! Users of an image as numbers.

use crate::Error;

/// Largest of the two files in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// User and group of `user`, as an image's configuration has it, out of the image's files.
///
/// As other tools have it: a user that is a number need not be in the file, and has group 0 then.
pub(crate) fn resolve(
    user: &str,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, Error>,
) -> Result<(u32, u32), Error> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let unknown = |file| Error::User {
        user: user.to_owned(),
        file,
    };
    let file = |path| -> Result<String, Error> {
        Ok(read(path)?.map_or_else(String::new, |bytes| {
            String::from_utf8_lossy(&bytes).into_owned()
        }))
    };
    let (id, own_group) = match (name, number(name)) {
        ("", _) => (0, 0),
        (_, Some(id)) => {
            let own = match group {
                Some(_) => None,
                None => line(&file(PASSWD)?, |fields| number(fields[2]) == Some(id)),
            };
            (id, own.map_or(0, |(_, group)| group))
        }
        (name, None) => {
            line(&file(PASSWD)?, |fields| fields[0] == name).ok_or_else(|| unknown(PASSWD))?
        }
    };
    let group = match group {
        None | Some("") => own_group,
        Some(group) => match number(group) {
            Some(id) => id,
            None => file(GROUP)?
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|fields| fields.len() > 2 && fields[0] == group)
                .and_then(|fields| number(fields[2]))
                .ok_or_else(|| unknown(GROUP))?,
        },
    };
    Ok((id, group))
}

/// User and group of the first line that fits.
fn line(passwd: &str, fits: impl Fn(&[&str]) -> bool) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        if fields.len() > 3 && fits(&fields) {
            Some((number(fields[2])?, number(fields[3])?))
        } else {
            None
        }
    })
}

/// What Linux takes: the highest number stands for no user at all.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: &str, expected: Option<(u32, u32)>) {
        let found = resolve(user, |path| {
            Ok(Some(match path {
                PASSWD => {
                    b"root:x:0:0::/root:/bin/sh\napp:x:100:101:,,,:/home/app:/bin/sh\nbroken\n"
                        .to_vec()
                }
                _ => b"root:x:0:\nwww:x:33:app\n".to_vec(),
            }))
        });
        assert_eq!(found.ok(), expected, "{user:?}");
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        check("", Some((0, 0)));
        check("root", Some((0, 0)));
        check("app", Some((100, 101)));
        check("100", Some((100, 101)));
        check("1000", Some((1000, 0)));
        check("1000:100", Some((1000, 100)));
        check("app:www", Some((100, 33)));
        check("app:5", Some((100, 5)));
        check(":www", Some((0, 33)));
        check("nobody", None);
        check("app:nobody", None);
        check("4294967295", None);
        check("-1", None);
        check("broken", None);
        assert_eq!(resolve("7", |_| Ok(None)).unwrap(), (7, 0));
        assert!(matches!(
            resolve("app", |_| Ok(None)),
            Err(Error::User { file: PASSWD, .. })
        ));
    }
}
