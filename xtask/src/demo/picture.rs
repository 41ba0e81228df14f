//! Reading a picture's size, to judge what the functions that make pictures answer.

/// Width and height from the frame header; `None` where `data` is no JPEG that says so.
pub(crate) fn jpeg_size(data: &[u8]) -> Option<(u16, u16)> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, kind, high, low, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        // The start-of-frame markers; 0xc4, 0xc8 and 0xcc in their midst mean other things.
        if (0xc0..=0xcf).contains(&kind) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
            let [_, h1, h2, w1, w2, ..] = *segment else {
                return None;
            };
            return Some((u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2])));
        }
        rest = rest.get(2 + length..)?;
    }
}

/// Width and height of a PNG, which are in its first chunk.
pub(crate) fn png_size(data: &[u8]) -> Option<(u32, u32)> {
    let rest = data.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?))
}

#[cfg(test)]
mod tests {
    use super::{jpeg_size, png_size};

    #[test]
    fn a_png_tells_its_size() {
        let data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\0\xab\x08";
        assert_eq!(png_size(data), Some((256, 171)));
        assert_eq!(png_size(&data[..20]), None);
        assert_eq!(png_size(&[0xff, 0xd8]), None);
    }

    #[test]
    fn the_frame_header_is_found_behind_others() {
        let mut data = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2];
        data.extend([0xff, 0xc4, 0, 3, 9]);
        data.extend([0xff, 0xc2, 0, 8, 8, 0, 171, 1, 0, 3]);
        assert_eq!(jpeg_size(&data), Some((256, 171)));
    }

    #[test]
    fn what_is_no_jpeg_has_no_size() {
        for data in [
            &b"\x89PNG"[..],
            &[0xff, 0xd8],
            &[0xff, 0xd8, 0xff, 0xc0, 0, 0],
            &[0xff, 0xd8, 0xff, 0xc0, 0, 20, 8],
        ] {
            assert_eq!(jpeg_size(data), None);
        }
    }
}
