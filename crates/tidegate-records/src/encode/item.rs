//! What all items have in common, before what is their own: what they are found by.
//!
//! An item is its length and its bytes. Its head comes first, so that whatever makes an index, or looks for a few items
//! among many, reads no more than that.

use tidegate_core::InvocationId;

use super::{Input, Malformed, put_id, put_number, put_signed};

/// The head of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// Number of the function in the batch's dictionary.
    pub(crate) function: u64,
    /// When the item began to be, in microseconds since the epoch.
    pub(crate) time_us: u64,
    /// The invocation; a line may have none.
    pub(crate) id: Option<InvocationId>,
    /// Number of the outcome; 0 for a line.
    pub(crate) outcome: u8,
    /// The invocation that asked for this one.
    pub(crate) parent: Option<InvocationId>,
    /// The trigger or event.
    pub(crate) name: Option<&'a str>,
}

const HAS_ID: u8 = 1;
const HAS_PARENT: u8 = 2;
const HAS_NAME: u8 = 4;

/// Appends an item: its head, then what `body` appends.
pub(crate) fn put_item(out: &mut Vec<u8>, head: &Head<'_>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // The length is known afterwards. Two bytes hold it: texts in items are bounded far below 64 KiB.
    out.extend_from_slice(&[0; 2]);
    out.push(
        (u8::from(head.id.is_some()) * HAS_ID)
            | (u8::from(head.parent.is_some()) * HAS_PARENT)
            | (u8::from(head.name.is_some()) * HAS_NAME),
    );
    out.push(head.outcome);
    put_number(out, head.function);
    if let Some(id) = head.id {
        put_id(out, id);
        // An id holds the time at which it was made, so what is left of the time is small.
        let made_us = id.unix_ms().saturating_mul(1000);
        put_signed(out, head.time_us.wrapping_sub(made_us) as i64);
    } else {
        put_number(out, head.time_us);
    }
    if let Some(parent) = head.parent {
        put_id(out, parent);
    }
    if let Some(name) = head.name {
        put_number(out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
    }
    body(out);
    let length = u16::try_from(out.len() - start - 2)
        .expect("an item's texts are cut to lengths that fit together into 64 KiB");
    out[start..start + 2].copy_from_slice(&length.to_le_bytes());
}

/// The items in some bytes, each as its head and the rest of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items<'a> {
    input: Input<'a>,
}

impl<'a> Items<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: Input::new(bytes),
        }
    }

    fn take(&mut self) -> Result<(Head<'a>, Input<'a>), Malformed> {
        let length = self.input.u16()?;
        let mut item = Input::new(self.input.bytes(usize::from(length))?);
        let (flags, outcome) = (item.byte()?, item.byte()?);
        let function = item.number()?;
        let (id, time_us) = if flags & HAS_ID == 0 {
            (None, item.number()?)
        } else {
            let id = item.id()?;
            let made_us = id.unix_ms().saturating_mul(1000);
            (Some(id), made_us.wrapping_add(item.signed()? as u64))
        };
        let parent = (flags & HAS_PARENT != 0).then(|| item.id()).transpose()?;
        let name = (flags & HAS_NAME != 0).then(|| item.text()).transpose()?;
        let head = Head {
            function,
            time_us,
            id,
            outcome,
            parent,
            name,
        };
        Ok((head, item))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(Head<'a>, Input<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let item = self.take();
        if item.is_err() {
            // Where the next one begins is not known any more.
            self.input = Input::new(&[]);
        }
        Some(item)
    }
}
