//! Progress on a terminal, and nowhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A turning sign beside a text, until dropped.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn new(draw: bool, text: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(draw)).with_message(text);
        if draw {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// Says something else from now on.
    pub(crate) fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar of bytes.
pub(crate) fn bytes(draw: bool, text: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}")
        .expect("the template is well formed");
    ProgressBar::with_draw_target(Some(length), target(draw))
        .with_style(style)
        .with_message(text.to_owned())
}

fn target(draw: bool) -> ProgressDrawTarget {
    if draw {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}
