//! What a collector gets, and what becomes of it where the collector is slow, full, wrong or gone.

mod export;
mod receiver;
