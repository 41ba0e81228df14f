//! A line that a function printed, as bytes.

use std::sync::Arc;

use tidegate_core::{FunctionKey, InstanceId};

use super::{Head, Input, Malformed, cut, put_item, put_number, put_text};
use crate::line::{Line, MAX_LINE, Stream};

/// Appends a line that belongs to the function with this number.
pub(crate) fn put_line(out: &mut Vec<u8>, function: u64, line: &Line) {
    let head = Head {
        function,
        time_us: line.time_us,
        id: line.invocation,
        outcome: 0,
        parent: None,
        name: None,
    };
    put_item(out, &head, |out| {
        out.push(line.stream as u8);
        put_number(out, line.instance.0);
        put_text(out, cut(&line.text, MAX_LINE));
    });
}

/// Reads what follows a line's head.
pub(crate) fn decode_line(
    head: &Head<'_>,
    mut body: Input<'_>,
    function: &Arc<FunctionKey>,
) -> Result<Line, Malformed> {
    let stream = body.byte()?;
    Ok(Line {
        function: function.clone(),
        invocation: head.id,
        stream: *Stream::ALL
            .get(usize::from(stream))
            .ok_or(Malformed("stream"))?,
        time_us: head.time_us,
        instance: InstanceId(body.number()?),
        text: Arc::from(body.text()?),
    })
}
