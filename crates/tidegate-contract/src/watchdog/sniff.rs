//! What kind of thing some bytes are, where nobody says: the rules that browsers follow (WHATWG, MIME Sniffing), as far as
//! Go's HTTP server knows them, which answers through a watchdog pass.

use http::HeaderValue;

/// Bytes that are looked at.
pub(crate) const LOOKED_AT: usize = 512;

/// Tags that HTML begins with, after white space and before a space or `>`.
const TAGS: [&str; 17] = [
    "<!DOCTYPE HTML",
    "<HTML",
    "<HEAD",
    "<SCRIPT",
    "<IFRAME",
    "<H1",
    "<DIV",
    "<FONT",
    "<TABLE",
    "<A",
    "<STYLE",
    "<TITLE",
    "<B",
    "<BODY",
    "<BR",
    "<P",
    "<!--",
];

/// First bytes.
const HEADS: [(&[u8], &str); 26] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x00\x01\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
];

/// What a RIFF or FORM file's bytes 8 to 12, or 14, say it is.
const CONTAINERS: [(&[u8], &[u8], &str); 4] = [
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"RIFF", b"WAVE", "audio/wave"),
    (b"FORM", b"AIFF", "audio/aiff"),
];

/// The type of what begins with these bytes. Without any there is nothing to tell by.
pub(crate) fn content_type(bytes: &[u8]) -> Option<HeaderValue> {
    (!bytes.is_empty()).then(|| HeaderValue::from_static(kind(bytes)))
}

fn kind(bytes: &[u8]) -> &'static str {
    let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = bytes.trim_ascii_start();
    if TAGS.iter().any(|tag| begins_with_tag(text, tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    for (head, kind) in HEADS {
        if bytes.starts_with(head) {
            return kind;
        }
    }
    for (outer, inner, kind) in CONTAINERS {
        if bytes.starts_with(outer) && bytes.get(8..).is_some_and(|rest| rest.starts_with(inner)) {
            return kind;
        }
    }
    if is_mp4(bytes) {
        return "video/mp4";
    }
    let binary = |b: &u8| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if text.iter().any(binary) {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

fn begins_with_tag(text: &[u8], tag: &str) -> bool {
    let Some((head, rest)) = text.split_at_checked(tag.len()) else {
        return false;
    };
    head.eq_ignore_ascii_case(tag.as_bytes()) && matches!(rest.first(), Some(b' ' | b'>'))
}

/// A box of type `ftyp` that names a brand which begins with `mp4`.
fn is_mp4(bytes: &[u8]) -> bool {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    let size = u32::from_be_bytes(*size) as usize;
    if bytes.len() < 12 || size % 4 != 0 || size > bytes.len() || !rest.starts_with(b"ftyp") {
        return false;
    }
    // The minor version, at 12, is no brand.
    (8..size)
        .step_by(4)
        .filter(|at| *at != 12)
        .any(|at| bytes[at..].starts_with(b"mp4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        for (bytes, want) in [
            (&b"hello"[..], "text/plain; charset=utf-8"),
            (b"{\"a\":1}", "text/plain; charset=utf-8"),
            (b"  \n<html><body>", "text/html; charset=utf-8"),
            (b"<!doctype html>", "text/html; charset=utf-8"),
            (b"<p>hi", "text/html; charset=utf-8"),
            (b"<please", "text/plain; charset=utf-8"),
            (b"<?xml version=\"1.0\"?>", "text/xml; charset=utf-8"),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"PK\x03\x04rest", "application/zip"),
            (b"\x1f\x8b\x08\0", "application/x-gzip"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video/mp4"),
            (b"caf\xc3\xa9", "text/plain; charset=utf-8"),
            (b"\x01\x02\x03", "application/octet-stream"),
        ] {
            assert_eq!(content_type(bytes).unwrap(), want, "{bytes:?}");
        }
        assert_eq!(content_type(b""), None);
    }
}
