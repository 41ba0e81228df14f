//! Reading a JPEG's size, to judge what the thumbnail function answers.

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

#[cfg(test)]
mod tests {
    use super::jpeg_size;

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
